//! Children whose command changed are replaced one after the other: the new one first, as long as the fleet may have one more.

use crate::cause::Phase;
use crate::ids::BackendId;
use crate::time::Moment;

use super::backend::Backend;
use super::fleet::{FleetState, Replacement};

impl FleetState {
    /// Goes on with the replacement under way, or begins the next.
    pub(super) fn roll(&mut self, now: Moment) {
        if self.shutting_down || self.leaving || !self.is_elastic() {
            self.replacement = None;
            return;
        }
        if let Some(Replacement { new, old }) = self.replacement.clone() {
            match self.position(&new).map(|at| self.backends[at].phase()) {
                Some(Phase::Starting) => return,
                Some(Phase::Ready) => self.replace(&old, &new, now),
                // It failed; the old one stays in service until another start succeeds.
                _ => {}
            }
            self.replacement = None;
            self.changed();
        }
        let Some(old) = self.next_outdated().filter(|_| self.backoff.allows(now)) else { return };
        let has_room = self.counting() < self.policy.scale.max as usize;
        let new = self.start(&format!("the command of `{old}` changed"), now);
        if !has_room {
            // One more than scale.max is not allowed, so its place must be free first.
            self.replace(&old, &new, now);
        }
        self.replacement = Some(Replacement { new, old });
    }

    fn replace(&mut self, old: &BackendId, new: &BackendId, now: Moment) {
        let stays = |b: &Backend| b.drain.is_none() && !b.retiring;
        if let Some(at) = self.position(old).filter(|at| stays(&self.backends[*at])) {
            self.let_go(at, &format!("its command changed and `{new}` takes its place"), now);
        }
    }

    /// What is idle or does not even run yet comes first.
    fn next_outdated(&self) -> Option<BackendId> {
        let counts = |b: &&Backend| !b.retiring && matches!(b.phase(), Phase::Starting | Phase::Ready | Phase::Suspect);
        let outdated = self.backends.iter().filter(counts).filter(|b| b.is_outdated(&self.policy));
        outdated.min_by_key(|b| b.used).map(|b| b.id.clone())
    }
}
