//! One backend, as the gateway knows it: its seats, its load, and what dials found.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use holdline_core::balance::Seated;
use holdline_core::cause::Phase;
use holdline_core::event::Event;
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::FleetPolicy;
use holdline_core::seats::Seats;
use holdline_core::time::Moment;
use tokio::sync::mpsc;

use crate::gateway::session::target::{EndCounts, SessionTarget};
use crate::telemetry::Metrics;

/// A backend among its fleet's, to be compared by `core::balance`.
#[derive(Clone, Debug)]
pub(crate) struct Member(pub(crate) Arc<Backend>);

impl Seated for Member {
    fn seats(&self) -> &Arc<Seats> {
        &self.0.seats
    }
}

/// One backend, shared by all threads.
pub(crate) struct Backend {
    pub(crate) id: BackendId,
    pub(crate) fleet: FleetName,
    pub(crate) address: SocketAddr,
    pub(crate) seats: Arc<Seats>,
    /// Plain requests in flight.
    pub(crate) requests: AtomicU32,
    phase: AtomicU8,
    dials: Dials,
    /// Its TLS failed at the last dial.
    tls_fails: AtomicBool,
    /// What its next sessions carry.
    target: ArcSwap<SessionTarget>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Dials' outcomes that State has not been told yet. The channel is bounded and never waited for; what it does not take stays here.
#[derive(Debug, Default)]
struct Dials {
    /// Failures since the last success.
    failed: AtomicU32,
    /// A success that follows a failure, or a time without news.
    connected: AtomicBool,
    /// When a success was last told, in ms since the start.
    told_ms: AtomicU64,
}

/// More failures in a row than State looks at (`core::health::DIAL_FAILURES_MAX`) say nothing new.
const FAILURES_KEPT: u32 = 8;

/// Interval at which successes of a healthy backend are reported; they only keep it from being considered dead.
const SUCCESS_TOLD_EVERY_MS: u64 = 1_000;

impl Backend {
    /// Unknown to the snapshot yet: it takes no request.
    pub(crate) fn new(id: BackendId, address: SocketAddr, seats: Arc<Seats>, target: Arc<SessionTarget>) -> Self {
        Backend {
            id,
            fleet: target.fleet.clone(),
            address,
            seats,
            requests: AtomicU32::new(0),
            phase: AtomicU8::new(Phase::Starting as u8),
            dials: Dials::default(),
            tls_fails: AtomicBool::new(false),
            target: ArcSwap::new(target),
        }
    }

    /// What a session that begins now carries.
    pub(crate) fn target(&self) -> Arc<SessionTarget> {
        self.target.load_full()
    }

    /// How its sessions ended so far.
    pub(crate) fn ends(&self) -> EndCounts {
        self.target.load().ends()
    }

    /// Obeys the fleet's policy: new sessions come at its pace and with its deadlines, those that are here keep theirs.
    pub(crate) fn set_policy(&self, policy: &FleetPolicy) {
        self.seats.set_rate(policy.admit_rate);
        self.target.store(self.target.load().with_deadlines(&policy.timeouts, &policy.keepalive));
    }

    /// Obeys the snapshot. The limit is in force from the return on.
    pub(crate) fn set(&self, phase: Phase, limit: u32) {
        self.seats.set_limit(limit);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Whether a plain request without affinity may be sent there.
    pub(crate) fn takes_requests(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Ready as u8
    }

    /// Whether a plain request that carries its affinity token may still follow it: full and draining backends serve those they know.
    pub(crate) fn serves_its_own(&self) -> bool {
        [Phase::Ready, Phase::Suspect, Phase::Draining].iter().any(|p| *p as u8 == self.phase.load(Ordering::Acquire))
    }

    /// Plain requests in flight plus sessions.
    pub(crate) fn load(&self) -> u32 {
        self.requests.load(Ordering::Relaxed).saturating_add(self.seats.used())
    }

    /// Notes a dial's outcome and tells State if the channel takes it.
    pub(crate) fn dialled(&self, connected: bool, now: Moment, events: &mpsc::Sender<Event>) {
        let dials = &self.dials;
        if connected {
            let now_ms = now.since_start().as_millis() as u64;
            let failed_before = dials.failed.swap(0, Ordering::AcqRel) > 0;
            let due = now_ms.saturating_sub(dials.told_ms.load(Ordering::Relaxed)) >= SUCCESS_TOLD_EVERY_MS;
            if !failed_before && !due && self.takes_requests() {
                return;
            }
            dials.told_ms.store(now_ms, Ordering::Relaxed);
            dials.connected.store(true, Ordering::Release);
        } else {
            let more = |n: u32| (n < FAILURES_KEPT).then_some(n + 1);
            // At the bound it says nothing new.
            let _ = dials.failed.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        }
        self.tell_dials(events);
    }

    /// Notes what was wrong with its TLS at a dial, and tells the operator when that is new.
    pub(crate) fn tls_is(&self, wrong: Option<&std::io::Error>, metrics: &Metrics) {
        let Some(error) = wrong else {
            return self.tls_fails.store(false, Ordering::Relaxed);
        };
        metrics.bad_input("backend_tls");
        if !self.tls_fails.swap(true, Ordering::Relaxed) {
            let (fleet, backend, address) = (&self.fleet, &self.id, self.address);
            tracing::warn!(%fleet, %backend, %address, %error, "TLS with the backend fails; check backends.tls and its certificate");
        }
    }

    /// Sends what State has not been told yet, as far as the channel takes it.
    pub(crate) fn tell_dials(&self, events: &mpsc::Sender<Event>) {
        let event = |connected| Event::Dial { fleet: self.fleet.clone(), backend: self.id.clone(), connected };
        // The success came after what failed before it, and wiped that out.
        if self.dials.connected.swap(false, Ordering::AcqRel) && events.try_send(event(true)).is_err() {
            self.dials.connected.store(true, Ordering::Release);
            return;
        }
        let untold = self.dials.failed.swap(0, Ordering::AcqRel);
        for sent in 0..untold {
            if events.try_send(event(false)).is_err() {
                self.dials.failed.fetch_add(untold - sent, Ordering::AcqRel);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::admission::fleet::tests::{address, fleet, ready, view};

    #[test]
    fn what_the_channel_does_not_take_is_told_later() {
        let fleet = fleet("chat");
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(1), 2)]));
        let a = fleet.backend(&"a".into()).unwrap();
        let (events, mut seen) = mpsc::channel(1);
        let outcome = |seen: &mut mpsc::Receiver<Event>| match seen.try_recv() {
            Ok(Event::Dial { connected, .. }) => Some(connected),
            _ => None,
        };
        for _ in 0..3 {
            a.dialled(false, Moment::START, &events);
        }
        for _ in 0..3 {
            assert_eq!(outcome(&mut seen), Some(false));
            a.tell_dials(&events);
        }
        assert_eq!(outcome(&mut seen), None);
        // A success is reported at once after a change, else once a second.
        a.dialled(true, Moment::from_millis(2_000), &events);
        assert_eq!(outcome(&mut seen), Some(true));
        a.dialled(true, Moment::from_millis(2_500), &events);
        assert_eq!(outcome(&mut seen), None);
    }
}
