//! socket.io 4 with its default transports: nobody is ever told that its session is unknown.

use super::page::Desk;
use crate::clients::Script;

#[tokio::test]
async fn the_page_works_as_it_says() {
    Desk::new("docs/recipes/socket.io").follow("README.md").await;
}

/// Five hundred clients that stay, in two processes, and eight that come and go, polling first each time, while a server is added and one is
/// drained. `wrong` in what a script prints fails the test: an upgrade or a poll that was refused, an end that is no drain's.
#[tokio::test]
async fn five_hundred_clients_find_their_session_while_a_server_comes_and_one_goes() {
    let mut desk = Desk::new("docs/recipes/socket.io");
    let servers = ["9001", "9002", "9003", "9004"].map(|port| format!("PORT={port} node server.mjs > {port}.log 2>&1 &\n"));
    desk.types(&servers.concat()).await;
    desk.types("holdline run --config holdline.yaml &").await;

    let start = || Script::start("node", "clients/socketio_crowd.mjs", &["http://127.0.0.1:8080", "250", "4"], None);
    let mut crowd = [start(), start()];
    for script in &mut crowd {
        script.expect("all connected").await;
    }
    all_hear(&mut crowd, "first", ["9001", "9002", "9003"]).await;

    let config = std::fs::read_to_string(desk.path("holdline.yaml")).unwrap();
    let last = config.lines().find(|line| line.contains("id: chat-3")).unwrap();
    let added = last.replace("chat-3", "chat-4").replace("9003", "9004");
    std::fs::write(desk.path("next.yaml"), config.replace(last, &format!("{last}\n{added}"))).unwrap();
    std::fs::rename(desk.path("next.yaml"), desk.path("holdline.yaml")).unwrap();
    desk.until(|fleet| {
        fleet["backends"].as_array().unwrap().iter().any(|b| b["id"] == "chat-4" && b["reported"].as_u64() > Some(0))
    })
    .await;
    all_hear(&mut crowd, "added", ["9001", "9002", "9003"]).await;

    let drained = desk.types("holdline drain chat-1 --over 5s --wait").await;
    assert!(drained.contains("drain of chat-1 in chat: done"), "{drained}");
    // Who was moved is at one of the others, and the one that was added is the emptiest.
    all_hear(&mut crowd, "moved", ["9002", "9003", "9004"]).await;

    for script in crowd {
        script.succeed().await;
    }
    for server in ["9001", "9002", "9003", "9004"] {
        let log = std::fs::read_to_string(desk.path(&format!("{server}.log"))).unwrap();
        assert_eq!(log, format!("listens on {server}\n"), "it refused somebody");
    }
}

/// Each of the crowd says `word` and has its answer, from these `servers` alone and from each of them.
async fn all_hear(crowd: &mut [Script; 2], word: &str, servers: [&str; 3]) {
    let by = servers.join(",");
    for script in &mut *crowd {
        script.say(word).await;
    }
    for script in crowd {
        script.expect(&format!("all heard {word}, 250 connected, by {by}")).await;
    }
}
