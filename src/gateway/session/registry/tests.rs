use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use holdline_core::drain::{EndOrder, Ending};
use holdline_core::ids::SessionId;
use holdline_core::policy::{KeepalivePolicy, Timeouts};
use parking_lot::Mutex;
use tokio::task::LocalSet;

use super::*;
use crate::gateway::limits::permit::ConnectionPermit;
use crate::gateway::session::kind::SessionKind;
use crate::gateway::session::orders;
use crate::gateway::session::seat::tests::taken_seat;
use crate::gateway::session::target::{Ended, SessionObserver, SessionTarget};
use crate::gateway::session::timer::TICK;

#[derive(Default)]
struct Record {
    ended: Mutex<Vec<(SessionId, EndCause, Duration)>>,
    bytes: Mutex<Vec<(u64, u64)>>,
}

impl SessionObserver for Record {
    fn bytes(&self, from_clients: u64, to_clients: u64) {
        self.bytes.lock().push((from_clients, to_clients));
    }

    fn ended(&self, end: &Ended<'_>) {
        self.ended.lock().push((end.id, end.cause, end.age));
    }
}

/// Counts wake-ups.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn target(backend: &str, idle: Option<Duration>, record: &Arc<Record>) -> Arc<SessionTarget> {
    let second = Duration::from_secs(1);
    let timeouts = Timeouts { connect: second, handshake: second, response: second, write: second, idle, session: None };
    let keepalive = KeepalivePolicy { tcp: None, ping: None, timeout: second };
    SessionTarget::new("chat".into(), backend.into(), &timeouts, &keepalive, Arc::clone(record) as Arc<dyn SessionObserver>)
}

fn session(id: u64, target: &Arc<SessionTarget>) -> Session {
    Session {
        id: SessionId(id),
        kind: SessionKind::WebSocket,
        client: "127.0.0.1:1234".parse().unwrap(),
        target: Arc::clone(target),
        seat: taken_seat().0,
        permit: Some(ConnectionPermit::alone()),
    }
}

fn on(backend: &str) -> SessionFilter {
    SessionFilter { backend: Some(backend.into()), ..SessionFilter::default() }
}

async fn pass(time: Duration, registries: &[Rc<Registry>]) {
    for _ in 0..time.as_millis().div_ceil(TICK.as_millis()) {
        tokio::time::advance(TICK).await;
        registries.iter().for_each(|r| r.tick());
    }
}

fn drain(count: u32) -> EndOrder {
    EndOrder { count, ending: Ending { mode: DrainMode::Close, cause: EndCause::Drained } }
}

fn cut(count: u32) -> EndOrder {
    EndOrder { count, ending: Ending::CUT }
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_go_first_then_the_oldest_over_all_threads() {
    LocalSet::new()
        .run_until(async {
            let clock = Clock::start();
            let record = Arc::new(Record::default());
            let (backend, other) = (target("b1", None, &record), target("b2", None, &record));
            let registries = [Registry::new(clock, 1), Registry::new(clock, 2)];
            let mut handles = Vec::new();
            for registry in &registries {
                let (handle, inbox) = orders::channel();
                tokio::task::spawn_local(orders::serve(inbox, Rc::clone(registry)));
                handles.push(handle);
            }
            // Ids in the order of age, in turn on the two threads.
            let mut entered = Vec::new();
            for id in 0..8 {
                let of = if id == 7 { &other } else { &backend };
                entered.push(registries[id % 2].enter(session(id as u64, of)));
                pass(TICK, &registries).await;
            }
            pass(Duration::from_secs(5), &registries).await;
            // The old ones are busy.
            for busy in &entered[..4] {
                busy.entry().stamps.moved.set(busy.registry().now());
            }

            let ids =
                |of: &[Entered]| of.iter().filter(|e| e.entry().order().is_some()).map(|e| e.entry().id.0).collect::<Vec<_>>();
            assert_eq!(orders::end(&handles, &on("b1"), drain(2)).await, 2);
            assert_eq!(ids(&entered), [4, 5]);
            assert_eq!(orders::end(&handles, &on("b1"), drain(3)).await, 3, "those that are leaving are not chosen again");
            assert_eq!(ids(&entered), [0, 1, 4, 5, 6]);
            assert_eq!(orders::end(&handles, &on("b1"), cut(u32::MAX)).await, 7, "the deadline takes all that are left");
            assert_eq!(orders::end(&handles, &on("b1"), cut(u32::MAX)).await, 0);
            assert_eq!(orders::end(&handles, &SessionFilter::default(), drain(u32::MAX)).await, 1);

            let listed = orders::list(&handles, SessionFilter { limit: Some(8), ..SessionFilter::default() }).await;
            assert_eq!(listed.iter().map(|s| s.id.0).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>(), "oldest first");
            assert_eq!((listed[7].age_ms, listed[7].idle_ms), (5_100, 5_100));
            entered.clear();
            assert!(orders::list(&handles, SessionFilter::default()).await.is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_is_gone_has_no_sessions() {
    let (handle, inbox) = orders::channel();
    drop(inbox);
    assert!(orders::list(std::slice::from_ref(&handle), SessionFilter::default()).await.is_empty());
    assert_eq!(orders::end(&[handle], &SessionFilter::default(), drain(1)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_chosen_session_that_made_room_for_another_is_not_mistaken_for_it() {
    let record = Arc::new(Record::default());
    let (registry, backend) = (Registry::new(Clock::start(), 1), target("b1", None, &record));
    let old = registry.enter(session(1, &backend));
    let chosen = registry.candidates(&on("b1"), 9, DrainMode::Close);
    drop(old);
    let new = registry.enter(session(2, &backend));
    assert_eq!(registry.end(&chosen, drain(1).ending), 0);
    assert_eq!(new.entry().order(), None);
}

#[tokio::test(start_paused = true)]
async fn a_tick_wakes_only_who_is_due() {
    let record = Arc::new(Record::default());
    let registry = Registry::new(Clock::start(), 1);
    let timed = registry.enter(session(1, &target("b1", Some(Duration::from_secs(60)), &record)));
    let free = registry.enter(session(2, &target("b2", None, &record)));
    let woken = [&timed, &free].map(|entered| {
        entered.entry().stamps.set_up.set(true);
        let woken = Arc::new(Woken::default());
        entered.entry().listen(Context::from_waker(&Waker::from(Arc::clone(&woken))).waker());
        woken
    });
    pass(Duration::from_secs(59), std::slice::from_ref(&registry)).await;
    assert_eq!([&woken[0], &woken[1]].map(|w| w.0.load(Ordering::Relaxed)), [0, 0]);
    pass(Duration::from_millis(1_100), std::slice::from_ref(&registry)).await;
    assert_eq!([&woken[0], &woken[1]].map(|w| w.0.load(Ordering::Relaxed)), [1, 0]);
    assert_eq!(timed.take_due(), Some(timer::Due::End(EndCause::IdleTimeout)));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_recorded_once_with_the_first_cause_and_bytes_are_handed_on_once() {
    let record = Arc::new(Record::default());
    let (registry, backend) = (Registry::new(Clock::start(), 1), target("b1", None, &record));
    let (one, two) = (registry.enter(session(1, &backend)), registry.enter(session(2, &backend)));
    one.entry().count_in(5);
    two.entry().count_out(7);
    registry.tick();
    registry.tick();
    assert_eq!(*record.bytes.lock(), [(5, 7)], "neighbours in one call");
    one.entry().count_in(1);
    tokio::time::advance(Duration::from_secs(3)).await;
    one.settle(EndCause::BackendClosed);
    one.settle(EndCause::ClientLost);
    one.release();
    assert!(registry.list(&on("b1")).iter().all(|s| s.id == SessionId(2)), "without a seat it is no session");
    one.release();
    drop((one, two));
    assert_eq!(*record.bytes.lock(), [(5, 7), (1, 0)]);
    let three = Duration::from_secs(3);
    assert_eq!(*record.ended.lock(), [(SessionId(1), EndCause::BackendClosed, three), (SessionId(2), EndCause::Cut, three)]);
    assert!(registry.is_empty());
}

#[test]
fn an_entry_is_small() {
    // With the two counts of its `Rc` it is an allocation of 160 bytes.
    assert_eq!(size_of::<SessionEntry>(), 144);
}
