//! Holdline as a part of another program, as `holdline demo` runs it: `runtime::run` on a thread of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use holdline::clock::Clock;
use holdline::config;
use holdline::runtime::{self, Hooks, RunError, Running, Stop};
use holdline_core::cause::Phase;
use tokio::sync::oneshot;

use crate::support::backend::Backend;
use crate::support::holdline::BINARY;
use crate::support::network;
use crate::support::witness::Witness;
use crate::support::{TestDir, client, soon};

struct Run {
    running: Running,
    stop: Stop,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Run {
    async fn start(fleets: &str) -> Self {
        let text = format!("listeners: [ {{ address: \"127.0.0.1:0\" }} ]\nadmin: {{ address: \"127.0.0.1:0\" }}\n{fleets}");
        let config = config::parse(&text, "test", Path::new("/")).unwrap();
        let (tell, ready) = oneshot::channel();
        let stop = Stop::default();
        let hooks = Hooks {
            ready: Box::new(move |running| drop(tell.send(running))),
            stop: stop.clone(),
            signals: false,
            executable: BINARY.into(),
            seed: Some(1),
            ..Hooks::default()
        };
        let thread = std::thread::spawn(move || runtime::run(config, hooks));
        let running = soon("it listens", ready).await.unwrap();
        Run { running, stop, thread }
    }

    /// Waits until all `count` backends of the only fleet are ready.
    async fn ready(&self, count: usize) {
        let mut snapshots = self.running.control.watch();
        let ready = snapshots.wait_for(|s| s.fleets[0].backends.iter().filter(|b| b.phase == Phase::Ready).count() == count);
        soon("all backends are ready", ready).await.unwrap();
    }

    async fn end(self) -> Result<(), RunError> {
        soon("it ends", tokio::task::spawn_blocking(|| self.thread.join().unwrap())).await.unwrap()
    }
}

fn static_fleet(address: SocketAddr, deadline: &str) -> String {
    format!(
        "shutdown: {{ deadline: {deadline} }}\nfleets:\n  chat:\n    backends: {{ static: [ {{ address: \"{address}\" }} ] }}\n    \
         capacity: 10\n"
    )
}

#[tokio::test]
async fn it_tells_where_it_listens_and_ends_when_it_is_asked() {
    let backend = Backend::start().await;
    let run = Run::start(&static_fleet(backend.address, "5s")).await;
    run.ready(1).await;
    let mut socket = client::websocket(run.running.listeners[0], "/").await.unwrap();
    client::echo(&mut socket, "hello").await;
    let status = client::http("GET", run.running.admin, "/v1/status", None).await.1;
    assert_eq!(status["fleets"][0]["sessions"], 1);

    run.stop.stop();
    assert_eq!(client::close_code(&mut socket).await, Some(1001));
    let admin = run.running.admin;
    run.end().await.unwrap();
    assert!(std::net::TcpStream::connect(admin).is_err());
}

#[tokio::test]
async fn asked_again_it_cuts_sessions_and_kills_children_at_once() {
    let network = network::own();
    let (dir, witness, clock) = (TestDir::new(), Witness::new(&network).await, Clock::start());
    // Children that ignore SIGTERM and are given an hour for it.
    let command = serde_json::to_string(&witness.command("stubborn listens={port}")).unwrap();
    let (first, last) = network.ports();
    let run = Run::start(&format!(
        "shutdown: {{ deadline: 1h }}\nfleets:\n  chat:\n    backends:\n      process: {{ command: {command}, \
         ports: \"{first}-{last}\", stop_timeout: 1h, log_dir: \"{}\" }}\n    capacity: 10\n",
        dir.path().display()
    ))
    .await;
    run.ready(1).await;
    let child = witness.seen().await;

    run.stop.stop();
    // It has no sessions, so it is the children's turn at once.
    let mut snapshots = run.running.control.watch();
    soon("it is stopping", snapshots.wait_for(|s| s.shutting_down)).await.unwrap();
    let asked = clock.now();
    run.stop.stop();
    child.gone().await;
    run.end().await.unwrap();
    assert!(clock.now().since(asked) < Duration::from_secs(60));
}

#[tokio::test]
async fn a_taken_admin_address_is_named_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "listeners: [ {{ address: \"127.0.0.1:0\" }} ]\nadmin: {{ address: \"{address}\" }}\n{}",
        static_fleet("127.0.0.1:9".parse().unwrap(), "1s")
    );
    let config = config::parse(&text, "test", Path::new("/")).unwrap();
    let hooks = Hooks { ready: Box::new(|_| panic!("it must not start")), signals: false, ..Hooks::default() };
    let error = tokio::task::spawn_blocking(|| runtime::run(config, hooks)).await.unwrap().unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("admin.address"), "{text}");
}
