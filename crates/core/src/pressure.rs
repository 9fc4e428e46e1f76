//! Memory against its ceiling: whether new sessions may begin.

use crate::time::Moment;

/// The share of the ceiling below which sessions begin again, in percent: a gateway that refused at 100 % and admitted at 99 % would
/// do both in turns.
const AGAIN_PERCENT: u64 = 95;

/// The rule, with its memory of what it said last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    since: Option<Moment>,
}

/// A change of what the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sessions are refused from now on.
    Refuses,
    /// They begin again; refused since this moment.
    Admits {
        /// When it began to refuse.
        since: Moment,
    },
}

impl Pressure {
    /// Looks at `used` bytes under a `ceiling` (`None`: there is none). Says what changed.
    pub fn look(&mut self, used: u64, ceiling: Option<u64>, now: Moment) -> Option<Change> {
        match (self.since, ceiling) {
            (None, Some(ceiling)) if used > ceiling => {
                self.since = Some(now);
                Some(Change::Refuses)
            }
            (Some(_), Some(ceiling)) if u128::from(used) * 100 >= u128::from(ceiling) * u128::from(AGAIN_PERCENT) => None,
            (Some(since), _) => {
                self.since = None;
                Some(Change::Admits { since })
            }
            (None, _) => None,
        }
    }

    /// Whether sessions are refused.
    pub fn refuses(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_above_the_ceiling_and_admits_again_well_below() {
        let (mut pressure, at) = (Pressure::default(), Moment::from_millis);
        let ceiling = Some(1_000);
        assert_eq!(pressure.look(1_000, ceiling, at(0)), None);
        assert!(!pressure.refuses());
        assert_eq!(pressure.look(1_001, ceiling, at(1)), Some(Change::Refuses));
        assert_eq!(pressure.look(2_000, ceiling, at(2)), None);
        assert_eq!(pressure.look(950, ceiling, at(3)), None);
        assert!(pressure.refuses());
        assert_eq!(pressure.look(949, ceiling, at(4)), Some(Change::Admits { since: at(1) }));
        assert_eq!(pressure.look(1_000, ceiling, at(5)), None);
        assert!(!pressure.refuses());
    }

    #[test]
    fn without_a_ceiling_nothing_is_refused() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.look(u64::MAX, None, Moment::START), None);
        pressure.look(u64::MAX, Some(u64::MAX - 1), Moment::START);
        assert!(pressure.refuses());
        assert_eq!(pressure.look(u64::MAX, None, Moment::START), Some(Change::Admits { since: Moment::START }));
    }
}
