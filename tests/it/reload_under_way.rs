//! A reload in the middle of something: a rebalance, waiting clients, heartbeats with a token, the log.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::reload::{fleet, reloads, sessions};
use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;
use crate::support::{TestDir, soon};

/// The fleet of this name in a status.
fn of<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["fleets"].as_array().unwrap().iter().find(|f| f["name"] == name)
}

#[tokio::test]
async fn a_rebalance_under_way_goes_on_at_its_pace_over_a_reload() {
    let (a, b) = (Backend::start().await, Backend::start().await);
    let config = |capacity: u32, deadline: &str| {
        format!(
            "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }}, {{ id: b, address: \"{}\" }} ]\n    \
             capacity: {capacity}\n    drain: {{ deadline: {deadline} }}\n",
            a.address, b.address
        )
    };
    let holdline = Holdline::start(&config(100, "5m"));
    holdline.until_ready().await;
    assert!(holdline.cli(&["drain", "a"]).await.status.success());
    let mut clients = JoinSet::new();
    for mut socket in sessions(&holdline, "/", 40).await {
        clients.spawn(async move { client::close_code(&mut socket).await });
    }
    assert!(holdline.cli(&["undrain", "a"]).await.status.success());
    assert!(holdline.cli(&["rebalance", "chat", "--over", "6s"]).await.status.success());
    let before = holdline.until("it has begun", |f| f["rebalance"]["remaining"].as_u64().is_some_and(|n| n < 20)).await;

    holdline.configure(&config(90, "3s"));
    holdline.signal("HUP");
    reloads(&holdline, "ok", 1.0).await;
    let after = holdline.until("the capacity is another", |f| f["capacity"] == 180).await;
    let due = |fleet: &Value| {
        let of = |key: &str| fleet["rebalance"][key].as_u64().unwrap_or_else(|| panic!("no rebalance: {fleet:#}"));
        // Each of two figures is cut to whole milliseconds.
        let seconds = |left: &str| (of("elapsed_ms") + of(left) + 500) / 1_000;
        [of("total"), seconds("due_in_ms"), seconds("deadline_in_ms")]
    };
    assert_eq!((due(&before), due(&after)), ([20, 6, 300], [20, 6, 300]));

    for _ in 0..20 {
        assert_eq!(clients.join_next().await.unwrap().unwrap(), Some(1012));
    }
    soon("it ends", async {
        while holdline.events("rebalance_ended").await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(holdline.events("rebalance_ended").await[0]["message"].as_str().unwrap().contains("the fleet is level"));
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"rebalanced\"").await, 20.0);
    assert_eq!((a.sessions(), b.sessions(), clients.len()), (0, 20, 20), "nobody else was told");
}

#[tokio::test]
async fn who_waits_for_a_fleet_that_goes_is_refused_and_who_waits_for_another_stays() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let chat = fleet("chat", one.address, "capacity: 1\n    queue: { length: 10, timeout: 5m }");
    let holdline = Holdline::start(&format!(
        "routes: [ {{ path: /feed, fleet: feed }}, {{ path: /, fleet: chat }} ]\nfleets:\n{chat}{}",
        fleet("feed", two.address, "capacity: 1\n    queue: { length: 10, timeout: 5m }\n    drain: { rate_max: 0.01/s }"),
    ));
    holdline
        .until_status("both are ready", |s| ["chat", "feed"].iter().all(|f| of(s, f).unwrap()["backends"][0]["phase"] == "ready"))
        .await;
    let [held, mut kept] = [sessions(&holdline, "/", 1).await.remove(0), sessions(&holdline, "/feed", 1).await.remove(0)];
    let address = holdline.address;
    let stays = tokio::spawn(async move { client::websocket(address, "/").await });
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        waiting.spawn(async move { client::websocket(address, "/feed").await });
    }
    holdline.until_status("they wait", |s| of(s, "feed").unwrap()["queued"] == 3 && of(s, "chat").unwrap()["queued"] == 1).await;

    holdline.configure(&format!("fleets:\n{chat}"));
    holdline.signal("HUP");
    for _ in 0..3 {
        let error = soon("a refusal", waiting.join_next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(client::refusal(&error), (503, "draining".to_owned()));
    }
    assert_eq!(holdline.metric("holdline_refused_total", "cause=\"draining\"").await, 3.0);
    let status = holdline.get("/v1/status").await;
    let feed = of(&status, "feed").expect("its session is still there");
    assert_eq!((&feed["leaving"], &feed["queued"], &feed["refused_total"]["draining"]), (&json!(true), &json!(0), &json!(3)));
    client::echo(&mut kept, "not told yet").await;

    let chat = of(&status, "chat").unwrap();
    assert_eq!((&chat["leaving"], &chat["queued"]), (&json!(false), &json!(1)));
    client::leave(held).await;
    let mut admitted = soon("a seat", stays).await.unwrap().unwrap();
    client::echo(&mut admitted, "I waited").await;
}

#[tokio::test]
async fn a_heartbeat_token_that_changes_is_asked_for_from_then_on_and_a_fleet_that_goes_keeps_its_own() {
    let (one, two, dir) = (Backend::start().await, Backend::start().await, TestDir::new());
    let token = |name: &str, letter: &str| {
        std::fs::write(dir.path().join(name), letter.repeat(40)).unwrap();
        dir.path().join(name)
    };
    let pushed = |name: &str, address, file: &std::path::Path| {
        let rest =
            "capacity: 5\n    drain: { rate_max: 0.01/s }\n    heartbeat: { probe: push, suspect_after: 30m, dead_after: 1h";
        fleet(name, address, &format!("{rest}, token_file: {file:?} }}"))
    };
    let routes = "routes: [ { path: /feed, fleet: feed }, { path: /, fleet: chat } ]\n";
    let chat = pushed("chat", one.address, &token("chat", "a"));
    let holdline = Holdline::start(&format!("{routes}fleets:\n{chat}{}", pushed("feed", two.address, &token("feed", "f"))));
    let mut seq = 0;
    let mut push = async |fleet: &str, letter: &str| {
        seq += 1;
        let url = format!("http://{}/v1/fleets/{fleet}/heartbeats", holdline.admin);
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json"]);
        curl.args(["-H", &format!("Authorization: Bearer {}", letter.repeat(40))]);
        curl.args(["-d", &json!({ "id": format!("{fleet}-a"), "seq": seq, "state": "ready" }).to_string(), &url]);
        String::from_utf8(curl.output().await.unwrap().stdout).unwrap()
    };
    assert_eq!([push("chat", "a").await, push("chat", "b").await, push("feed", "f").await], ["204", "401", "204"]);
    let mut kept = sessions(&holdline, "/feed", 1).await;

    // The file that is named has another token; the configuration itself says what it said.
    token("chat", "b");
    holdline.signal("HUP");
    reloads(&holdline, "ok", 1.0).await;
    assert_eq!([push("chat", "a").await, push("chat", "b").await, push("feed", "f").await], ["401", "204", "204"]);

    holdline.configure(&format!("fleets:\n{chat}"));
    holdline.signal("HUP");
    reloads(&holdline, "ok", 2.0).await;
    holdline.until_status("it is leaving", |s| of(s, "feed").is_some_and(|f| f["leaving"] == true)).await;
    assert_eq!([push("feed", "b").await, push("feed", "f").await, push("chat", "b").await], ["401", "204", "204"]);
    client::echo(&mut kept[0], "still here").await;
}

#[tokio::test]
async fn the_level_of_the_log_changes_by_a_reload() {
    let one = Backend::start().await;
    let config =
        |level: &str| format!("log: {{ format: json, level: {level} }}\nfleets:\n{}", fleet("chat", one.address, "capacity: 10"));
    let holdline = Holdline::start(&config("info"));
    holdline.until_ready().await;
    for (n, (level, is_logged)) in [("warn", false), ("info", true), ("error", false), ("debug", true)].into_iter().enumerate() {
        holdline.configure(&config(level));
        holdline.signal("HUP");
        reloads(&holdline, "ok", n as f64 + 1.0).await;
        // An event of level info. What is in the log after it is there at every level: a line of the access log.
        assert!(holdline.cli(&["drain", "chat-a"]).await.status.success());
        assert!(holdline.cli(&["undrain", "chat-a"]).await.status.success());
        client::leave(sessions(&holdline, "/", 1).await.remove(0)).await;
        let lines = holdline.log_lines_until("\"target\":\"access\"");
        assert_eq!(lines.iter().any(|line| line.contains("drain_started")), is_logged, "{level}: {lines:#?}");
    }
    assert_eq!(holdline.events("drain_started").await.len(), 4, "the event log has no level");
}
