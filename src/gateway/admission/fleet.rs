//! What the gateway knows of fleets and backends: the snapshot's limits, and counters that all threads share.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use holdline_core::affinity::{Preference, Wish};
use holdline_core::cause::Phase;
use holdline_core::event::{AddressCount, BackendCounts, FleetCounts};
use holdline_core::ids::BackendId;
use holdline_core::policy::FleetPolicy;
use holdline_core::queue::Queue;
use holdline_core::seats::Seats;
use holdline_core::snapshot::{BackendView, FleetView};
use holdline_core::time::Moment;
use holdline_core::wire::token::Keys;
use http::request::Parts;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::affinity::AffinityIndex;
use super::backend::{Backend, Member};
use super::poll::table::Table;
use super::waiter::Waiter;
use crate::gateway::session::seat::Turnover;
use crate::gateway::session::target::{Ended, SessionObserver, SessionTarget};
use crate::telemetry::{FleetMetrics, access};

/// One fleet under one policy, shared by all threads. Under another policy it is another `Fleet` around the same [`FleetState`]: who holds one
/// (a handshake, a session's seat) goes on by the policy that it found.
pub(crate) struct Fleet {
    pub(crate) policy: Arc<FleetPolicy>,
    state: Arc<FleetState>,
    /// The backends were not told of this policy yet.
    is_new: AtomicBool,
}

impl Deref for Fleet {
    type Target = FleetState;

    fn deref(&self) -> &FleetState {
        &self.state
    }
}

/// What stays of a fleet, whatever its policy.
pub(crate) struct FleetState {
    /// No other fleet has it: it says which thread serves the queue.
    pub(crate) number: usize,
    pub(crate) metrics: Arc<FleetMetrics>,
    /// Swapped in whole by [`Fleet::adopt`]; readers never wait.
    joined: ArcSwap<Joined>,
    watch: Arc<dyn SessionObserver>,
    /// Sign affinity tokens.
    keys: Keys,
    pub(crate) queue: Mutex<Queue<Waiter>>,
    pub(crate) turnover: Arc<Turnover>,
    /// Told whenever a snapshot was adopted.
    pub(crate) adopted: Notify,
    pub(crate) refused_total: AtomicU64,
    pub(crate) no_backend_total: AtomicU64,
    /// Plain requests in flight or waiting.
    pub(crate) requests: AtomicU32,
    /// Its long-poll clients.
    pub(crate) polls: Arc<Table>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("name", &self.policy.name).finish_non_exhaustive()
    }
}

/// The backends of a fleet at one time.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// The snapshot's that have an address, and gone ones that still hold sessions.
    pub(crate) members: Vec<Member>,
    /// Backends at addresses that they had before and where they still have sessions; no more are placed there.
    former: Vec<Member>,
    /// Affinity to these.
    pub(crate) affinity: AffinityIndex,
}

impl Joined {
    fn all(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.former)
    }
}

impl Fleet {
    pub(crate) fn new(number: usize, policy: Arc<FleetPolicy>, metrics: Arc<FleetMetrics>, keys: Keys) -> Arc<Self> {
        let state = FleetState {
            number,
            queue: Mutex::new(Queue::new(policy.queue)),
            watch: Arc::new(Recorder(Arc::clone(&metrics))),
            metrics,
            joined: ArcSwap::default(),
            keys,
            turnover: Arc::default(),
            adopted: Notify::new(),
            refused_total: AtomicU64::new(0),
            no_backend_total: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            polls: Arc::default(),
        };
        Arc::new(Fleet { policy, state: Arc::new(state), is_new: AtomicBool::new(false) })
    }

    /// The same fleet under another policy, which its backends hear of with the next snapshot.
    pub(crate) fn under(&self, policy: Arc<FleetPolicy>) -> Arc<Self> {
        self.queue.lock().set_policy(policy.queue);
        Arc::new(Fleet { policy, state: Arc::clone(&self.state), is_new: AtomicBool::new(true) })
    }

    /// Refuses waiting and new handshakes: the fleet is being removed.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        let waiters: Vec<Waiter> = queue.close().collect();
        self.turnover.waiting.store(0, Ordering::SeqCst);
        drop(queue);
        waiters.into_iter().for_each(Waiter::turn_away);
    }

    /// Its backends now.
    pub(crate) fn joined(&self) -> arc_swap::Guard<Arc<Joined>> {
        self.joined.load()
    }

    /// What a request asks for. A client whose key has a long-poll session here is led to its backend, which need not be the first of the
    /// key's order.
    pub(crate) fn preference(&self, parts: &Parts, client: IpAddr) -> Preference {
        let mut preference = self.joined.load().affinity.preference(parts, client);
        if let Wish::Key(key) = preference.wish
            && let Some(home) = self.polls.home(key)
        {
            preference.wish = Wish::Backend(home);
        }
        preference
    }

    /// The backend of this id.
    pub(crate) fn backend(&self, id: &BackendId) -> Option<Arc<Backend>> {
        self.joined.load().members.iter().find(|m| m.0.id == *id).map(|m| Arc::clone(&m.0))
    }

    /// Seats taken on all its backends.
    pub(crate) fn held(&self) -> u32 {
        self.joined.load().all().map(|m| m.0.seats.used()).fold(0, u32::saturating_add)
    }

    /// Seats taken at `address`.
    pub(in crate::gateway) fn held_at(&self, address: SocketAddr) -> u32 {
        let joined = self.joined.load();
        let there = joined.all().filter(|m| m.0.address == address);
        there.map(|m| m.0.seats.used()).fold(0, u32::saturating_add)
    }

    /// Makes the snapshot's backends and limits the ones that reservations meet. One caller at a time.
    pub(crate) fn adopt(&self, view: &FleetView) {
        match view.leaving {
            true => self.close(),
            false => self.queue.lock().reopen(),
        }
        let is_new = self.is_new.swap(false, Ordering::AcqRel);
        let old = self.joined.load_full();
        let old_of = |id: &BackendId| old.members.iter().find(|m| m.0.id == *id);
        let mut new: Vec<Member> = Vec::with_capacity(view.backends.len());
        let mut former = old.former.clone();
        for seen in &view.backends {
            let Some(address) = seen.address else { continue };
            let member = match old_of(&seen.id) {
                Some(member) if member.0.address == address => member.clone(),
                moved => {
                    former.extend(moved.cloned());
                    Member(self.backend_at(seen, address, moved))
                }
            };
            if is_new {
                member.0.set_policy(&self.policy);
            }
            member.0.set(seen.phase, seen.limit);
            new.push(member);
        }
        let is_gone = |m: &&Member| view.backends.iter().all(|seen| seen.id != m.0.id || seen.address.is_none());
        for gone in old.members.iter().filter(is_gone) {
            gone.0.set(Phase::Dead, 0);
            // Its sessions live until their sockets fail, and are counted until then. A request may become one.
            if gone.0.load() > 0 {
                new.push(gone.clone());
            }
        }
        // Whoever saw one open holds no seat yet, and gets none from here on.
        former.iter().for_each(|m| m.0.set(Phase::Dead, 0));
        former.retain(|m| m.0.load() > 0);
        // Gone ones weigh nothing any more.
        let capacity = |m: &Member| view.backends.iter().find(|seen| seen.id == m.0.id).map_or(Some(0), |seen| seen.capacity);
        let is_same = same_members(&old.members, &new) && same_members(&old.former, &former);
        if is_new || !is_same || !old.affinity.has_capacities(new.iter().map(capacity)) {
            let affinity = AffinityIndex::new(&self.policy, &self.keys, new.iter().map(|m| (&m.0.id, capacity(m))));
            self.joined.store(Arc::new(Joined { members: new, former, affinity }));
        }
        self.adopted.notify_waiters();
        self.turnover.seat_freed();
    }

    fn backend_at(&self, seen: &BackendView, address: SocketAddr, moved: Option<&Member>) -> Arc<Backend> {
        let policy = &self.policy;
        // Seats are those of an address; ends are counted by id.
        let seats = Seats::new(0, policy.admit_rate);
        let target = match moved {
            Some(Member(before)) => before.target().with_deadlines(&policy.timeouts, &policy.keepalive),
            None => SessionTarget::new(
                policy.name.clone(),
                seen.id.clone(),
                &policy.timeouts,
                &policy.keepalive,
                Arc::clone(&self.watch),
            ),
        };
        Arc::new(Backend::new(seen.id.clone(), address, seats, target))
    }

    /// Its part of the gateway's report.
    pub(crate) fn counts(&self, now: Moment) -> FleetCounts {
        let (queued, oldest_wait) = {
            let queue = self.queue.lock();
            (queue.len() as u32, queue.oldest_wait(now))
        };
        let joined = self.joined.load();
        let count = |m: &Member| {
            // Requests first: one that becomes a session has its seat before it is no request any more. Then seats: an end is counted
            // before its seat is free.
            let before = || joined.former.iter().filter(|f| f.0.id == m.0.id).map(|f| &f.0);
            let requests = before().map(|b| b.requests.load(Ordering::Acquire));
            let requests = requests.fold(m.0.requests.load(Ordering::Acquire), u32::saturating_add);
            let former: Vec<_> = before().map(|b| AddressCount { address: b.address, used: b.seats.used() }).collect();
            let used = former.iter().map(|f| f.used).fold(m.0.seats.used(), u32::saturating_add);
            let ends = m.0.ends();
            BackendCounts {
                backend: m.0.id.clone(),
                used,
                former,
                requests,
                moved_total: ends.moved,
                lost_total: ends.lost,
                cut_total: ends.cut,
            }
        };
        FleetCounts {
            fleet: self.policy.name.clone(),
            backends: joined.members.iter().map(count).collect(),
            queued,
            oldest_wait,
            admitted_total: self.turnover.admitted_total.load(Ordering::Relaxed),
            ended_total: self.turnover.ended_total.load(Ordering::Relaxed),
            refused_total: self.refused_total.load(Ordering::Relaxed),
            no_backend_total: self.no_backend_total.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            totals: self.metrics.totals(),
        }
    }
}

fn same_members(a: &[Member], b: &[Member]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0))
}

/// Writes a fleet's sessions down: metrics and access log.
struct Recorder(Arc<FleetMetrics>);

impl SessionObserver for Recorder {
    fn bytes(&self, from_clients: u64, to_clients: u64) {
        self.0.bytes(from_clients, to_clients);
    }

    fn ended(&self, end: &Ended<'_>) {
        self.0.ended(end.cause, end.age);
        access::session(&access::SessionLine {
            id: end.id,
            kind: end.kind.as_str(),
            fleet: end.fleet,
            backend: end.backend,
            client: end.client,
            cause: end.cause,
            age: end.age,
            bytes_in: end.bytes_in,
            bytes_out: end.bytes_out,
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use holdline_core::policy::*;
    use holdline_core::scale::Decision;
    use holdline_core::traffic::Traffic;

    use super::*;
    use crate::telemetry::Metrics;

    /// A policy with short deadlines, to be changed by each test.
    pub(crate) fn policy(name: &str) -> FleetPolicy {
        let default = crate::test_policy::fleet(name, ProviderPolicy::Static(Vec::new()));
        let seconds = Duration::from_secs;
        FleetPolicy {
            capacity: Some(10),
            queue: QueuePolicy { length: 100, ..default.queue },
            drain: DrainPolicy { deadline: seconds(10), ..default.drain },
            timeouts: Timeouts { handshake: seconds(5), response: seconds(5), write: seconds(5), ..default.timeouts },
            keepalive: KeepalivePolicy { tcp: Some(seconds(60)), ..default.keepalive },
            ..default
        }
    }

    pub(crate) fn fleet(name: &str) -> Arc<Fleet> {
        Fleet::new(0, Arc::new(policy(name)), Metrics::new().fleet(&name.into()), Keys::new([7; 32]))
    }

    /// A ready backend with so many seats.
    pub(crate) fn ready(id: &str, address: SocketAddr, limit: u32) -> BackendView {
        BackendView {
            id: id.into(),
            address: Some(address),
            phase: Phase::Ready,
            sessions: 0,
            foreign: 0,
            capacity: Some(limit),
            limit,
            reported: None,
            requests: 0,
            heartbeat_at: None,
            since: Moment::START,
            drain: None,
            moved_total: 0,
        }
    }

    pub(crate) fn view(policy: &Arc<FleetPolicy>, backends: Vec<BackendView>) -> FleetView {
        FleetView {
            policy: Arc::clone(policy),
            backends,
            queued: 0,
            oldest_wait: Duration::ZERO,
            decision: Arc::new(Decision::default()),
            scale_to: None,
            rebalance: None,
            traffic: Traffic::default(),
            leaving: false,
        }
    }

    pub(crate) fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_gone_backend_is_counted_until_its_last_session_ends() {
        let fleet = fleet("chat");
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(1), 2), ready("b", address(2), 2)]));
        let seat = fleet.backend(&"a".into()).unwrap().seats.reserve(Moment::START).unwrap();
        fleet.adopt(&view(&fleet.policy, vec![ready("b", address(2), 2)]));
        let counts = fleet.counts(Moment::START);
        assert_eq!(counts.backends.iter().map(|b| (b.backend.as_str(), b.used)).collect::<Vec<_>>(), [("b", 0), ("a", 1)]);
        assert!(!fleet.backend(&"a".into()).unwrap().serves_its_own());
        drop(seat);
        fleet.adopt(&view(&fleet.policy, vec![ready("b", address(2), 2)]));
        assert_eq!(fleet.counts(Moment::START).backends.len(), 1);
    }

    #[test]
    fn a_backend_that_moves_is_counted_at_both_addresses() {
        let fleet = fleet("chat");
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(1), 2)]));
        let before = fleet.backend(&"a".into()).unwrap();
        let seat = before.seats.reserve(Moment::START).unwrap();
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(2), 1)]));
        let a = fleet.backend(&"a".into()).unwrap();
        assert_eq!((a.address, a.seats.used(), a.seats.limit()), (address(2), 0, 1));
        assert!(before.seats.reserve(Moment::START).is_err(), "the old address takes nobody");
        let _second = a.seats.reserve(Moment::START).unwrap();
        let count = || fleet.counts(Moment::START).backends.remove(0);
        assert_eq!((count().used, count().former), (2, vec![AddressCount { address: address(1), used: 1 }]));
        assert_eq!((fleet.held(), fleet.held_at(address(1)), fleet.held_at(address(2))), (2, 1, 1));
        drop(seat);
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(2), 2)]));
        assert_eq!((count().used, count().former.len(), fleet.held_at(address(1))), (1, 0, 0));
    }

    #[test]
    fn an_id_that_goes_and_one_that_comes_are_counted_at_their_address() {
        let fleet = fleet("chat");
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(1), 5)]));
        let a = fleet.backend(&"a".into()).unwrap();
        let _seats: Vec<_> = (0..3).map(|_| a.seats.reserve(Moment::START).unwrap()).collect();
        let going = BackendView { phase: Phase::Draining, ..ready("a", address(1), 0) };
        fleet.adopt(&view(&fleet.policy, vec![going, ready("b", address(1), 2)]));
        let b = fleet.backend(&"b".into()).unwrap();
        let _more: Vec<_> = (0..2).map(|_| b.seats.reserve(Moment::START).unwrap()).collect();
        assert!(a.seats.reserve(Moment::START).is_err() && b.seats.reserve(Moment::START).is_err());
        assert_eq!(fleet.held_at(address(1)), 5);
        let counts = fleet.counts(Moment::START).backends;
        assert_eq!(counts.iter().map(|c| (c.backend.as_str(), c.used)).collect::<Vec<_>>(), [("a", 3), ("b", 2)]);
    }
}
