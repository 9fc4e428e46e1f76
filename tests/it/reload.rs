//! The configuration is reloaded: what stays keeps its sessions, what went is drained, what is broken changes nothing.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::{self, Socket};
use crate::support::holdline::{Holdline, run_to_failure};
use crate::support::soon;

pub(crate) fn fleet(name: &str, address: SocketAddr, rest: &str) -> String {
    format!("  {name}:\n    backends: {{ static: [ {{ id: {name}-a, address: \"{address}\" }} ] }}\n    {rest}\n")
}

fn chat(address: SocketAddr, rest: &str) -> String {
    format!("fleets:\n{}", fleet("chat", address, rest))
}

/// Waits until so many reloads had this result, and no more.
pub(crate) async fn reloads(holdline: &Holdline, result: &str, count: f64) {
    soon(&format!("{count} reloads are {result}"), async {
        while holdline.metric("holdline_config_reloads_total", &format!("\"{result}\"")).await < count {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(holdline.metric("holdline_config_reloads_total", &format!("\"{result}\"")).await, count);
}

async fn fleets(holdline: &Holdline) -> Vec<String> {
    let status = holdline.get("/v1/status").await;
    status["fleets"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn sessions(holdline: &Holdline, path: &str, count: usize) -> Vec<Socket> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(client::websocket(holdline.address, path).await.unwrap());
    }
    held
}

async fn all_echo(held: &mut [Socket]) {
    for socket in held {
        client::echo(socket, "still here").await;
    }
}

fn ready(status: &Value, fleet: &str) -> bool {
    let fleets = status["fleets"].as_array().unwrap();
    fleets.iter().filter(|f| f["name"] == fleet).flat_map(|f| f["backends"].as_array().unwrap()).any(|b| b["phase"] == "ready")
}

#[tokio::test]
async fn sessions_survive_other_routes_another_capacity_and_another_fleet() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let holdline = Holdline::start(&chat(one.address, "capacity: 10"));
    holdline.until_ready().await;
    let mut held = sessions(&holdline, "/", 3).await;

    holdline.configure(&format!(
        "routes: [ {{ path: /feed, fleet: feed }}, {{ path: /, fleet: chat }} ]\nfleets:\n{}{}",
        fleet("chat", one.address, "capacity: 3\n    queue: { length: 0 }"),
        fleet("feed", two.address, "capacity: 5"),
    ));
    holdline.signal("HUP");
    holdline.until_status("the new fleet is ready", |s| ready(s, "feed")).await;
    assert_eq!(fleets(&holdline).await, ["chat", "feed"]);
    let mut feed = client::websocket(holdline.address, "/feed").await.unwrap();
    client::echo(&mut feed, "hello").await;
    assert_eq!((one.sessions(), two.sessions()), (3, 1));

    // Nobody is closed for the lower capacity, and nobody is added.
    let error = client::websocket(holdline.address, "/").await.unwrap_err();
    assert_eq!(client::refusal(&error), (503, "capacity".to_owned()));
    all_echo(&mut held).await;
    assert_eq!(holdline.events("config_reloaded").await.len(), 1);
}

#[tokio::test]
async fn sessions_of_a_fleet_that_went_get_1012_and_the_fleet_disappears_with_its_series() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let routes = "routes: [ { path: /feed, fleet: feed }, { path: /, fleet: chat } ]\n";
    let both = format!(
        "{routes}fleets:\n{}{}",
        fleet("chat", one.address, "capacity: 10"),
        fleet("feed", two.address, "capacity: 10\n    drain: { deadline: 20s }"),
    );
    let holdline = Holdline::start(&both);
    holdline.until_status("both are ready", |s| ready(s, "chat") && ready(s, "feed")).await;
    let mut stays = sessions(&holdline, "/", 2).await;
    let mut goes = sessions(&holdline, "/feed", 2).await;

    holdline.configure(&chat(one.address, "capacity: 10"));
    holdline
        .until_status("it is draining", |s| {
            s["fleets"].as_array().unwrap().iter().all(|f| f["name"] != "feed" || f["backends"][0]["phase"] != "ready")
        })
        .await;
    // Its route is gone at once: the only fleet that is left has every path.
    let mut elsewhere = client::websocket(holdline.address, "/feed").await.unwrap();
    client::echo(&mut elsewhere, "hello").await;
    assert_eq!(two.sessions_total(), 2);
    for socket in &mut goes {
        assert_eq!(client::close_code(socket).await, Some(1012));
    }
    holdline.until_status("it is gone", |s| s["fleets"].as_array().unwrap().len() == 1).await;
    soon("its series are gone", async {
        while holdline.metric("holdline_sessions_ended_total", "fleet=\"feed\"").await > 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let (_, text) = client::http_text("GET", holdline.admin, "/metrics", None).await;
    assert!(!text.contains("fleet=\"feed\""), "{text}");
    all_echo(&mut stays).await;
}

#[tokio::test]
async fn row_26_a_broken_file_on_reload_changes_nothing_and_is_explained() {
    let one = Backend::start().await;
    let good = chat(one.address, "capacity: 10");
    let holdline = Holdline::start(&good);
    holdline.until_ready().await;
    let mut held = sessions(&holdline, "/", 2).await;
    let before = holdline.get("/v1/status").await["fleets"][0]["capacity"].clone();
    for (n, (rest, told)) in [
        ("capacity: 10\n    capcity: 9", "did you mean `capacity`?"),
        ("capacity: 10\n    queue: { timeout: 10 }", "10"),
        ("capacity: 10\n    scale: { min: 9, max: 3 }", "lower min or raise max"),
        ("capacity: 10\n    drain: [", "holdline.yaml:"),
    ]
    .into_iter()
    .enumerate()
    {
        holdline.configure(&chat(one.address, rest));
        reloads(&holdline, "failed", n as f64 + 1.0).await;
        let events = holdline.events("config_rejected").await;
        let text = events[n]["message"].as_str().unwrap();
        let line = text.split("holdline.yaml:").nth(1).and_then(|t| t.split(':').next()).map(str::parse::<u32>);
        assert!(text.contains(told) && matches!(line, Some(Ok(1..))), "{text}");
        assert_eq!(holdline.log_line("nothing changed")["level"], "WARN");
    }
    std::fs::remove_file(holdline.config_file()).unwrap();
    holdline.signal("HUP");
    reloads(&holdline, "failed", 5.0).await;
    let events = holdline.events("config_rejected").await;
    assert!(events[4]["message"].as_str().unwrap().contains("cannot read"), "{events:?}");

    assert_eq!(holdline.get("/v1/status").await["fleets"][0]["capacity"], before);
    all_echo(&mut held).await;
    // The file comes back, and the next one is obeyed.
    holdline.configure(&chat(one.address, "capacity: 11"));
    holdline.until("the capacity is 11", |f| f["capacity"] == 11).await;
}

#[test]
fn row_26_a_file_that_cannot_be_meant_is_named_at_the_start() {
    let at = |rest: &str| {
        run_to_failure(&format!("fleets:\n  chat:\n    backends: {{ static: [ {{ address: \"127.0.0.1:9\" }} ] }}\n    {rest}\n"))
    };
    for (rest, told) in [
        ("capacity: 10\n    capcity: 9", "did you mean `capacity`?"),
        ("capacity: 10\n    queue: { timeout: 10 }", "10"),
        ("capacity: 10\n    scale: { min: 9, max: 3 }", "lower min or raise max"),
    ] {
        let (status, text) = at(rest);
        assert!(status == 2 && text.contains(told) && text.contains("holdline.yaml:"), "{status} {text}");
    }
    let missing =
        std::process::Command::new(crate::support::holdline::BINARY).args(["run", "--config", "/nowhere.yaml"]).output().unwrap();
    let text = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.status.code() == Some(2) && text.contains("/nowhere.yaml") && text.contains("--config FILE"), "{text}");
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_as_a_whole() {
    let one = Backend::start().await;
    let holdline = Holdline::start(&chat(one.address, "capacity: 10"));
    holdline.until_ready().await;
    holdline.configure(&format!("threads: 7\n{}", chat(one.address, "capacity: 99")));
    reloads(&holdline, "failed", 1.0).await;
    let text = holdline.events("config_rejected").await[0]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("threads is 7 and was auto") && text.contains("restart to apply it"), "{text}");
    assert_eq!(holdline.fleet().await["capacity"], 10, "nothing is half applied");
}

#[tokio::test]
async fn fifty_reloads_leave_every_session_and_nothing_else() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let base = fleet("chat", one.address, "capacity: 500");
    let holdline = Holdline::start(&format!("fleets:\n{base}"));
    holdline.until_ready().await;
    let mut held = sessions(&holdline, "/", 200).await;
    let list = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", holdline.pid())).unwrap();
    let descriptors_now = || list("fd").count();
    // The runtime's pool for file reads grows and shrinks by itself.
    let is_pooled =
        |thread: &std::path::Path| std::fs::read_to_string(thread.join("comm")).is_ok_and(|n| n.trim_end() == "tokio-rt-worker");
    let threads_now = || list("task").filter(|thread| !is_pooled(&thread.as_ref().unwrap().path())).count();
    let reload = async |n: usize| {
        // A fleet comes and goes, and the capacity changes.
        let text = if n % 2 == 1 {
            format!(
                "routes: [ {{ path: /feed, fleet: feed }}, {{ path: /, fleet: chat }} ]\nfleets:\n{}{}",
                fleet("chat", one.address, &format!("capacity: {}", 400 + n)),
                fleet("feed", two.address, "capacity: 5"),
            )
        } else {
            format!("fleets:\n{base}")
        };
        holdline.configure(&text);
        holdline.signal("HUP");
        reloads(&holdline, "ok", n as f64).await;
    };
    let settled = async || {
        holdline.until_status("one fleet is left", |s| s["fleets"].as_array().unwrap().len() == 1).await;
        let (_, text) = client::http_text("GET", holdline.admin, "/metrics", None).await;
        (threads_now(), text.lines().filter(|l| l.starts_with("holdline_")).count())
    };
    reload(1).await;
    reload(2).await;
    let before = settled().await;
    let descriptors = descriptors_now();
    for n in 3..=50 {
        reload(n).await;
    }
    assert_eq!(settled().await, before, "threads and series");
    soon("no descriptor is left over", async {
        while descriptors_now() > descriptors {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(one.sessions(), 200);
    assert_eq!(one.sessions_total(), 200, "nobody came again");
    all_echo(&mut held).await;
}

#[tokio::test]
async fn an_address_that_is_added_accepts_and_one_that_is_removed_does_not() {
    let one = Backend::start().await;
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (first, second) = (free(), free());
    let listening = |addresses: &[SocketAddr]| {
        let list: Vec<_> = addresses.iter().map(|a| format!("{{ address: \"{a}\" }}")).collect();
        format!("listeners: [ {} ]\n{}", list.join(", "), chat(one.address, "capacity: 10"))
    };
    let holdline = Holdline::start(&listening(&[first]));
    holdline.until_ready().await;
    let mut old = client::websocket(first, "/").await.unwrap();

    holdline.configure(&listening(&[first, second]));
    reloads(&holdline, "ok", 1.0).await;
    let mut new = client::websocket(second, "/").await.unwrap();
    client::echo(&mut new, "by the second").await;
    let mut again = client::websocket(first, "/").await.unwrap();
    client::echo(&mut again, "by the first").await;

    holdline.configure(&listening(&[second]));
    reloads(&holdline, "ok", 2.0).await;
    soon("the first is closed", async {
        while tokio::net::TcpStream::connect(first).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    client::echo(&mut old, "I came by the first").await;
    client::echo(&mut new, "by the second").await;
    let mut third = client::websocket(second, "/").await.unwrap();
    client::echo(&mut third, "by the second").await;

    // One that cannot be bound refuses the whole.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    holdline.configure(&listening(&[second, taken.local_addr().unwrap()]));
    reloads(&holdline, "failed", 1.0).await;
    assert!(holdline.events("config_rejected").await[0]["message"].as_str().unwrap().contains("in use"));
}

#[tokio::test]
async fn a_reload_that_changes_nothing_is_unchanged() {
    let one = Backend::start().await;
    let holdline = Holdline::start(&chat(one.address, "capacity: 10"));
    holdline.until_ready().await;
    holdline.signal("HUP");
    reloads(&holdline, "unchanged", 1.0).await;
    assert!(holdline.events("config_reloaded").await.is_empty());
}

#[tokio::test]
async fn a_static_backend_that_is_removed_is_drained_and_one_that_moves_keeps_its_sessions() {
    let (one, two, three) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let with = |list: &[(&str, SocketAddr)]| {
        let list: Vec<_> = list.iter().map(|(id, a)| format!("{{ id: {id}, address: \"{a}\" }}")).collect();
        format!("fleets:\n  chat:\n    backends: {{ static: [ {} ] }}\n    capacity: 10\n", list.join(", "))
    };
    let holdline = Holdline::start(&with(&[("a", one.address), ("b", two.address)]));
    holdline.until_ready().await;
    let held = sessions(&holdline, "/", 4).await;
    assert_eq!((one.sessions(), two.sessions()), (2, 2));

    holdline.configure(&with(&[("a", three.address)]));
    holdline.until("b is gone", |f| f["backends"].as_array().unwrap().len() == 1).await;
    assert_eq!((one.sessions(), two.sessions()), (2, 0), "who was at the old address of `a` stays there");
    let mut new = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut new, "hello").await;
    assert_eq!(three.sessions(), 1);
    // Who was where is not known: two were told to go, and the other two were not.
    let mut ends = tokio::task::JoinSet::new();
    for mut socket in held {
        ends.spawn(async move { client::close_code(&mut socket).await });
    }
    for _ in 0..2 {
        assert_eq!(ends.join_next().await.unwrap().unwrap(), Some(1012));
    }
    assert_eq!((one.sessions(), ends.len()), (2, 2));
}

#[tokio::test]
async fn while_it_stops_holdline_takes_no_other_configuration_and_is_not_ended_by_sighup() {
    let one = Backend::start().await;
    let holdline = Holdline::start(&format!("shutdown: {{ deadline: 1h }}\n{}", chat(one.address, "capacity: 10")));
    holdline.until_ready().await;
    // It leaves only when it is cut.
    let socket = client::websocket(holdline.address, "/").await.unwrap();
    holdline.signal("TERM");
    holdline.log_line("sessions are closed within");
    holdline.signal("HUP");
    holdline.log_line("does not reload its configuration");
    drop(socket);
    assert_eq!(holdline.wait().await.code(), Some(0));
}
