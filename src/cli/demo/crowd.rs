//! All simulated users together, and what they saw.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{self, End, Kind};
use super::wave::{Stay, Wave};

/// Users to a room: a word in a room is heard by all of it, so rooms keep the traffic linear.
const ROOM_SIZE: u32 = 10;
/// One user in so many reads an event stream instead of a WebSocket.
const EVENT_STREAM_ONE_IN: u32 = 4;
/// A user that was told to connect again does so after up to this time.
const RECONNECT_WITHIN: Duration = Duration::from_millis(500);

/// What the users saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    opened: AtomicU64,
    refused: AtomicU64,
    moved: AtomicU64,
    lost: AtomicU64,
    no_answer: AtomicU64,
    /// The first few reasons, for people.
    reasons: parking_lot::Mutex<Vec<String>>,
}

/// Reasons that are kept; one says as much as a hundred.
const REASONS_MAX: usize = 5;

impl Tally {
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Attempts that found nobody: a fault, unless Holdline was stopped in the middle of the show.
    pub(super) fn no_answer(&self) -> u64 {
        self.no_answer.load(Ordering::Relaxed)
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        self.reasons.lock().clone()
    }

    fn count(&self, end: &End) {
        let counter = match end {
            End::Left => return,
            End::Moved => &self.moved,
            End::Refused { .. } => &self.refused,
            End::Lost(reason) => {
                self.note(format!("lost: {reason}"));
                &self.lost
            }
            End::NoAnswer(reason) => {
                self.note(format!("no answer: {reason}"));
                &self.no_answer
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, reason: String) {
        let mut reasons = self.reasons.lock();
        if reasons.len() < REASONS_MAX {
            reasons.push(reason);
        }
    }
}

/// Plays the whole wave; resolves when the last user has left.
pub(super) async fn play(wave: Wave, address: SocketAddr, start: Instant, tally: Arc<Tally>) {
    let mut users = JoinSet::new();
    for (number, stay) in (0u32..).zip(wave.stays()) {
        users.spawn(user(number, stay, address, start, Arc::clone(&tally)));
    }
    while users.join_next().await.is_some() {}
}

/// One user: comes, stays connected through moves and refusals, leaves.
async fn user(number: u32, stay: Stay, address: SocketAddr, start: Instant, tally: Arc<Tally>) {
    let kind = if number % EVENT_STREAM_ONE_IN == EVENT_STREAM_ONE_IN - 1 { Kind::EventStream } else { Kind::WebSocket };
    let leave = start + stay.leaves;
    tokio::time::sleep_until(start + stay.comes).await;
    while start.elapsed() < stay.leaves {
        let opened = || {
            tally.opened.fetch_add(1, Ordering::Relaxed);
        };
        let end = client::connect(kind, address, number / ROOM_SIZE, leave, opened).await;
        tally.count(&end);
        let pause = match end {
            End::Left => return,
            End::Refused { retry_after } => retry_after,
            End::Moved | End::Lost(_) | End::NoAnswer(_) => spread(number),
        };
        tokio::time::sleep_until((start + start.elapsed() + pause).min(leave)).await;
    }
}

/// Not all at once: a fixed, different pause for each user.
fn spread(number: u32) -> Duration {
    RECONNECT_WITHIN.mul_f64(f64::from(number.wrapping_mul(2_654_435_761) >> 16) / f64::from(1u32 << 16))
}

#[cfg(test)]
mod tests {
    use super::super::summary::Summary;
    use super::*;

    #[test]
    fn who_finds_nobody_is_lost_unless_the_show_was_interrupted() {
        let tally = Tally::default();
        for end in [End::Left, End::Moved, End::NoAnswer("refused".to_owned())] {
            tally.count(&end);
        }
        for (interrupted, lost) in [(true, 0), (false, 1)] {
            let mut summary = Summary::default();
            summary.tally(&tally, interrupted);
            assert_eq!((summary.moved, summary.lost, summary.is_good()), (1, lost, interrupted));
            assert_eq!(summary.to_string().contains("no answer: refused"), !interrupted, "{summary}");
        }
    }
}
