//! The arguments, and each client command against an admin API served on loopback.

use std::io::{self, Write};
use std::sync::Arc;

use clap::error::ErrorKind;
use holdline_core::cause::Phase;
use holdline_core::event::{Answer, Command as Ordered, CommandError, MovePlan, MoveRequest};
use holdline_core::policy::DrainMode;
use holdline_core::snapshot::FleetView;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::admin::doubles::{FakePlane, FakeSessions, backend, chat, fleet, moving, plan, session, snapshot};
use crate::admin::{self, AdminState};
use crate::clock::Clock;
use crate::telemetry::Metrics;

fn parse(line: &str) -> Result<Command, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|e| e.kind())
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_may_be_typed() {
    for line in [
        "holdline run --config holdline.yaml",
        "holdline status",
        "holdline status --fleet chat -o json --admin http://127.0.0.1:1",
        "holdline top",
        "holdline sessions --fleet chat --backend b-1 --limit 5",
        "holdline drain b-1 --over 10s --rate 100/s --mode cut --wait",
        "holdline drain b-1 --dry-run --fleet chat",
        "holdline undrain b-1",
        "holdline rebalance chat --over 1m",
        "holdline scale chat",
        "holdline scale chat --to 0",
        "holdline scale chat --auto",
        "holdline scale chat --explain",
        "holdline events --follow",
        "holdline config check holdline.yaml",
        "holdline config check --config holdline.yaml",
        "holdline config schema",
        "holdline completions zsh",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn what_may_not() {
    for line in [
        "holdline run",
        "holdline statsu",
        "holdline drain",
        "holdline drain b-1 --mode handoff",
        "holdline drain b-1 --wait --dry-run",
        "holdline scale chat --to 3 --auto",
        "holdline scale chat --to -1",
        "holdline sessions --limit 0",
        "holdline config check",
        "holdline config check a --config b",
        "holdline status -o yaml",
        "holdline run --config a --admin http://127.0.0.1:1",
        "holdline gateway",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in Cli::command().get_subcommands_mut().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let (help, own) = (command.render_long_help().to_string(), format!("  holdline {} ", command.get_name()));
        // Of itself, not of another whose arguments it shares.
        assert!(help.contains("Example") && help.replace('\n', " \n").contains(&own), "{}: {help}", command.get_name());
    }
}

#[test]
fn completions_know_the_commands() {
    let screen = Screen::default();
    completions(Shell::Bash, &mut screen.out()).expect("written");
    assert!(screen.text().contains("rebalance"));
}

/// What was printed.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn out(&self) -> Out {
        Out::to(self.clone())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).expect("text")
    }
}

/// An admin API on an ephemeral port.
struct Served {
    plane: Arc<FakePlane>,
    url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Served {
    async fn with(fleets: Vec<FleetView>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let plane = FakePlane::new(snapshot(fleets));
        let sessions = Arc::new(FakeSessions((0..3).map(|n| session(n, "chat", "b-1")).collect()));
        let state = Arc::new(AdminState::new(plane.clone(), sessions, Metrics::new(), Clock::start(), address));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(admin::serve(listener, admin::router(state), async { drop(stopped.await) }));
        Served { plane, url: format!("http://{address}"), stop, task }
    }

    /// Runs a client command; what it printed, or how it failed.
    async fn run(&self, line: &str) -> Result<String, (u8, String)> {
        let screen = Screen::default();
        let ended = run_at(&self.url, line, &mut screen.out()).await;
        ended.map(|()| screen.text()).map_err(|e| (e.exit_status(), e.to_string()))
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{line} -o json")).await.expect("success")).expect("JSON")
    }

    fn orders(&self) -> Vec<Ordered> {
        std::mem::take(&mut *self.plane.commands.lock())
    }
}

async fn run_at(url: &str, line: &str, out: &mut Out) -> Result<(), Failure> {
    match parse(&format!("holdline {line} --admin {url}")).expect("valid arguments") {
        Command::Status(args) => status::status(&args, out).await,
        Command::Top(args) => top::top(&args, out).await,
        Command::Sessions(args) => sessions::sessions(&args, out).await,
        Command::Drain(args) => moves::drain(&args, out).await,
        Command::Undrain(args) => moves::undrain(&args, out).await,
        Command::Rebalance(args) => moves::rebalance(&args, out).await,
        Command::Scale(args) => scale::scale(&args, out).await,
        Command::Events(args) => events::events(&args, out).await,
        _ => panic!("not a client command: {line}"),
    }
}

#[tokio::test]
async fn status_as_table_and_as_json() {
    let served = Served::with(vec![chat(), fleet("feed", vec![])]).await;
    let table = served.run("status").await.expect("success");
    assert!(table.contains("chat  62 sessions of 50") && table.contains("feed  0 sessions"), "{table}");
    let one = served.json("status --fleet feed").await;
    assert_eq!(one["fleets"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["fleets"][0]["name"], "feed");
    let unknown = served.run("status --fleet nope").await.expect_err("unknown");
    assert_eq!(unknown, (1, "unknown fleet `nope`; known fleets: chat, feed".into()));
}

#[tokio::test]
async fn sessions_in_columns() {
    let served = Served::with(vec![chat()]).await;
    let table = served.run("sessions --fleet chat").await.expect("success");
    let line = "0000000000000001  websocket  chat   b-1      127.0.0.1:40000  1m01s  1.5s  2.0 KiB  2.9 MiB\n";
    assert!(table.contains(line), "{table}");
    assert_eq!(served.json("sessions --limit 2").await["truncated"], true);
    assert_eq!(served.run("sessions --fleet a&b").await.expect_err("unknown").0, 1);
}

#[tokio::test]
async fn drain_finds_the_fleet_and_shows_the_plan() {
    let served = Served::with(vec![chat(), fleet("feed", vec![])]).await;
    let text = served.run("drain b-2 --over 10s --rate 100/s --mode cut").await.expect("success");
    assert!(
        text.starts_with(
            "drain of b-2 in chat: 40 sessions over 10s, initially at 4.7/s, mode close; what is left after 5m00s is cut\n"
        ),
        "{text}"
    );
    assert!(text.contains("  from  b-2 40\n  to    b-1 25, b-3 15\n"), "{text}");
    let [Ordered::Drain { fleet, backend, request }] = &served.orders()[..] else { panic!("one drain") };
    assert_eq!((fleet.as_str(), backend.as_str()), ("chat", "b-2"));
    let over = std::time::Duration::from_secs(10);
    assert_eq!(*request, MoveRequest { over: Some(over), rate_max: Some(100.0), mode: Some(DrainMode::Cut), dry_run: false });
    assert_eq!(served.json("drain b-2 --dry-run").await["sessions"], 40);
    assert!(matches!(served.orders()[..], [Ordered::Drain { request: MoveRequest { dry_run: true, .. }, .. }]));
}

#[tokio::test]
async fn a_name_in_two_fleets_needs_the_fleet() {
    let twice = || vec![backend("b-1", Phase::Ready, 1, Some(5))];
    let served = Served::with(vec![fleet("chat", twice()), fleet("feed", twice())]).await;
    let error = served.run("drain b-1").await.expect_err("ambiguous");
    assert_eq!(error, (2, "backend `b-1` exists in the fleets chat, feed; select one with --fleet".into()));
    assert!(served.orders().is_empty());
    served.run("drain b-1 --fleet feed").await.expect("success");
    assert!(matches!(&served.orders()[..], [Ordered::Drain { fleet, .. }] if fleet.as_str() == "feed"));
    let error = served.run("undrain b-9").await.expect_err("unknown");
    assert_eq!(error, (1, "unknown backend `b-9`; known backends: b-1 (chat), b-1 (feed)".into()));
}

#[tokio::test]
async fn wait_stays_until_the_drain_ended() {
    let served = Served::with(vec![chat()]).await;
    let mut drained = chat();
    drained.backends[1].phase = Phase::Drained;
    served.plane.then(snapshot(vec![chat()]));
    served.plane.then(snapshot(vec![drained]));
    let text = served.run("drain b-2 --wait").await.expect("drained");
    assert!(text.contains("drain of b-2 in chat: done, 40 sessions in "), "{text}");
}

#[tokio::test]
async fn wait_fails_when_sessions_were_cut_and_says_so_in_json_too() {
    let served = Served::with(vec![chat()]).await;
    let mut late = chat();
    let mut overdue = moving(3, 40);
    overdue.deadline = holdline_core::time::Moment::from_millis(100_000);
    late.backends[1].drain = Some(overdue);
    let mut drained = chat();
    drained.backends[1].phase = Phase::Drained;
    drained.backends[1].drain = Some(holdline_core::snapshot::MoveView { cut: 3, ..moving(0, 40) });
    served.plane.then(snapshot(vec![late]));
    served.plane.then(snapshot(vec![drained]));
    let screen = Screen::default();
    let ended = run_at(&served.url, "drain b-2 --wait -o json", &mut screen.out()).await;
    assert_eq!(ended.map_err(|e| e.exit_status()), Err(1));
    let told: Value = serde_json::from_str(&screen.text()).expect("one document");
    assert_eq!((&told["done"], &told["plan"]["sessions"]), (&Value::Bool(false), &40.into()));
    assert!(told["result"].as_str().is_some_and(|r| r.contains("the deadline passed with 3 sessions left")), "{told}");
}

#[tokio::test]
async fn undrain_rebalance_and_scale() {
    let served = Served::with(vec![chat()]).await;
    served.run("rebalance chat --dry-run").await.expect("success");
    assert!(matches!(served.orders()[..], [Ordered::Rebalance { .. }]));
    *served.plane.answer.lock() = Ok(Answer::Done { message: "taken back".into() });
    assert_eq!(served.run("undrain b-2").await, Ok("taken back\n".into()));
    served.run("scale chat --to 4").await.expect("success");
    served.run("scale chat --auto").await.expect("success");
    assert!(matches!(
        served.orders()[..],
        [Ordered::Undrain { .. }, Ordered::Scale { to: Some(4), .. }, Ordered::Scale { to: None, .. }]
    ));
}

#[tokio::test]
async fn a_level_fleet_has_nothing_to_rebalance_and_nothing_to_wait_for() {
    let served = Served::with(vec![chat()]).await;
    *served.plane.answer.lock() = Ok(Answer::Plan(MovePlan { sessions: 0, from: vec![], to: vec![], ..plan() }));
    assert_eq!(served.run("rebalance chat --wait").await, Ok("rebalance of chat: 0 sessions to move\n".into()));
}

#[tokio::test]
async fn scale_tells_why() {
    let served = Served::with(vec![chat()]).await;
    let short = "chat: 3 desired, 2 running, autoscaled from 1 to 20; the fleet is static, so this is advice only\n  \
                 62 sessions and 4 waiting need 3 backends of 50 at 80 %\n";
    assert_eq!(served.run("scale chat").await, Ok(short.into()));
    let long = served.run("scale chat --explain").await.expect("success");
    assert!(
        long.starts_with(short)
            && long.contains("limited by        queue   what kept it")
            && long.contains("need              66.500  sessions to provide capacity for"),
        "{long}"
    );
    assert_eq!(served.json("scale chat --explain").await["inputs"]["sessions"], 62.0);
}

#[tokio::test]
async fn events_as_lines_and_as_json_lines() {
    let served = Served::with(vec![chat()]).await;
    served.plane.emit(1, "b-1 is ready");
    served.plane.emit(2, "b-1 is suspect");
    let text = served.run("events").await.expect("success");
    assert_eq!(text, "2023-11-14 22:13:20Z  chat/b-1  b-1 is ready\n2023-11-14 22:13:20Z  chat/b-1  b-1 is suspect\n");
    let json = served.run("events -o json").await.expect("success");
    let ids: Vec<Value> = json.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")["id"].clone()).collect();
    assert_eq!(ids, [1, 2]);
    let unknown = served.run("events --fleet feed").await;
    assert_eq!(unknown, Err((1, "unknown fleet `feed`; known fleets: chat".to_owned())));
}

#[tokio::test]
async fn a_fleet_that_was_removed_still_has_its_events() {
    let served = Served::with(vec![]).await;
    served.plane.emit(1, "it is removed");
    assert!(served.run("events --fleet chat").await.is_ok_and(|text| text.contains("it is removed")));
}

#[tokio::test]
async fn followed_events_come_as_they_happen() {
    let served = Served::with(vec![chat()]).await;
    served.plane.emit(1, "first");
    let (lines, mut told) = tokio::sync::mpsc::channel(8);
    let url = served.url.clone();
    let follower = tokio::spawn(async move { run_at(&url, "events --follow", &mut Out::to(Wire(lines))).await });
    assert!(told.recv().await.is_some_and(|l| l.contains("first")));
    served.plane.emit(2, "second");
    assert!(told.recv().await.is_some_and(|l| l.contains("second")));
    drop(told);
    served.plane.emit(3, "third");
    let ended = follower.await.expect("no panic").expect_err("nobody reads any more");
    assert_eq!(ended.exit_status(), 0, "{ended}");
}

/// Sends what is printed to the test; closed when the test stops listening.
struct Wire(tokio::sync::mpsc::Sender<String>);

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_send(String::from_utf8_lossy(bytes).into_owned()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn top_elsewhere_than_on_a_terminal_prints_one_table_after_another() {
    let served = Served::with(vec![chat()]).await;
    let (tables, mut told) = tokio::sync::mpsc::channel(8);
    let url = served.url.clone();
    let top = tokio::spawn(async move { run_at(&url, "top", &mut Out::to(Wire(tables))).await });
    for _ in 0..2 {
        assert!(told.recv().await.is_some_and(|t| t.starts_with("chat  62 sessions")));
    }
    served.plane.stop();
    let ended = top.await.expect("no panic").expect_err("the State task is gone");
    assert_eq!((ended.exit_status(), ended.to_string()), (1, "Holdline is stopping and accepts no more commands".into()));
}

#[tokio::test]
async fn failures_have_their_exit_status() {
    let served = Served::with(vec![chat()]).await;
    for (error, status) in [
        (CommandError::WrongPhase { backend: "b-2".into(), phase: Phase::Dead, remedy: "wait".into() }, 1),
        (CommandError::Invalid("over is longer than the deadline".into()), 2),
    ] {
        let text = error.to_string();
        *served.plane.answer.lock() = Err(error.into());
        assert_eq!(served.run("drain b-2").await, Err((status, text)));
    }
    let (status, text) = served.run("drain b-2 --over 10").await.expect_err("no unit");
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("over: `10`"), "{text}");

    let Served { url, stop, task, .. } = served;
    drop(stop);
    task.await.expect("no panic");
    let gone = run_at(&url, "status", &mut Screen::default().out()).await.expect_err("nobody there");
    assert_eq!(gone.exit_status(), 3);
    assert!(gone.to_string().starts_with(&format!("no answer from {url}: ")), "{gone}");
}

#[tokio::test]
async fn something_else_at_the_address_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let other = axum::Router::new().fallback(|| async { "<html>" });
    let task = tokio::spawn(admin::serve(listener, other, std::future::pending()));
    let failure = run_at(&url, "status", &mut Screen::default().out()).await.expect_err("not ours");
    assert_eq!(failure.exit_status(), 1);
    assert!(failure.to_string().contains("is not a Holdline admin API"), "{failure}");
    task.abort();
}
