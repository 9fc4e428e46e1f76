//! The status page in a browser that nobody here wrote: Chromium, driven by `tests/page/status.mjs`.

use serde_json::Value;

use crate::clients::Script;
use crate::support::backend::Backend;
use crate::support::chat::chat;
use crate::support::holdline::Holdline;

#[tokio::test]
async fn the_page_is_right_and_live_and_shows_the_plan_before_the_deed() {
    let servers = [chat().await, chat().await, chat().await];
    let backends = ["a", "b", "c"].iter().zip(&servers).map(|(id, at)| format!("{{ id: {id}, address: \"{at}\" }}"));
    let chat = format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {} ]\n    capacity: 40\n    queue: {{ length: 100, timeout: 5m }}\n",
        backends.collect::<Vec<_>>().join(", ")
    );
    let routes = "routes: [ { path: /feed, fleet: feed }, { path: /, fleet: chat } ]\n";
    let feed = format!(
        "  feed:\n    backends:\n      static: [ {{ id: feed-a, address: \"{}\" }} ]\n    capacity: 20\n    drain: {{ deadline: 1h, rate_max: 0.1/s }}\n",
        Backend::start().await.address
    );
    let holdline = Holdline::start(&format!("{routes}{chat}{feed}"));
    let fleet: Value = holdline.until_ready().await;
    assert_eq!(fleet["ended_total"]["drained"], 0);
    let admin = holdline.admin;

    let urls = [format!("http://{}", holdline.address), format!("http://{admin}")];
    let mut browser = Script::start("node", "page/status.mjs", &[&urls[0], &urls[1]], None);
    browser.expect("rebalanced").await;
    browser.expect("take feed away").await;
    holdline.configure(&chat);
    holdline.signal("HUP");
    browser.expect("feed is gone").await;
    holdline.signal("STOP");
    browser.expect("lost by its silence").await;
    holdline.signal("CONT");
    browser.expect("found again").await;
    drop(holdline);
    browser.expect("lost by its end").await;
    let _again = Holdline::start(&format!("admin: {{ address: \"{admin}\" }}\n{chat}"));
    browser.succeed().await;
}
