//! socket.io 4 with its default transports: nobody is ever told that its session is unknown.

use super::page::Desk;
use crate::clients::Script;

const PORTS: &[&str] = &["8080", "9900", "9001", "9002", "9003", "9004"];

#[tokio::test]
async fn the_page_works_as_it_says() {
    Desk::new("docs/recipes/socket.io", 18_000, PORTS).follow("README.md").await;
}

/// Five hundred clients that stay, in two processes, and eight that come and go, polling first each time, while a server is added and one is
/// drained. `wrong` in what a script prints fails the test: an upgrade or a poll that was refused, an end that is no drain's.
#[tokio::test]
async fn five_hundred_clients_find_their_session_while_a_server_comes_and_one_goes() {
    let mut desk = Desk::new("docs/recipes/socket.io", 18_020, PORTS);
    let servers =
        ["9001", "9002", "9003", "9004"].map(|port| desk.mapped(&format!("PORT={port} node server.mjs > {port}.log 2>&1 &\n")));
    desk.types(&servers.concat()).await;
    desk.types("holdline run --config holdline.yaml &").await;

    let url = format!("http://127.0.0.1:{}", desk.port("8080"));
    let start = || Script::start("node", "clients/socketio_crowd.mjs", &[&url, "250", "4"], None);
    let mut crowd = [start(), start()];
    for script in &mut crowd {
        script.expect("all connected").await;
    }
    all_hear(&desk, &mut crowd, "first", ["9001", "9002", "9003"]).await;

    let config = std::fs::read_to_string(desk.path("holdline.yaml")).unwrap();
    let last = config.lines().find(|line| line.contains("id: chat-3")).unwrap();
    let port = |of_page: &str| desk.port(of_page).to_string();
    let added = last.replace("chat-3", "chat-4").replace(&port("9003"), &port("9004"));
    std::fs::write(desk.path("next.yaml"), config.replace(last, &format!("{last}\n{added}"))).unwrap();
    std::fs::rename(desk.path("next.yaml"), desk.path("holdline.yaml")).unwrap();
    desk.until(|fleet| {
        fleet["backends"].as_array().unwrap().iter().any(|b| b["id"] == "chat-4" && b["reported"].as_u64() > Some(0))
    })
    .await;
    all_hear(&desk, &mut crowd, "added", ["9001", "9002", "9003"]).await;

    let drained = desk.types("holdline drain chat-1 --over 5s --wait").await;
    assert!(drained.contains("drain of chat-1 in chat: done"), "{drained}");
    // Who was moved is at one of the others, and the one that was added is the emptiest.
    all_hear(&desk, &mut crowd, "moved", ["9002", "9003", "9004"]).await;

    for script in crowd {
        script.succeed().await;
    }
    for server in ["9001", "9002", "9003", "9004"].map(|port| desk.port(port)) {
        let log = std::fs::read_to_string(desk.path(&format!("{server}.log"))).unwrap();
        assert_eq!(log, format!("listens on {server}\n"), "it refused somebody");
    }
}

/// Each of the crowd says `word` and has its answer, from these `servers` alone and from each of them.
async fn all_hear(desk: &Desk, crowd: &mut [Script; 2], word: &str, servers: [&str; 3]) {
    let by = servers.map(|s| desk.port(s).to_string()).join(",");
    for script in &mut *crowd {
        script.say(word).await;
    }
    for script in crowd {
        script.expect(&format!("all heard {word}, 250 connected, by {by}")).await;
    }
}
