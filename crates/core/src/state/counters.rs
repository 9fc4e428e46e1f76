//! The gateway's counters, from which the autoscaler sees what came and went.

use crate::event::FleetCounts;

/// Their last values, and what they grew by since the last decision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    last: Option<Totals>,
    pub(super) grown: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) admitted: u64,
    pub(super) ended: u64,
    pub(super) refused: u64,
    pub(super) no_backend: u64,
    /// Counted here, not by the gateway: sessions that were told to leave.
    pub(super) moved: u64,
}

impl Counters {
    pub(super) fn take(&mut self, counts: &FleetCounts) {
        let now = Totals {
            admitted: counts.admitted_total,
            ended: counts.ended_total,
            refused: counts.refused_total,
            no_backend: counts.no_backend_total,
            moved: 0,
        };
        // Counters start at zero with the gateway, as State does.
        let last = self.last.replace(now).unwrap_or_default();
        self.grown.admitted += now.admitted.saturating_sub(last.admitted);
        self.grown.ended += now.ended.saturating_sub(last.ended);
        self.grown.refused += now.refused.saturating_sub(last.refused);
        self.grown.no_backend += now.no_backend.saturating_sub(last.no_backend);
    }

    /// So many sessions were told to leave, to come back elsewhere.
    pub(super) fn moved(&mut self, sessions: u32) {
        self.grown.moved += u64::from(sessions);
    }
}
