//! The prober against servers that behave as servers do: well, badly, and not at all.

use holdline_core::event::Heartbeat;
use holdline_core::policy::ProxyProtocol;
use holdline_core::wire::proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::controller::fake::{self, FakePlane};

const ID: &str = "a";

/// A prober that follows one backend, and everything it works with.
struct Scene {
    listener: TcpListener,
    plane: Arc<FakePlane>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    events: mpsc::Receiver<Event>,
    policy: Arc<holdline_core::policy::FleetPolicy>,
    address: SocketAddr,
    _task: tokio::task::JoinHandle<()>,
}

impl Scene {
    async fn new(probe: Probe, interval_ms: u64, timeout_ms: u64, phase: Phase) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plane = Arc::new(FakePlane::default());
        let policy = fake::fleet(probe, Duration::from_millis(interval_ms), Duration::from_millis(timeout_ms));
        let (snapshots, follow) = watch::channel(fake::snapshot(&policy, &[(ID, address, phase)]));
        let (sender, events) = mpsc::channel(64);
        let prober = Prober::new(plane.clone(), sender, Metrics::new(), 7);
        let _task = tokio::spawn(prober.run(follow));
        Scene { listener, plane, snapshots, events, policy, address, _task }
    }

    async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
        event.expect("an event within 20 s").expect("a prober")
    }

    async fn heartbeat(&mut self) -> Heartbeat {
        match self.event().await {
            Event::Heartbeat { heartbeat, .. } => heartbeat,
            other => panic!("{other:?}"),
        }
    }

    async fn missed(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Event::HeartbeatMissed { .. }), "{event:?}");
    }

    /// The next connection, its request read.
    async fn request(&self) -> TcpStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn reports_come_over_one_kept_connection() {
    let mut scene = Scene::new(Probe::Http, 20, 5_000, Phase::Ready).await;
    let (mut stream, _) = scene.listener.accept().await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("GET /heartbeat HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", scene.address)), "{head}");
    stream.write_all(answer("200 OK", r#"{"sessions":4,"capacity":9}"#).as_bytes()).await.unwrap();
    let heartbeat = scene.heartbeat().await;
    assert_eq!((heartbeat.ready, heartbeat.sessions, heartbeat.capacity), (true, Some(4), Some(9)));

    read_head(&mut stream).await;
    stream.write_all(answer("503 Service Unavailable", "").as_bytes()).await.unwrap();
    assert_eq!(scene.heartbeat().await, Heartbeat { counted: Some(0), ..Heartbeat::default() });

    read_head(&mut stream).await;
    stream.write_all(answer("200 OK", r#"{"state":"draining"}"#).as_bytes()).await.unwrap();
    assert!(scene.heartbeat().await.draining);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_and_nothing_missed() {
    let mut scene = Scene::new(Probe::Http, 20, 5_000, Phase::Ready).await;
    let mut first = scene.request().await;
    first.write_all(answer("200 OK", "").as_bytes()).await.unwrap();
    scene.heartbeat().await;
    // The next request is under way when the connection ends without an answer.
    read_head(&mut first).await;
    drop(first);
    let mut second = scene.request().await;
    second.write_all(answer("200 OK", "").as_bytes()).await.unwrap();
    assert!(scene.heartbeat().await.ready);
}

#[tokio::test]
async fn the_higher_of_both_counts_goes_with_the_report() {
    let mut scene = Scene::new(Probe::Http, 20, 5_000, Phase::Ready).await;
    scene.plane.hold("chat", ID, 5);
    let mut stream = scene.request().await;
    scene.plane.hold("chat", ID, 8);
    stream.write_all(answer("200 OK", r#"{"sessions":7}"#).as_bytes()).await.unwrap();
    assert_eq!(scene.heartbeat().await.counted, Some(8));

    read_head(&mut stream).await;
    scene.plane.hold("chat", ID, 2);
    stream.write_all(answer("200 OK", r#"{"sessions":7}"#).as_bytes()).await.unwrap();
    assert_eq!(scene.heartbeat().await.counted, Some(8));
}

#[tokio::test]
async fn a_server_that_stalls_is_missed_wherever_it_stalls() {
    let mut scene = Scene::new(Probe::Http, 20, 100, Phase::Ready).await;
    let stalls = ["", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"ses"];
    for sent in stalls {
        let mut stream = scene.request().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        scene.missed().await;
        // The half-read connection is not used again: the next request comes over a new one.
    }
    let mut stream = scene.request().await;
    stream.write_all(answer("200 OK", "").as_bytes()).await.unwrap();
    assert!(scene.heartbeat().await.ready);
}

#[tokio::test]
async fn rubbish_is_missed_and_harms_nobody() {
    let mut scene = Scene::new(Probe::Http, 20, 5_000, Phase::Ready).await;
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let rubbish =
        ["SSH-2.0-OpenSSH_9.6\r\n", "\0\0\0\x12\x04\0\0\0", &answer("404 Not Found", ""), &answer("302 Found", ""), &long_head];
    for sent in rubbish {
        let mut stream = scene.request().await;
        // The prober may hang up before it has read everything.
        let _ = stream.write_all(sent.as_bytes()).await;
        let _ = stream.shutdown().await;
        scene.missed().await;
    }
}

#[tokio::test]
async fn a_report_that_is_none_is_ignored_but_the_status_counts() {
    let mut scene = Scene::new(Probe::Http, 20, 5_000, Phase::Ready).await;
    let ready = Heartbeat { ready: true, counted: Some(0), ..Heartbeat::default() };
    let unreadable = Heartbeat { unreadable: true, ..ready };
    let mut stream = scene.request().await;
    stream.write_all(answer("200 OK", r#"{"sessions":-1,"capacity":5}"#).as_bytes()).await.unwrap();
    assert_eq!(scene.heartbeat().await, unreadable);
    read_head(&mut stream).await;
    // 64 KiB and a byte: the connection is given up instead of read to its end.
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n{{{}", " ".repeat(64 * 1024));
    let _ = stream.write_all(endless.as_bytes()).await;
    assert_eq!(scene.heartbeat().await, unreadable);
    let mut stream = scene.request().await;
    stream.write_all(answer("200 OK", "OK").as_bytes()).await.unwrap();
    assert_eq!(scene.heartbeat().await, ready);
}

#[tokio::test]
async fn tcp_asks_for_a_connection_only() {
    let mut scene = Scene::new(Probe::Tcp, 20, 5_000, Phase::Ready).await;
    assert_eq!(scene.heartbeat().await, Heartbeat { ready: true, counted: Some(0), ..Heartbeat::default() });
    let (mut stream, _) = scene.listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0, "nothing is sent");

    let listener = std::mem::replace(&mut scene.listener, TcpListener::bind("127.0.0.1:0").await.unwrap());
    drop(listener);
    while matches!(scene.event().await, Event::Heartbeat { .. }) {}
}

#[tokio::test]
async fn a_backend_that_starts_is_asked_often_one_that_runs_is_not() {
    // An interval that never passes during a test: only a starting backend is asked a second time.
    let mut scene = Scene::new(Probe::Tcp, 3_600_000, 5_000, Phase::Starting).await;
    for _ in 0..5 {
        scene.heartbeat().await;
    }
    scene.snapshots.send_replace(fake::snapshot(&scene.policy, &[(ID, scene.address, Phase::Ready)]));
    // At most one gap of before was still to pass.
    scene.heartbeat().await;
    let silent = tokio::time::timeout(Duration::from_millis(300), async {
        scene.heartbeat().await;
        scene.heartbeat().await;
    });
    assert!(silent.await.is_err());
}

#[tokio::test]
async fn who_leaves_the_snapshot_is_not_asked_any_more() {
    let mut scene = Scene::new(Probe::Tcp, 20, 5_000, Phase::Ready).await;
    scene.heartbeat().await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    scene.snapshots.send_replace(fake::snapshot(&scene.policy, &[("b", other.local_addr().unwrap(), Phase::Ready)]));
    let backend_of = |event| match event {
        Event::Heartbeat { backend, .. } => backend,
        other => panic!("{other:?}"),
    };
    // What was under way arrives; then only the new one does.
    while backend_of(scene.event().await).as_str() != "b" {}
    for _ in 0..5 {
        assert_eq!(backend_of(scene.event().await).as_str(), "b");
    }
}

#[tokio::test]
async fn another_way_of_asking_is_obeyed_at_once() {
    // An interval that never passes: whoever asks a second time was told to.
    let mut scene = Scene::new(Probe::Tcp, 3_600_000, 5_000, Phase::Ready).await;
    scene.heartbeat().await;
    let (mut stream, _) = scene.listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0; 32]).await.unwrap(), 0, "nothing is sent");
    let mut policy = (*scene.policy).clone();
    policy.proxy_protocol = ProxyProtocol::V2;
    let asked = async |policy: &FleetPolicy| {
        scene.snapshots.send_replace(fake::snapshot(&Arc::new(policy.clone()), &[(ID, scene.address, Phase::Ready)]));
        let (mut stream, _) = scene.listener.accept().await.unwrap();
        let mut introduction = [0; 16];
        stream.read_exact(&mut introduction).await.unwrap();
        assert_eq!(introduction, proxy::LOCAL);
        stream
    };
    let mut stream = asked(&policy).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "and nothing more");
    policy.heartbeat.probe = Probe::Http;
    assert!(read_head(&mut asked(&policy).await).await.starts_with("GET /heartbeat "));
}

#[tokio::test]
async fn push_is_not_asked() {
    let scene = Scene::new(Probe::Push, 1, 5_000, Phase::Starting).await;
    let asked = tokio::time::timeout(Duration::from_millis(200), scene.listener.accept());
    assert!(asked.await.is_err());
}

#[tokio::test]
async fn a_snapshot_that_differs_in_counts_alone_changes_nothing() {
    let policy = fake::fleet(Probe::Tcp, Duration::from_secs(60), Duration::from_secs(60));
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (one, two) = ((ID, address(1), Phase::Ready), ("b", address(2), Phase::Starting));
    let (events, _received) = mpsc::channel(64);
    let mut prober = Prober::new(Arc::new(FakePlane::default()), events, Metrics::new(), 7);
    assert!(prober.follow(fake::snapshot(&policy, &[one, two])));
    let mut counts = Snapshot::clone(&fake::snapshot(&policy, &[one, two]));
    counts.version += 1;
    counts.fleets[0].queued = 7;
    counts.fleets[0].backends[0].sessions = 7;
    counts.fleets[0].backends[0].phase = Phase::Draining;
    assert!(!prober.follow(Arc::new(counts)), "a backend that drains is probed as before");
    let ready = (two.0, two.1, Phase::Ready);
    let elsewhere = (two.0, address(3), Phase::Ready);
    let slower = fake::fleet(Probe::Tcp, Duration::from_secs(61), Duration::from_secs(60));
    for (policy, backends) in
        [(&policy, &[one, ready][..]), (&policy, &[one, elsewhere]), (&policy, &[one]), (&policy, &[]), (&slower, &[])]
    {
        let snapshot = fake::snapshot(policy, backends);
        assert!(prober.follow(Arc::clone(&snapshot)) && !prober.follow(snapshot));
        assert_eq!(prober.probed.len(), backends.len());
    }
}
