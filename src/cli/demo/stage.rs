//! What all simulated users share, and what they saw.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdline_live::client::{Api, ApiError, End, How};
use holdline_live::wall::Recovery;
use parking_lot::Mutex;

use super::ledger::Ledger;
use crate::clock::Clock;

/// The fleet that holds the users' sessions.
pub(super) const NODES: &str = "nodes";
/// Users to a room: what one does is heard by all of it, so rooms keep the traffic linear.
const ROOM_SIZE: u32 = 10;
/// How often a user does something, in a small crowd.
const ACTS_EVERY: Duration = Duration::from_secs(2);
/// What a large one does in a second; each is a transaction.
const ACTS_PER_S_MAX: f64 = 100.0;

/// The room with this user in it.
pub(super) fn room_of(number: u32) -> String {
    format!("wall-{}", number / ROOM_SIZE)
}

/// What all users share.
pub(super) struct Stage {
    /// Where they go.
    pub(super) api: Api,
    pub(super) clock: Clock,
    pub(super) tally: Tally,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) acts_every: Duration,
}

/// How the users' sessions went.
#[derive(Debug, Default)]
pub(super) struct Tally {
    opened: AtomicU64,
    refused: AtomicU64,
    moved: AtomicU64,
    lost: AtomicU64,
    no_answer: AtomicU64,
    /// The first few reasons, for people.
    reasons: Mutex<Vec<String>>,
}

/// Reasons that are kept; one says as much as a hundred.
const REASONS_MAX: usize = 5;

impl Stage {
    pub(super) fn new(authority: String, clients: u32, clock: Clock) -> Self {
        let acts_every = ACTS_EVERY.max(Duration::from_secs_f64(f64::from(clients) / ACTS_PER_S_MAX));
        Stage { api: Api::new(authority), clock, tally: Tally::default(), ledger: Mutex::default(), acts_every }
    }

    /// Makes the users' rooms.
    pub(super) async fn set(&self, clients: u32) -> Result<(), ApiError> {
        for first in (0..clients).step_by(ROOM_SIZE as usize) {
            self.api.make_room(&room_of(first), Recovery::Strong {}).await?;
        }
        Ok(())
    }
}

impl Tally {
    /// A session began.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// One ended, or none was had.
    pub(super) fn ended(&self, end: &End, had_session: bool) {
        let ended = Ended::of(end, had_session);
        let counter = match ended {
            Ended::Moved => &self.moved,
            Ended::Refused => &self.refused,
            Ended::Lost => &self.lost,
            Ended::NoAnswer => &self.no_answer,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let word = if ended == Ended::Lost { "lost" } else { "no answer" };
        match &end.how {
            How::Broken(why) => self.note(format!("{word}: {why}")),
            How::FromTheFuture => self.note(format!("{word}: a node knew less than a user")),
            How::Moved | How::Busy | How::Refused(_) => {}
        }
    }

    /// A user cannot go on.
    pub(super) fn failed(&self, why: String) {
        self.no_answer.fetch_add(1, Ordering::Relaxed);
        self.note(why);
    }

    pub(super) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            opened: of(&self.opened),
            refused: of(&self.refused),
            moved: of(&self.moved),
            lost: of(&self.lost),
            no_answer: of(&self.no_answer),
        }
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        self.reasons.lock().clone()
    }

    fn note(&self, reason: String) {
        let mut reasons = self.reasons.lock();
        if reasons.len() < REASONS_MAX {
            reasons.push(reason);
        }
    }
}

/// How a session, or the attempt to have one, ended for the tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Moved,
    Refused,
    Lost,
    NoAnswer,
}

impl Ended {
    fn of(end: &End, had_session: bool) -> Self {
        match end.how {
            How::Moved => Ended::Moved,
            How::Busy => Ended::Refused,
            How::Broken(_) if had_session => Ended::Lost,
            How::Broken(_) | How::FromTheFuture | How::Refused(_) => Ended::NoAnswer,
        }
    }
}

/// A tally at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) opened: u64,
    pub(super) refused: u64,
    pub(super) moved: u64,
    pub(super) lost: u64,
    /// Attempts that found nobody: a fault, unless Holdline was stopped in the middle of the show.
    pub(super) no_answer: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(how: How) -> End {
        End { how, asked: Duration::ZERO }
    }

    #[test]
    fn ends_are_told_apart() {
        let tally = Tally::default();
        tally.opened();
        tally.ended(&end(How::Moved), true);
        tally.ended(&end(How::Busy), false);
        tally.ended(&end(How::Broken("cut".to_owned())), true);
        tally.ended(&end(How::Broken("nobody".to_owned())), false);
        tally.ended(&end(How::FromTheFuture), false);
        assert_eq!(tally.counts(), Counts { opened: 1, refused: 1, moved: 1, lost: 1, no_answer: 2 });
        assert_eq!(tally.reasons(), ["lost: cut", "no answer: nobody", "no answer: a node knew less than a user"]);
    }

    #[test]
    fn a_large_crowd_says_less_each() {
        let every = |clients| Stage::new(String::new(), clients, Clock::start()).acts_every;
        assert_eq!((every(1), every(200), every(1_000)), (ACTS_EVERY, ACTS_EVERY, Duration::from_secs(10)));
    }
}
