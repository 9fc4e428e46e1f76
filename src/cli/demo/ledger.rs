//! What was written and what was heard of it: how long a delta takes from the mutation to each of its room, and whether one is missing. Pure.

use std::collections::HashMap;
use std::time::Duration;

use holdline_core::time::Moment;
use serde::Serialize;

/// Deltas, in the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Deltas {
    /// Mutations that changed something.
    pub(super) written: u64,
    /// Heard as they happened, by each user of the room.
    pub(super) delivered: u64,
    /// Heard later, because the user's connection had been lost.
    pub(super) recovered: u64,
    /// Never heard by a user who was there: one that was jumped over, or that had not come when the user left.
    pub(super) missing: u64,
}

/// From the mutation to the delivery, of those delivered as they happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct DeliveryMs {
    /// Half of them took no longer.
    pub(super) p50: f64,
    /// 99 of 100 took no longer.
    pub(super) p99: f64,
}

/// Everything that the users wrote and heard.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    deltas: Deltas,
    rooms: HashMap<String, HashMap<u64, Delta>>,
    newest: HashMap<String, u64>,
    /// Deliveries by their time in steps of [`STEP`].
    times: HashMap<u64, u64>,
}

/// Times are kept this exactly.
const STEP: Duration = Duration::from_micros(100);

/// One delta: its mutation's time is known only when that was answered, and some have heard it by then.
#[derive(Debug)]
enum Delta {
    Written(Moment),
    Heard(Vec<Moment>),
}

impl Ledger {
    /// A mutation that was sent at `sent` has made this delta.
    pub(super) fn written(&mut self, room: &str, seq: u64, sent: Moment) {
        self.deltas.written += 1;
        let newest = self.newest.entry(room.to_owned()).or_default();
        *newest = seq.max(*newest);
        let known = self.rooms.entry(room.to_owned()).or_default().insert(seq, Delta::Written(sent));
        if let Some(Delta::Heard(heard)) = known {
            heard.into_iter().for_each(|at| self.took(at.since(sent)));
        }
    }

    /// A user heard it as it happened.
    pub(super) fn delivered(&mut self, room: &str, seq: u64, at: Moment) {
        self.deltas.delivered += 1;
        // Without a name that is new, nothing is allocated: this is called for each user of a room.
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.to_owned(), HashMap::new());
        }
        let Some(deltas) = self.rooms.get_mut(room) else { return };
        match deltas.entry(seq).or_insert_with(|| Delta::Heard(Vec::new())) {
            Delta::Written(sent) => {
                let took = at.since(*sent);
                self.took(took);
            }
            Delta::Heard(heard) => heard.push(at),
        }
    }

    /// A user heard it late.
    pub(super) fn recovered(&mut self) {
        self.deltas.recovered += 1;
    }

    /// A user will never hear these.
    pub(super) fn missing(&mut self, deltas: u64) {
        self.deltas.missing += deltas;
    }

    /// The newest delta that was surely written in a room; 0 with none.
    pub(super) fn newest(&self, room: &str) -> u64 {
        self.newest.get(room).copied().unwrap_or(0)
    }

    pub(super) fn deltas(&self) -> Deltas {
        self.deltas
    }

    pub(super) fn delivery_ms(&self) -> DeliveryMs {
        let mut times: Vec<_> = self.times.iter().map(|(step, n)| (*step, *n)).collect();
        times.sort_unstable();
        let all: u64 = times.iter().map(|(_, n)| n).sum();
        let at = |share: f64| {
            let rank = (all as f64 * share).ceil() as u64;
            let mut seen = 0;
            let step = times.iter().find_map(|(step, n)| {
                seen += n;
                (seen >= rank).then_some(*step)
            });
            step.map_or(0.0, |step| (step * STEP.as_micros() as u64) as f64 / 1e3)
        };
        DeliveryMs { p50: at(0.5), p99: at(0.99) }
    }

    fn took(&mut self, time: Duration) {
        *self.times.entry(time.as_micros().div_ceil(STEP.as_micros()) as u64).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    #[test]
    fn a_delivery_is_timed_whether_it_or_the_answer_comes_first() {
        let mut ledger = Ledger::default();
        assert_eq!((ledger.newest("a"), ledger.delivery_ms()), (0, DeliveryMs::default()));
        ledger.delivered("a", 1, at(103));
        ledger.written("a", 1, at(100));
        ledger.delivered("a", 1, at(105));
        ledger.written("a", 3, at(200));
        ledger.written("a", 2, at(200));
        // Another room's deltas have the same numbers.
        ledger.delivered("b", 1, at(900));
        ledger.written("b", 1, at(100));
        assert_eq!(ledger.delivery_ms(), DeliveryMs { p50: 5.0, p99: 800.0 });
        assert_eq!((ledger.newest("a"), ledger.newest("b")), (3, 1));
        ledger.recovered();
        ledger.missing(2);
        assert_eq!(ledger.deltas(), Deltas { written: 4, delivered: 3, recovered: 1, missing: 2 });
    }

    #[test]
    fn percentiles_are_of_all_deliveries() {
        let mut ledger = Ledger::default();
        for seq in 1..=1_000 {
            ledger.written("a", seq, at(0));
            ledger.delivered("a", seq, at(seq));
        }
        assert_eq!(ledger.delivery_ms(), DeliveryMs { p50: 500.0, p99: 990.0 });
    }
}
