//! The long-poll sessions that began on one thread: their seats, and their places among its sessions.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use holdline_core::affinity::Key;
use holdline_core::drain::Ending;
use holdline_core::ids::SessionId;
use holdline_core::policy::DrainMode;
use holdline_core::poll::PollAction;
use holdline_core::time::Moment;
use slab::Slab;
use tokio::time::MissedTickBehavior;

use super::held::{By, DueSessions, SharedPollSession};
use super::table::Table;
use crate::clock::{Clock, HELD_UP};
use crate::gateway::admission::waiter::Admitted;
use crate::gateway::limits::permit::SessionPermit;
use crate::gateway::session::kind::SessionKind;
use crate::gateway::session::registry::{Entered, Registry};
use crate::gateway::session::target::Session;
use crate::gateway::session::timer::{Due, TICK};

/// The sessions that began on one thread. A poll on any thread touches its session's counters alone; the keeper looks at all of them once
/// a tick, as the thread's timer does, and at once where one has nothing to wait for.
#[derive(Default)]
pub(crate) struct Keeper {
    kept: RefCell<Slab<Kept>>,
    due_sessions: Arc<DueSessions>,
}

struct Kept {
    held: Arc<SharedPollSession>,
    table: Arc<Table>,
    /// Its seat is in there.
    entered: Entered,
}

/// A session that begins, with all that it holds.
pub(crate) struct Beginning {
    pub(crate) table: Arc<Table>,
    pub(crate) admitted: Admitted,
    pub(crate) permit: SessionPermit,
    pub(crate) id: SessionId,
    /// `None`: its client cannot be known again.
    pub(crate) key: Option<Key>,
    pub(crate) client: SocketAddr,
}

impl Keeper {
    /// Enters a session, its first poll in flight.
    pub(crate) fn enter(&self, registry: &Rc<Registry>, clock: Clock, beginning: Beginning) -> Arc<SharedPollSession> {
        let Beginning { table, admitted: Admitted { backend, seat }, permit, id, key, client } = beginning;
        let mut kept = self.kept.borrow_mut();
        let place = kept.vacant_entry();
        let target = backend.target();
        let held = SharedPollSession::new(
            id,
            backend,
            key,
            permit,
            By { clock, place: place.key(), due_sessions: Arc::clone(&self.due_sessions) },
        );
        // Its connections come and go, and are hyper's.
        let session = Session { id, kind: SessionKind::LongPoll, client, target, seat, permit: None };
        place.insert(Kept { held: Arc::clone(&held), table, entered: registry.enter(session) });
        held
    }

    /// Keeps the thread's sessions, for ever.
    pub(crate) async fn run(&self, clock: Clock) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked_at = clock.now();
        loop {
            tokio::select! {
                () = self.due_sessions.changed.notified() => {
                    let due = std::mem::take(&mut *self.due_sessions.due.lock());
                    due.into_iter().for_each(|place| self.look(place, clock));
                }
                _ = tick.tick() => {
                    let now = clock.now();
                    if now.since(looked_at) >= HELD_UP {
                        self.excuse_all(now);
                    }
                    looked_at = now;
                    self.look_at_all(clock);
                }
            }
        }
    }

    /// Nobody's next poll could be heard until `now`.
    fn excuse_all(&self, now: Moment) {
        self.kept.borrow().iter().for_each(|(_, session)| session.held.life.lock().excuse(now));
    }

    fn look_at_all(&self, clock: Clock) {
        let mut kept = self.kept.borrow_mut();
        kept.retain(|_, session| !session.is_over(clock));
    }

    fn look(&self, place: usize, clock: Clock) {
        let mut kept = self.kept.borrow_mut();
        if kept.get(place).is_some_and(|session| session.is_over(clock)) {
            kept.remove(place);
        }
    }
}

impl Kept {
    /// Obeys orders and deadlines; `true`: its end is recorded, and its seat is to be given back.
    fn is_over(&self, clock: Clock) -> bool {
        let (held, entry, now) = (&self.held, self.entered.entry(), clock.now());
        let (bytes_in, bytes_out, moved) = held.moved.take();
        entry.count_in(bytes_in);
        entry.count_out(bytes_out);
        let mut life = held.life.lock();
        // First, since the timer was not told of it yet.
        if moved {
            entry.stamps.moved.set(self.entered.registry().now());
        }
        if let Some(Due::End(cause)) = self.entered.take_due() {
            life.expire(cause, now);
        }
        match entry.order() {
            Some(Ending { mode: DrainMode::Close, cause }) => life.leave(cause),
            Some(Ending { mode: DrainMode::Cut, cause }) => life.cut(cause, now),
            None => {}
        }
        if !held.backend.serves_its_own() {
            life.lose();
        }
        let step = life.step(now);
        let is_ending = !life.takes_polls();
        drop(life);
        if is_ending {
            entry.stamps.ending.set(true);
            self.table.leave(held);
        }
        match step {
            PollAction::Stays => return false,
            PollAction::Cut => {
                held.cut();
                return false;
            }
            PollAction::Over(Some(cause)) => self.entered.settle(cause),
            PollAction::Over(None) => self.entered.withdraw(),
        }
        held.release_permit();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdline_core::cause::EndCause;
    use holdline_core::poll::LINGER;
    use http::StatusCode;
    use tokio::task::{LocalSet, spawn_local};

    use super::super::held::InFlight;
    use super::*;
    use crate::gateway::admission::fleet::Fleet;
    use crate::gateway::admission::fleet::tests::{address, fleet, policy, ready, view};
    use crate::gateway::admission::handshake::Handshake;
    use crate::gateway::session::registry::keep_time;
    use crate::gateway::session::seat::SeatGuard;
    use crate::gateway::session::target::SessionFilter;

    /// A thread with one long-poll session, whose first poll is in flight.
    struct Rig {
        fleet: Arc<Fleet>,
        registry: Rc<Registry>,
        held: Arc<SharedPollSession>,
    }

    fn begin(change: impl FnOnce(&mut holdline_core::policy::Timeouts)) -> (Rig, InFlight) {
        let mut policy = policy("chat");
        change(&mut policy.timeouts);
        let fleet = fleet("chat").under(Arc::new(policy));
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(1), 1)]));
        let clock = Clock::start();
        let backend = fleet.backend(&"a".into()).unwrap();
        let seat = SeatGuard::new(backend.seats.reserve(clock.now()).unwrap(), &fleet.turnover);
        let (registry, keeper) = (Registry::new(clock, 7), Rc::new(Keeper::default()));
        let beginning = Beginning {
            table: Arc::clone(&fleet.polls),
            admitted: Admitted { backend, seat },
            permit: SessionPermit::alone(),
            id: SessionId(1),
            key: Key::of_value(b"ann"),
            client: address(2),
        };
        let held = keeper.enter(&registry, clock, beginning);
        spawn_local(keep_time(Rc::clone(&registry)));
        spawn_local(async move { keeper.run(clock).await });
        let first = InFlight::first(Arc::clone(&held), Handshake::begin(&fleet.metrics));
        (Rig { fleet, registry, held }, first)
    }

    impl Rig {
        fn is_free(&self) -> bool {
            let counts = self.fleet.counts(Default::default());
            assert_eq!(counts.admitted_total - counts.ended_total, u64::from(counts.backends[0].used));
            counts.ended_total == 1
        }

        fn ended(&self, cause: EndCause) -> bool {
            self.fleet.metrics.totals().ended[cause as usize] == 1
        }

        /// A poll that was answered at once.
        fn polls(&self) {
            drop(self.held.join().unwrap());
        }
    }

    fn answered(mut poll: InFlight) {
        poll.answered(StatusCode::OK);
        poll.ends(true);
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    const TWO_TICKS: Duration = TICK.saturating_mul(2);

    async fn local(test: impl Future<Output = ()>) {
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_seat_lingers_for_ten_seconds() {
        local(async {
            let (rig, first) = begin(|_| ());
            pass(LINGER * 3).await;
            answered(first);
            for _ in 0..3 {
                pass(LINGER - TWO_TICKS).await;
                assert!(!rig.is_free());
                rig.polls();
            }
            pass(LINGER - TWO_TICKS).await;
            assert_eq!((rig.is_free(), rig.registry.list(&SessionFilter::default()).len()), (false, 1));
            pass(TWO_TICKS * 2).await;
            assert!(rig.is_free() && rig.ended(EndCause::ClientLost));
            assert!(rig.held.join().is_none() && rig.registry.is_empty());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_gives_the_seat_back_without_waiting_for_a_tick() {
        local(async {
            let (rig, mut first) = begin(|_| ());
            pass(TICK / 2).await;
            first.answered(StatusCode::FORBIDDEN);
            drop(first);
            pass(TICK / 10).await;
            assert!(rig.is_free() && rig.registry.is_empty());
            assert_eq!(rig.fleet.metrics.totals().ended.iter().sum::<u64>(), 0);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn polls_keep_it_from_its_idle_timeout() {
        local(async {
            let (rig, first) = begin(|t| t.idle = Some(Duration::from_secs(3)));
            answered(first);
            for _ in 0..5 {
                pass(Duration::from_secs(2)).await;
                rig.polls();
            }
            assert!(!rig.is_free());
            pass(Duration::from_secs(3) + TWO_TICKS * 2).await;
            assert!(rig.is_free() && rig.ended(EndCause::IdleTimeout));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn its_session_timeout_leaves_a_poll_ten_seconds() {
        local(async {
            let (rig, first) = begin(|t| t.session = Some(Duration::from_secs(30)));
            answered(first);
            let mut hangs = rig.held.join().unwrap();
            pass(Duration::from_secs(30) + TWO_TICKS).await;
            assert!(rig.held.join().is_none() && !rig.is_free());
            let cut = tokio::time::timeout(Duration::from_secs(10) + TWO_TICKS, hangs.cut()).await;
            assert!(cut.is_ok());
            drop(hangs);
            pass(TWO_TICKS).await;
            assert!(rig.is_free() && rig.ended(EndCause::SessionTimeout));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_waits_five_seconds_for_a_poll_that_was_cut() {
        local(async {
            let (rig, first) = begin(|_| ());
            answered(first);
            let stuck = rig.held.join().unwrap();
            let cut = Ending::CUT;
            let chosen = rig.registry.candidates(&SessionFilter::default(), 1, cut.mode);
            assert_eq!(rig.registry.end(&chosen, cut), 1);
            pass(Duration::from_secs(5)).await;
            assert!(!rig.is_free());
            pass(TWO_TICKS).await;
            assert!(rig.is_free() && rig.ended(EndCause::Cut));
            drop(stuck);
            pass(TWO_TICKS).await;
            assert!(rig.is_free());
        })
        .await;
    }
}
