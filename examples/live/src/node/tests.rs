//! A node without sockets, in paused time: whom it waits for, how long, and what it does then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::cursor::Heard;
use super::follow::{Place, QueueState, follow};
use super::hub::{Hub, Listener};
use super::poll::{self, Polls};
use super::room::{Loaded, Refusal};
use super::server::Node;
use super::sessions::Sessions;
use super::upstream::{Api, ApiError, HttpApi, Presence};
use crate::backoff::Backoff;
use crate::delta::{Action, Delta, Entry};
use crate::queue::{Entries, QueueError, Subscribe};

/// An api that answers what it is told to; until then it hangs.
struct Scripted {
    /// The newest delta of the only room, which is called `r`.
    answer: watch::Sender<Option<Result<u64, ()>>>,
    loads: Mutex<Vec<Instant>>,
    reports: Mutex<Vec<(Instant, Presence)>>,
}

impl Scripted {
    fn new(answer: Option<Result<u64, ()>>) -> Arc<Scripted> {
        Arc::new(Scripted { answer: watch::Sender::new(answer), loads: Mutex::default(), reports: Mutex::default() })
    }

    fn loads(&self) -> usize {
        self.loads.lock().len()
    }
}

fn no_answer() -> ApiError {
    ApiError { at: "here".into(), reason: "the test says so".into() }
}

impl Api for Scripted {
    fn load<'a>(&'a self, room: &'a str, have: u64) -> BoxFuture<'a, Result<Option<Loaded>, ApiError>> {
        Box::pin(async move {
            self.loads.lock().push(now());
            let answer = *self.answer.subscribe().wait_for(Option::is_some).await.unwrap();
            let seq = answer.unwrap().map_err(|()| no_answer())?;
            let deltas = (have + 1..=seq).map(delta).collect();
            Ok((room == "r").then_some(Loaded { seq, presence: 9, deltas }))
        })
    }

    fn report<'a>(&'a self, here: &'a Presence) -> BoxFuture<'a, Result<Presence, ApiError>> {
        Box::pin(async move {
            self.reports.lock().push((now(), here.clone()));
            Ok(Presence { rooms: BTreeMap::from([("r".to_owned(), 40)]) })
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "paused time")]
fn now() -> Instant {
    Instant::now()
}

fn delta(seq: u64) -> Delta {
    Delta { seq, at: 1, action: Action::Like, comment: 1, user: "ann".into(), text: None }
}

fn entry(pos: u64, seq: u64) -> Entry {
    Entry { pos, room: "r".into(), delta: delta(seq) }
}

async fn join(hub: &Arc<Hub>, room: &str, after: Option<u64>) -> Result<Listener, Refusal> {
    hub.listen(Arc::new(hub.enter(room)?), after).await
}

async fn deltas(listener: &mut Listener) -> Vec<u64> {
    match listener.next().await {
        Heard::Deltas(lines) => lines.iter().map(super::room::Line::seq).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_begins_after_two_seconds_whatever_the_api_does_and_hears_hello_when_it_answers() {
    let api = Scripted::new(None);
    let hub = Hub::new(api.clone());
    let begun = now();
    let mut listener = join(&hub, "r", Some(1)).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    api.answer.send_replace(Some(Ok(2)));
    assert_eq!(listener.next().await, Heard::Hello { seq: 2, presence: 9 });
    assert_eq!(deltas(&mut listener).await, [2]);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_is_not_waited_for_and_is_asked_until_it_is_back() {
    let api = Scripted::new(Some(Err(())));
    let hub = Hub::new(api.clone());
    let begun = now();
    let mut listener = join(&hub, "r", None).await.unwrap();
    let mut future = join(&hub, "r", Some(7)).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(600)).await;
    // Half of five seconds is the mean of the pauses.
    assert!((150..400).contains(&api.loads()), "{}", api.loads());
    api.answer.send_replace(Some(Ok(2)));
    let back = now();
    assert_eq!(listener.next().await, Heard::Hello { seq: 2, presence: 9 });
    assert!(back.elapsed() <= Duration::from_secs(5));
    assert_eq!(future.next().await, Heard::Refused(Refusal::FromTheFuture { seq: 2 }));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_comes_at_once_asks_the_api_twice_at_most() {
    let api = Scripted::new(None);
    let hub = Hub::new(api.clone());
    let crowd = futures_util::future::join_all((0..1_000).map(|_| join(&hub, "r", Some(2))));
    let answer = async { api.answer.send_replace(Some(Ok(2))) };
    let (crowd, _) = tokio::join!(crowd, answer);
    assert!(crowd.into_iter().all(|joined| joined.is_ok()) && api.loads() <= 2, "{}", api.loads());
    join(&hub, "r", Some(1)).await.unwrap();
    assert!(api.loads() <= 2, "who comes back asks nothing");
}

#[tokio::test(start_paused = true)]
async fn a_room_is_kept_for_a_minute_after_the_last_one_left() {
    let api = Scripted::new(Some(Ok(3)));
    let hub = Hub::new(api.clone());
    drop(join(&hub, "r", None).await.unwrap());
    (0..59).for_each(|_| hub.sweep());
    assert_eq!(hub.rooms(), 1);
    hub.sweep();
    assert_eq!(hub.rooms(), 0);
    assert_eq!(join(&hub, "unknown", None).await.err(), Some(Refusal::UnknownRoom));
    assert_eq!(hub.rooms(), 0, "what is not there is not kept");
}

/// A node that nobody listens to on sockets.
fn node(api: Arc<Scripted>) -> Arc<Node> {
    let (_, place) = watch::channel(Place::default());
    Arc::new(Node { name: "n-1".into(), hub: Hub::new(api), sessions: Sessions::new(None), polls: Polls::new(), place })
}

async fn poll(node: &Node, client: Option<u64>, after: Option<u64>) -> Response {
    let (mut listener, _counted) = node.polls.listen(&node.hub, &node.sessions, client, "r", after).await.unwrap();
    poll::answer(&mut listener, &node.name, after.is_some()).await
}

async fn value(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_answered_after_25_s_without_a_delta() {
    let begun = now();
    let node = node(Scripted::new(Some(Ok(3))));
    let (status, body) = value(poll(&node, None, Some(3)).await).await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "node": "n-1", "seq": 3, "presence": 9, "deltas": [] })));
    assert_eq!(begun.elapsed(), Duration::from_secs(25));
}

#[tokio::test(start_paused = true)]
async fn a_poll_about_a_room_that_the_api_does_not_tell_of_is_told_so() {
    let node = node(Scripted::new(Some(Err(()))));
    let begun = now();
    let response = poll(&node, None, Some(3)).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, body) = value(response).await;
    assert_eq!((status, &body["type"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:live:problem:api-down")));
    assert_eq!(begun.elapsed(), Duration::from_secs(25));
}

#[tokio::test(start_paused = true)]
async fn who_polls_has_a_seat_for_ten_seconds_after_its_last_poll() {
    let api = Scripted::new(Some(Ok(3)));
    let node = node(api.clone());
    let sweeping = tokio::spawn(super::sweep(Arc::clone(&node)));
    for client in [None, Some(1), Some(2), Some(1)] {
        poll(&node, client, None).await;
    }
    assert_eq!((node.sessions.counts().sessions, node.hub.present().rooms["r"]), (2, 2));
    tokio::time::sleep(Duration::from_secs(8)).await;
    poll(&node, Some(1), None).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((node.sessions.counts().sessions, node.hub.present().rooms["r"]), (1, 1));
    poll(&node, Some(1), Some(3)).await;
    assert_eq!(node.sessions.counts().sessions, 1, "a poll that lasts longer is a seat all the time");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!((node.sessions.counts().sessions, node.hub.present().rooms["r"]), (0, 0));
    sweeping.abort();
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_is_never_silent_for_longer_than_15_s() {
    let node = node(Scripted::new(Some(Ok(3))));
    let listener = join(&node.hub, "r", None).await.unwrap();
    let mut body = super::events::begin(listener, "n-1".into(), node.sessions.enter()).into_body();
    let mut said = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(said().await.starts_with(b"retry: 1000\n") && said().await.starts_with(b"event: hello\n"));
    let begun = now();
    assert_eq!(said().await, ":\n\n");
    assert_eq!(begun.elapsed(), Duration::from_secs(15));
    drop(body);
    assert_eq!(node.sessions.counts().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn presence_is_reported_every_two_seconds_and_told_to_clients() {
    let api = Scripted::new(Some(Ok(3)));
    let node = node(api.clone());
    let mut listener = join(&node.hub, "r", None).await.unwrap();
    listener.next().await;
    let begun = now();
    let reporting = tokio::spawn(super::report(Arc::clone(&node), api.clone()));
    assert_eq!(listener.next().await, Heard::Presence(40));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let reports = api.reports.lock().clone();
    assert_eq!(reports.iter().map(|(at, _)| (*at - begun).as_secs()).collect::<Vec<_>>(), [0, 2, 4]);
    assert_eq!(reports[0].1.rooms["r"], 1);
    reporting.abort();
}

#[tokio::test(start_paused = true)]
async fn an_api_that_hangs_is_given_up_after_five_seconds() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = HttpApi::new(&format!("http://{}/", silent.local_addr().unwrap()), "n-1").unwrap();
    let begun = now();
    let error = api.load("r", 0).await.unwrap_err().to_string();
    assert!(begun.elapsed() == Duration::from_secs(5) && error.contains("127.0.0.1") && error.contains("5s"), "{error}");
}

/// A queue that a test drives: what it answers next, in order.
struct Queue {
    newest: Mutex<u64>,
    /// From where it was asked for.
    asked: mpsc::Sender<u64>,
    streams: tokio::sync::Mutex<mpsc::Receiver<Result<mpsc::Receiver<Entry>, QueueError>>>,
}

fn down() -> QueueError {
    QueueError::Down { at: "here".into(), reason: "the test says so".into() }
}

impl Subscribe for Queue {
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(*self.newest.lock()) })
    }

    fn subscribe(&self, after: u64) -> BoxFuture<'_, Result<Entries, QueueError>> {
        Box::pin(async move {
            self.asked.send(after).await.unwrap();
            let entries = self.streams.lock().await.recv().await.expect("the test goes on")?;
            let entries = stream::unfold(entries, async |mut entries| Some((entries.recv().await.ok_or_else(down), entries)));
            Ok(entries.boxed())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_where_it_was_and_anew_where_the_queue_lost_its_place() {
    let api = Scripted::new(Some(Ok(5)));
    let hub = Hub::new(api.clone());
    let mut listener = join(&hub, "r", None).await.unwrap();
    listener.next().await;
    let ((asked, mut from), (give, streams)) = (mpsc::channel(9), mpsc::channel(9));
    let queue = Arc::new(Queue { newest: Mutex::new(100), asked, streams: streams.into() });
    let (tell, mut place) = watch::channel(Place::default());
    let pauses = Backoff::new(SmallRng::seed_from_u64(1));
    let following = tokio::spawn(follow(Arc::clone(&hub), queue.clone(), tell, pauses));
    let mut is = async |pos, state| drop(place.wait_for(|is| *is == Place { pos, state }).await.unwrap());

    // From now on, and what was before comes from the api.
    assert_eq!(from.recv().await, Some(100));
    let (entries, stream) = mpsc::channel(9);
    give.send(Ok(stream)).await.unwrap();
    is(Some(100), QueueState::Up).await;
    entries.send(entry(101, 6)).await.unwrap();
    assert_eq!(deltas(&mut listener).await, [6]);
    let loads = api.loads();
    assert_eq!(loads, 2);

    // It was lost: what was missed comes first.
    drop(entries);
    is(Some(101), QueueState::Down).await;
    *queue.newest.lock() = 103;
    assert_eq!(from.recv().await, Some(101));
    let (entries, stream) = mpsc::channel(9);
    give.send(Ok(stream)).await.unwrap();
    is(Some(101), QueueState::Behind).await;
    entries.send(entry(102, 7)).await.unwrap();
    is(Some(102), QueueState::Behind).await;
    entries.send(entry(103, 8)).await.unwrap();
    is(Some(103), QueueState::Up).await;
    assert_eq!((deltas(&mut listener).await, api.loads()), (vec![7, 8], loads));

    // It has no longer what comes next: the rooms are loaded.
    drop(entries);
    api.answer.send_replace(Some(Ok(12)));
    *queue.newest.lock() = 200;
    assert_eq!(from.recv().await, Some(103));
    give.send(Err(QueueError::Passed { oldest: 190 })).await.unwrap();
    assert_eq!(from.recv().await, Some(200));
    let (entries, stream) = mpsc::channel(9);
    give.send(Ok(stream)).await.unwrap();
    assert_eq!((deltas(&mut listener).await, api.loads()), (vec![9, 10, 11, 12], loads + 1));

    // So they are if it began anew.
    drop(entries);
    *queue.newest.lock() = 0;
    assert_eq!(from.recv().await, Some(0));
    let (entries, stream) = mpsc::channel(9);
    give.send(Ok(stream)).await.unwrap();
    entries.send(entry(1, 13)).await.unwrap();
    assert_eq!((deltas(&mut listener).await, api.loads()), (vec![13], loads + 2));
    is(Some(1), QueueState::Up).await;
    following.abort();
}
