//! What is known of a rebalance under way.

use crate::cause::EndCause;
use crate::drain::{Move, Pace};
use crate::ids::BackendId;
use crate::snapshot::MoveView;
use crate::time::Moment;

use super::backend::Backend;

/// A rebalance under way.
#[derive(Clone, Debug)]
pub(super) struct Rebalance {
    pub(super) pace: Pace,
    pub(super) started: Moment,
    pub(super) parts: Vec<Part>,
}

/// A backend that is fuller than the others.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) backend: BackendId,
    /// Sessions it shall keep.
    pub(super) target: u32,
    pub(super) sessions: Move,
}

impl Part {
    pub(super) fn left(&self, backends: &[Backend]) -> u32 {
        backends.iter().find(|b| b.id == self.backend).map_or(0, |b| b.used.saturating_sub(self.target))
    }
}

impl Rebalance {
    /// Sessions of this backend that were told to go and are still there.
    pub(super) fn leaving(&self, backend: &BackendId) -> u32 {
        self.parts.iter().find(|p| p.backend == *backend).map_or(0, |p| p.sessions.leaving())
    }

    pub(super) fn left(&self, backends: &[Backend]) -> u32 {
        self.parts.iter().map(|p| p.left(backends)).sum()
    }

    pub(super) fn view(&self, backends: &[Backend]) -> MoveView {
        let parts = self.parts.iter().map(|p| p.sessions.view(p.left(backends), 0));
        let (total, planned) = parts.fold((0, 0), |(total, planned), p| (total + p.total, planned + p.planned));
        MoveView {
            started: self.started,
            total,
            remaining: self.left(backends),
            planned,
            due: self.started + self.pace.over,
            deadline: self.started + self.pace.deadline,
            mode: self.pace.mode,
            cause: EndCause::Rebalanced,
            // Its deadline leaves sessions where they are.
            cut: 0,
        }
    }
}
