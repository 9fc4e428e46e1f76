//! A browser that nobody here wrote, through `holdline run`: Chromium with a page that Holdline itself hands it.

use serde_json::Value;

use crate::clients::{Front, Way, each_way};
use crate::support::backend::{After, Backend, raw};
use crate::support::chat::chat;

const PAGE: &str = include_str!("../clients/page.html");

/// The page from one fleet, its sessions on another, and a third that has one seat.
async fn fleets() -> String {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PAGE}",
        PAGE.len()
    );
    // As long as the test's process: a server has its answer for good.
    let site = raw(answer.leak().as_bytes(), After::Close).await;
    let [a, b] = [chat().await, chat().await];
    let full = Backend::start().await.address;
    format!(
        "routes: [ {{ path: /, fleet: site }}, {{ path: /ws, fleet: chat }}, {{ path: /events, fleet: chat }}, {{ path: /say, fleet: chat }}, {{ path: /full, fleet: full }} ]\n\
         fleets:\n  \
           chat:\n    backends:\n      static: [ {{ id: a, address: \"{a}\" }}, {{ id: b, address: \"{b}\" }} ]\n    \
             capacity: 100\n    affinity: {{ by: cookie }}\n  \
           full:\n    backends:\n      static: [ {{ address: \"{full}\" }} ]\n    \
             capacity: 1\n    queue: {{ length: 0 }}\n    refuse: {{ with: close }}\n  \
           site:\n    backends:\n      static: [ {{ address: \"{site}\" }} ]\n    capacity: 100\n"
    )
}

/// The page's own words tell what it saw; see `page.html`.
async fn a_page_talks_is_moved_and_comes_back(way: Way) {
    let front = Front::start(way, &fleets().await);
    let holdline = &front.holdline;
    let all = |is_so: fn(&Value) -> bool| {
        move |status: &Value| {
            status["fleets"].as_array().unwrap().iter().all(|f| f["backends"].as_array().unwrap().iter().all(is_so))
        }
    };
    holdline.until_status("all are ready", all(|b| b["phase"] == "ready")).await;

    let certificate = front.certificates.as_ref().map(|c| c.path("tls.crt").display().to_string());
    let args: Vec<String> = std::iter::once(front.url("http", "/")).chain(certificate).collect();
    let mut browser = front.node("clients/browser.mjs", &args.iter().map(String::as_str).collect::<Vec<_>>());
    browser.expect("refused with 1013").await;
    browser.expect("the refused stream tries again").await;
    browser.expect("all was heard by both, round 1").await;

    // The socket, the stream and the requests of one browser are at one backend, by its cookie.
    let fleet = holdline.fleet().await;
    assert_eq!(fleet["name"], "chat");
    let holder = fleet["backends"].as_array().unwrap().iter().find(|b| b["sessions"] == 2);
    let holder = holder.unwrap_or_else(|| panic!("{fleet:#}"))["id"].as_str().unwrap().to_owned();
    let drained = holdline.cli(&["drain", &holder, "--fleet", "chat", "--over", "1s", "--wait"]).await;
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    browser.expect("closed with 1012, clean").await;
    browser.expect("all was heard by both, round 2").await;
    browser.succeed().await;

    holdline.until_status("every seat free", all(|b| b["sessions"] == 0)).await;
    let ended = async |cause: &str| holdline.metric("holdline_sessions_ended_total", &format!("cause=\"{cause}\"")).await;
    assert_eq!((ended("drained").await, ended("protocol_error").await, ended("backend_lost").await), (2.0, 0.0, 0.0));
}

each_way!(a_page_talks_is_moved_and_comes_back: a_page_in_chromium_talks_is_moved_and_comes_back, a_page_in_chromium_talks_is_moved_and_comes_back_over_tls);
