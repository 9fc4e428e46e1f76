//! What a client knows of its room, and what it must ask for. Pure: deltas and answers go in, in whatever order a bad network makes of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::delta::{Action, Delta};
use crate::wall::{Comment, Deltas, Recovery, Snapshot};

/// Deltas that wait for one before them; those beyond are asked for again. As many as the API gives in an answer.
const AHEAD_MAX: usize = 1_000;
/// Comments to fetch one by one; with more of them, the whole room is the smaller question.
const UNKNOWN_MAX: usize = 64;
/// The newest deltas of an eventual room, which a state that was loaded meanwhile may lack.
const RECENT_MAX: usize = 64;

/// A room as a client knows it: the comments that it loaded, and all that came since.
///
/// In a *strong* room each delta is applied once and in the order of its seq; one that comes too early waits, and what is between is asked for. In an *eventual*
/// room each newer one is applied as it comes; a comment that it is about and that is not known is fetched.
#[derive(Clone, Debug)]
pub struct Replica {
    recovery: Recovery,
    /// The last delta that was applied; strong: all before it were.
    seq: u64,
    /// The newest delta that there is, as far as was heard.
    newest: u64,
    /// Strong: deltas up to here do not come by themselves.
    gap_until: u64,
    /// Strong: whether the API must be asked where the log stands.
    in_doubt: bool,
    /// Comments before this one are not held.
    first: u64,
    comments: BTreeMap<u64, Comment>,
    ahead: BTreeMap<u64, Delta>,
    unknown: BTreeSet<u64>,
    recent: VecDeque<Delta>,
    stale: Stale,
}

/// Whether the room must be loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    No,
    /// What was heard meanwhile goes on top.
    Refetch,
    /// What was heard is of no use: it is older than the log, or of another one.
    Anew {
        /// The last delta that was applied when that was found out: a log that ends before it is another one.
        seq: u64,
    },
}

/// What a replica must ask the API for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The room's state, for [`Replica::load`].
    Room,
    /// The deltas after this one, for [`Replica::recover`].
    Deltas {
        /// The last one that it has.
        after: u64,
    },
    /// One comment, for [`Replica::fetched`].
    Comment(u64),
}

impl Replica {
    /// The room as the API tells it.
    pub fn new(room: Snapshot) -> Self {
        let mut replica = Replica {
            recovery: room.recovery,
            seq: 0,
            newest: 0,
            gap_until: 0,
            in_doubt: false,
            first: 0,
            comments: BTreeMap::new(),
            ahead: BTreeMap::new(),
            unknown: BTreeSet::new(),
            recent: VecDeque::new(),
            stale: Stale::Anew { seq: 0 },
        };
        replica.load(room);
        replica
    }

    /// The last delta that is applied: the `after` of the next question or connection.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How it recovers.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The comments, by their ids.
    pub fn comments(&self) -> &BTreeMap<u64, Comment> {
        &self.comments
    }

    /// Deltas that there are and that are not applied; 0 in an eventual room, which does not ask for them.
    pub fn missing(&self) -> u64 {
        match self.recovery {
            Recovery::Strong {} => self.newest.max(self.gap_until).saturating_sub(self.seq),
            Recovery::Eventual { .. } => 0,
        }
    }

    /// The newest delta that there is: a node's hello. What is up to there comes by itself.
    pub fn hello(&mut self, seq: u64) {
        self.newest = self.newest.max(seq);
    }

    /// The node cannot give what is up to `seq`.
    pub fn resync(&mut self, seq: u64) {
        self.newest = self.newest.max(seq);
        match self.recovery {
            Recovery::Strong {} => self.gap_until = self.gap_until.max(seq),
            Recovery::Eventual { .. } if seq > self.seq => self.refetch(),
            Recovery::Eventual { .. } => {}
        }
    }

    /// A delta, from wherever. What was applied, in order: often it alone; nothing, if it was known or must wait; those too that waited for it.
    pub fn hear(&mut self, delta: Delta) -> Vec<Delta> {
        self.newest = self.newest.max(delta.seq);
        if delta.seq <= self.seq {
            return Vec::new();
        }
        match self.recovery {
            Recovery::Strong {} => self.hear_in_order(delta),
            Recovery::Eventual { .. } => self.hear_as_it_comes(delta),
        }
    }

    /// The answer to [`Want::Deltas`]. What was applied, in order.
    pub fn recover(&mut self, answer: Deltas) -> Vec<Delta> {
        self.in_doubt = false;
        self.newest = self.newest.max(answer.seq);
        answer.deltas.into_iter().flat_map(|delta| self.hear(delta)).collect()
    }

    /// A node knows nothing of what it has: only the API can say whether that node is late or the log another one.
    pub fn doubt(&mut self) {
        match self.recovery {
            Recovery::Strong {} => self.in_doubt = true,
            Recovery::Eventual { .. } => self.passed(),
        }
    }

    /// The API has not what it was asked for: it is older than the log, or the log is another one.
    pub fn passed(&mut self) {
        self.stale = Stale::Anew { seq: self.seq };
    }

    /// It is time to load the room again, if it is an eventual one.
    pub fn refetch(&mut self) {
        if matches!(self.recovery, Recovery::Eventual { .. }) && self.stale == Stale::No {
            self.stale = Stale::Refetch;
        }
    }

    /// The answer to [`Want::Comment`]; `None`: it is deleted.
    pub fn fetched(&mut self, id: u64, comment: Option<Comment>) {
        if self.unknown.remove(&id)
            && let Some(comment) = comment
        {
            self.comments.insert(id, comment);
        }
    }

    /// The answer to [`Want::Room`]. What was applied on top of it, in order.
    pub fn load(&mut self, room: Snapshot) -> Vec<Delta> {
        let stale = std::mem::replace(&mut self.stale, Stale::No);
        let is_another_log = matches!(stale, Stale::Anew { seq } if room.seq < seq);
        if is_another_log {
            (self.seq, self.newest, self.gap_until) = (0, 0, 0);
            self.ahead.clear();
            self.recent.clear();
        }
        self.in_doubt = false;
        self.recovery = room.recovery;
        self.first = if room.more { room.comments.first().map_or(0, |c| c.comment) } else { 0 };
        self.comments = room.comments.into_iter().map(|c| (c.comment, c)).collect();
        self.unknown.clear();
        self.newest = self.newest.max(room.seq);
        match self.recovery {
            Recovery::Strong {} => {
                // What was applied while the room was on its way is not in it, and does not come again by itself.
                self.gap_until = self.gap_until.max(self.seq);
                self.seq = room.seq;
                self.apply_what_waited()
            }
            Recovery::Eventual { .. } => {
                self.seq = self.seq.max(room.seq);
                self.recent.retain(|d| d.seq > room.seq);
                for delta in std::mem::take(&mut self.recent) {
                    self.apply(&delta);
                    self.recent.push_back(delta);
                }
                Vec::new()
            }
        }
    }

    /// What to ask for next, one question at a time.
    pub fn want(&self) -> Option<Want> {
        if self.stale != Stale::No {
            Some(Want::Room)
        } else if self.in_doubt || self.gap_until > self.seq {
            Some(Want::Deltas { after: self.seq })
        } else {
            self.unknown.first().map(|id| Want::Comment(*id))
        }
    }

    fn hear_in_order(&mut self, delta: Delta) -> Vec<Delta> {
        if delta.seq > self.seq + 1 {
            // Without a place to wait in, it is asked for again itself.
            let has_place = self.ahead.len() < AHEAD_MAX;
            self.gap_until = self.gap_until.max(if has_place { delta.seq - 1 } else { delta.seq });
            if has_place {
                self.ahead.insert(delta.seq, delta);
            }
            return Vec::new();
        }
        self.ahead.insert(delta.seq, delta);
        self.apply_what_waited()
    }

    fn apply_what_waited(&mut self) -> Vec<Delta> {
        let mut applied = Vec::new();
        while let Some(first) = self.ahead.first_entry().filter(|first| *first.key() <= self.seq + 1) {
            let delta = first.remove();
            if delta.seq > self.seq {
                self.apply(&delta);
                self.seq = delta.seq;
                applied.push(delta);
            }
        }
        applied
    }

    fn hear_as_it_comes(&mut self, delta: Delta) -> Vec<Delta> {
        self.seq = delta.seq;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(delta.clone());
        let is_known = self.apply(&delta);
        if !is_known && delta.action != Action::Delete && delta.comment >= self.first {
            self.unknown.insert(delta.comment);
        }
        if self.unknown.len() > UNKNOWN_MAX {
            self.unknown.clear();
            self.refetch();
        }
        vec![delta]
    }

    /// Whether the comment that it is about is there, or was made by it.
    fn apply(&mut self, delta: &Delta) -> bool {
        let text = || delta.text.clone().unwrap_or_default();
        if delta.action == Action::Create {
            let (user, at) = (delta.user.clone(), delta.at);
            let comment = Comment { comment: delta.comment, user, text: text(), at, edited: false, likes: 0, liked: None };
            self.comments.insert(delta.comment, comment);
            return true;
        }
        if delta.action == Action::Delete {
            return self.comments.remove(&delta.comment).is_some();
        }
        let Some(comment) = self.comments.get_mut(&delta.comment) else { return false };
        match delta.action {
            Action::Edit => (comment.text, comment.edited) = (text(), true),
            Action::Like => comment.likes += 1,
            Action::Unlike => comment.likes = comment.likes.saturating_sub(1),
            Action::Create | Action::Delete => {}
        }
        true
    }
}

#[cfg(test)]
mod tests;
