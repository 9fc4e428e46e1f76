//! Long-poll: a client that asks again and again is one session from its first answer until it stays away.
//!
//! Between two polls nothing of the client is here but its seat, so the end has to be inferred: no poll in flight for [`LINGER`].

use std::time::Duration;

use crate::cause::EndCause;
use crate::time::Moment;

/// How long a client that has no poll in flight keeps its seat. Clients come back within a round trip, or within the few seconds that
/// their back-off takes after an error.
pub const LINGER: Duration = Duration::from_secs(10);

/// How long a poll of a session that passed a deadline of its own may go on.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long a seat waits for polls that were broken off. One whose client does not read ends with its connection, which may be much later.
pub const CUT_TIME: Duration = Duration::from_secs(5);

/// The life of one long-poll session. It begins with its first poll in flight, and counts once the backend has answered one without an
/// error.
#[derive(Clone, Debug)]
pub struct PollSession {
    /// Zero: nobody could know the client again.
    linger: Duration,
    polls: u32,
    /// When the last poll was over.
    quiet_since: Moment,
    /// The last answer went out whole.
    was_whole: bool,
    counts: bool,
    ending: Option<Ending>,
    is_over: bool,
}

/// Why a session takes no more polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The polls in flight are let finish, until then at most.
    Leaving(EndCause, Option<Moment>),
    /// They are broken off; the seat waits for them until then.
    Cut(EndCause, Moment),
    /// Its backend cannot be reached, or is gone.
    Lost,
}

/// What is to be done with a session now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollAction {
    /// Nothing.
    Stays,
    /// Break off its polls in flight.
    Cut,
    /// Give its seat back, for this cause; `None`: it never was a session. Said once.
    Over(Option<EndCause>),
}

impl PollSession {
    /// Of a client that is known again by its key.
    pub fn new(now: Moment) -> Self {
        Self::lingering(LINGER, now)
    }

    /// Of a client that nobody could know again: over with its only poll.
    pub fn of_one_poll(now: Moment) -> Self {
        Self::lingering(Duration::ZERO, now)
    }

    fn lingering(linger: Duration, now: Moment) -> Self {
        PollSession { linger, polls: 1, quiet_since: now, was_whole: false, counts: false, ending: None, is_over: false }
    }

    /// Another poll of the client, if the session still takes it; else the client begins another session.
    #[must_use]
    pub fn join(&mut self) -> bool {
        let joins = self.takes_polls();
        self.polls += u32::from(joins);
        joins
    }

    /// Whether [`PollSession::join`] would.
    pub fn takes_polls(&self) -> bool {
        self.ending.is_none() && !self.is_over
    }

    /// The backend answered one of its polls without an error: from now on it counts.
    pub fn answered(&mut self) {
        self.counts = true;
    }

    /// A poll is over; `whole`: the client got all of its answer.
    pub fn left(&mut self, whole: bool, now: Moment) {
        self.polls = self.polls.saturating_sub(1);
        self.was_whole = whole;
        self.quiet_since = now;
    }

    /// No poll could be heard until `now`, since the process stood still: the time in which the client may come back begins anew.
    pub fn excuse(&mut self, now: Moment) {
        self.quiet_since = self.quiet_since.max(now);
    }

    /// It is told to go between two polls.
    pub fn leave(&mut self, cause: EndCause) {
        self.end(Ending::Leaving(cause, None));
    }

    /// A deadline of its own has passed: as [`PollSession::leave`], but not for ever.
    pub fn expire(&mut self, cause: EndCause, now: Moment) {
        self.end(Ending::Leaving(cause, Some(now + GRACE)));
    }

    /// It is told to go at once.
    pub fn cut(&mut self, cause: EndCause, now: Moment) {
        if !matches!(self.ending, Some(Ending::Cut(..))) {
            self.ending = Some(Ending::Cut(cause, now + CUT_TIME));
        }
    }

    /// Its backend cannot be reached any more.
    pub fn lose(&mut self) {
        self.end(Ending::Lost);
    }

    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    /// What is to be done at `now`.
    pub fn step(&mut self, now: Moment) -> PollAction {
        if self.is_over {
            return PollAction::Stays;
        }
        if let Some(Ending::Leaving(cause, Some(until))) = self.ending
            && now >= until
        {
            self.cut(cause, now);
        }
        match (self.polls, self.ending) {
            (1.., Some(Ending::Cut(_, until))) if now < until => PollAction::Cut,
            (1.., Some(Ending::Cut(cause, _))) => self.over(Some(cause)),
            (1.., _) => PollAction::Stays,
            (0, Some(Ending::Leaving(cause, _) | Ending::Cut(cause, _))) => self.over(Some(cause)),
            (0, _) if !self.counts => self.over(None),
            (0, Some(Ending::Lost)) => self.over(Some(EndCause::BackendLost)),
            // The answer was the end of it, and a proper one.
            (0, None) if self.linger.is_zero() && self.was_whole => self.over(Some(EndCause::BackendClosed)),
            (0, None) if now.since(self.quiet_since) >= self.linger => self.over(Some(EndCause::ClientLost)),
            (0, None) => PollAction::Stays,
        }
    }

    /// Whether [`PollSession::step`] has something to do that does not wait for time to pass.
    pub fn is_due(&self) -> bool {
        !self.is_over && self.polls == 0 && (self.ending.is_some() || !self.counts || self.linger.is_zero())
    }

    fn over(&mut self, cause: Option<EndCause>) -> PollAction {
        self.is_over = true;
        PollAction::Over(cause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    /// A session whose first poll was answered and is over at `ms`.
    fn answered(ms: u64) -> PollSession {
        let mut life = PollSession::new(at(0));
        life.answered();
        life.left(true, at(ms));
        life
    }

    #[test]
    fn the_seat_lingers_for_ten_seconds_after_each_poll() {
        let mut life = answered(1_000);
        assert_eq!(life.step(at(10_999)), PollAction::Stays);
        assert!(life.join());
        assert_eq!(life.step(at(60_000)), PollAction::Stays, "a poll may hang for long");
        life.left(true, at(60_000));
        assert_eq!(life.step(at(69_999)), PollAction::Stays);
        assert_eq!(life.step(at(70_000)), PollAction::Over(Some(EndCause::ClientLost)));
        assert_eq!(life.step(at(70_001)), PollAction::Stays, "said once");
        assert!(!life.join());
    }

    #[test]
    fn a_client_that_could_not_be_heard_has_its_time_anew() {
        let mut life = answered(1_000);
        life.excuse(at(26_000));
        assert_eq!(life.step(at(35_999)), PollAction::Stays);
        assert_eq!(life.step(at(36_000)), PollAction::Over(Some(EndCause::ClientLost)));
    }

    #[test]
    fn what_no_backend_answered_well_never_was_a_session() {
        let mut life = PollSession::new(at(0));
        assert_eq!((life.step(at(60_000)), life.is_due()), (PollAction::Stays, false));
        life.left(true, at(60_000));
        assert!(life.is_due());
        assert_eq!(life.step(at(60_000)), PollAction::Over(None));
    }

    #[test]
    fn one_good_answer_is_enough_while_others_fail() {
        let mut life = PollSession::new(at(0));
        assert!(life.join());
        life.left(true, at(5));
        assert_eq!(life.step(at(5)), PollAction::Stays, "the other is in flight");
        life.answered();
        life.left(true, at(9));
        assert_eq!((life.step(at(10)), life.is_due()), (PollAction::Stays, false));
    }

    #[test]
    fn told_to_leave_it_goes_between_two_polls() {
        let mut idle = answered(0);
        idle.leave(EndCause::Drained);
        assert_eq!(idle.step(at(1)), PollAction::Over(Some(EndCause::Drained)));
        let mut busy = answered(0);
        assert!(busy.join());
        busy.leave(EndCause::Rebalanced);
        assert!(!busy.join(), "the next poll is placed elsewhere");
        assert_eq!(busy.step(at(600_000)), PollAction::Stays);
        busy.left(true, at(600_000));
        assert_eq!(busy.step(at(600_000)), PollAction::Over(Some(EndCause::Rebalanced)));
    }

    #[test]
    fn a_cut_breaks_off_and_waits_five_seconds_at_most() {
        let mut life = answered(0);
        assert!(life.join());
        life.leave(EndCause::Drained);
        life.cut(EndCause::Cut, at(100));
        assert_eq!(life.step(at(100)), PollAction::Cut);
        let mut stuck = life.clone();
        life.left(false, at(150));
        assert_eq!(life.step(at(150)), PollAction::Over(Some(EndCause::Cut)));
        assert_eq!(stuck.step(at(5_099)), PollAction::Cut);
        assert_eq!(stuck.step(at(5_100)), PollAction::Over(Some(EndCause::Cut)));
        stuck.left(false, at(6_000));
    }

    #[test]
    fn a_deadline_of_its_own_leaves_polls_ten_seconds() {
        let mut life = answered(0);
        assert!(life.join());
        life.expire(EndCause::SessionTimeout, at(1_000));
        life.expire(EndCause::SessionTimeout, at(5_000));
        assert_eq!(life.step(at(10_999)), PollAction::Stays);
        assert_eq!(life.step(at(11_000)), PollAction::Cut);
        life.left(false, at(11_000));
        assert_eq!(life.step(at(11_000)), PollAction::Over(Some(EndCause::SessionTimeout)));
    }

    #[test]
    fn with_its_backend_a_session_is_lost() {
        let mut life = answered(0);
        life.lose();
        life.leave(EndCause::Drained);
        assert!(!life.join());
        assert_eq!(life.step(at(1)), PollAction::Over(Some(EndCause::BackendLost)));
        let mut unanswered = PollSession::new(at(0));
        unanswered.lose();
        unanswered.left(false, at(1));
        assert_eq!(unanswered.step(at(1)), PollAction::Over(None));
    }

    #[test]
    fn a_client_without_a_key_is_gone_with_its_answer() {
        for (whole, cause) in [(true, EndCause::BackendClosed), (false, EndCause::ClientLost)] {
            let mut life = PollSession::of_one_poll(at(0));
            life.answered();
            life.left(whole, at(3));
            assert!(life.is_due());
            assert_eq!(life.step(at(3)), PollAction::Over(Some(cause)));
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Wait(u64),
        Join,
        Answered,
        Left(bool),
        Leave,
        Expire,
        Cut,
        Lose,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            8 => (0..15_000_u64).prop_map(Act::Wait),
            8 => Just(Act::Join),
            4 => Just(Act::Answered),
            12 => any::<bool>().prop_map(Act::Left),
            1 => Just(Act::Leave),
            1 => Just(Act::Expire),
            1 => Just(Act::Cut),
            1 => Just(Act::Lose),
        ];
        prop::collection::vec(act, 1..60)
    }

    proptest! {
        /// Whatever comes in whatever order: it is over once, with a cause if it counted, only without a poll in flight (save one that was
        /// cut and hangs), and not before its time unless something ends it.
        #[test]
        fn a_life_ends_once_and_not_early(acts in acts()) {
            let mut life = PollSession::new(at(0));
            let (mut now, mut polls, mut quiet, mut counted, mut ended, mut cut) = (0, 1_u32, 0, false, false, None);
            let mut over = None;
            for act in acts {
                match act {
                    Act::Wait(ms) => now += ms,
                    Act::Join => {
                        let joined = life.join();
                        prop_assert_eq!(joined, !ended && over.is_none());
                        polls += u32::from(joined);
                    }
                    Act::Answered if polls > 0 => { life.answered(); counted |= over.is_none(); }
                    Act::Left(whole) if polls > 0 => { life.left(whole, at(now)); polls -= 1; quiet = now; }
                    Act::Leave => { life.leave(EndCause::Drained); ended = true; }
                    Act::Expire => { life.expire(EndCause::IdleTimeout, at(now)); ended = true; }
                    Act::Cut => { life.cut(EndCause::Cut, at(now)); ended = true; cut.get_or_insert(now); }
                    Act::Lose => { life.lose(); ended = true; }
                    Act::Answered | Act::Left(_) => {}
                }
                let due = life.is_due();
                let step = life.step(at(now));
                prop_assert!(!due || matches!(step, PollAction::Over(_)), "due at once, and {step:?}");
                match step {
                    PollAction::Stays => {}
                    PollAction::Cut => { prop_assert!(ended && polls > 0); cut.get_or_insert(now); }
                    PollAction::Over(cause) => {
                        prop_assert_eq!(over, None);
                        over = Some(now);
                        prop_assert!(polls == 0 || cut.is_some_and(|since| now >= since + 5_000));
                        prop_assert!(ended || !counted || now >= quiet + 10_000);
                        prop_assert!(cause.is_some() || !counted);
                    }
                }
            }
            // Left alone it does not stay.
            (0..polls).for_each(|_| life.left(true, at(now)));
            let last = life.step(at(now + 10_000));
            prop_assert_eq!(over.is_none(), matches!(last, PollAction::Over(_)));
        }
    }
}
