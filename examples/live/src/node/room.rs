//! What a node knows of one room: its newest deltas as they go on the wire, and what came too early to stand among them.

use std::collections::VecDeque;

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;

use crate::delta::Delta;

/// The newest deltas that are kept. Whoever lacks more gets them from the api, which keeps ten times as many and may be asked by pages.
pub(crate) const KEPT_MAX: usize = 1_024;

/// A delta, serialised once for everybody; a clone shares its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    seq: u64,
    event: Bytes,
    json: Utf8Bytes,
}

impl Line {
    fn new(delta: &Delta) -> Line {
        let head = format!("id: {}\ndata: ", delta.seq);
        let json = serde_json::to_string(delta).expect("numbers and texts are JSON");
        let event = Bytes::from(format!("{head}{json}\n\n"));
        let json = event.slice(head.len()..head.len() + json.len());
        Line { seq: delta.seq, event, json: Utf8Bytes::try_from(json).expect("JSON is UTF-8") }
    }

    /// The delta's number in its room.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// For an event stream.
    pub(crate) fn event(&self) -> &Bytes {
        &self.event
    }

    /// For a WebSocket and a poll.
    pub(crate) fn json(&self) -> &Utf8Bytes {
        &self.json
    }
}

/// What the api told of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The newest delta.
    pub(crate) seq: u64,
    /// Who is there, over all nodes.
    pub(crate) presence: u64,
    /// The newest deltas up to `seq`, without gaps.
    pub(crate) deltas: Vec<Delta>,
}

/// What became of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is the newest one now.
    Next,
    /// It was here already.
    Duplicate,
    /// It waits for the api's answer, which is on its way.
    Kept,
    /// Others are missing before it: the room is to be loaded, and it waits for that.
    Gap,
}

/// Why somebody cannot listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No room can have this name.
    BadName,
    /// The api does not know the room.
    UnknownRoom,
    /// The client says that it has a delta that is not there yet.
    FromTheFuture {
        /// The newest.
        seq: u64,
    },
    /// The node has as many rooms as it takes.
    TooManyRooms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The api has not answered yet.
    Awaited,
    Known,
    Unknown,
}

/// One room. A load is wanted ([`Room::want`]), under way until [`Room::loaded`] says that it was enough, and may fail in between.
#[derive(Debug)]
pub(crate) struct Room {
    status: Status,
    seq: u64,
    presence: u64,
    /// The newest deltas up to `seq`, without gaps.
    kept: VecDeque<Line>,
    /// Deltas that came while others before them are missing, in order; the newest ones, if there are more than [`KEPT_MAX`].
    ahead: VecDeque<Line>,
    /// A load is under way; the newest delta when it began.
    loading_from: Option<u64>,
    /// A load was wanted while one was under way: what that one brings may be too old.
    again: bool,
    loads: u64,
    is_unreachable: bool,
}

impl Room {
    /// A room that nothing is known of.
    pub(crate) fn new() -> Room {
        Room {
            status: Status::Awaited,
            seq: 0,
            presence: 0,
            kept: VecDeque::new(),
            ahead: VecDeque::new(),
            loading_from: None,
            again: false,
            loads: 0,
            is_unreachable: false,
        }
    }

    /// The newest delta.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Who is there, over all nodes.
    pub(crate) fn presence(&self) -> u64 {
        self.presence
    }

    /// Takes the sum over all nodes. Whether it is another one.
    pub(crate) fn set_presence(&mut self, presence: u64) -> bool {
        std::mem::replace(&mut self.presence, presence) != presence
    }

    /// The api was asked in vain, and has not answered since.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// The api is being asked.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading_from.is_some()
    }

    /// What the api knows now is needed. Whether to ask it now: once it is asked, that goes on until [`Room::loaded`] ends it.
    pub(crate) fn want(&mut self) -> bool {
        self.again = self.loading_from.is_some();
        if !self.again {
            self.loading_from = Some(self.seq);
        }
        !self.again
    }

    /// The number that [`Room::verdict`] asks for: loads that begin from now on are later than it.
    pub(crate) fn loads_begun(&self) -> u64 {
        self.loads + u64::from(self.loading_from.is_some())
    }

    /// Whether somebody who has the deltas up to `after` may listen, who came at `loads_begun`; `None`: not known yet.
    ///
    /// A node may be behind others. So nobody is from the future before the api was asked after he came.
    pub(crate) fn verdict(&self, after: Option<u64>, loads_begun: u64) -> Option<Result<(), Refusal>> {
        match self.status {
            Status::Awaited => None,
            Status::Unknown => Some(Err(Refusal::UnknownRoom)),
            Status::Known if after.is_none_or(|after| after <= self.seq) => Some(Ok(())),
            Status::Known if self.loads > loads_begun => Some(Err(Refusal::FromTheFuture { seq: self.seq })),
            Status::Known => None,
        }
    }

    /// Takes a delta from the queue.
    pub(crate) fn apply(&mut self, delta: &Delta) -> Applied {
        let is_known = self.status == Status::Known;
        if is_known && delta.seq <= self.seq {
            return Applied::Duplicate;
        }
        let line = Line::new(delta);
        if is_known && delta.seq == self.seq + 1 {
            self.push(line);
            return Applied::Next;
        }
        if self.ahead.len() == KEPT_MAX {
            self.ahead.pop_front();
        }
        self.ahead.push_back(line);
        if self.loading_from.is_some() { Applied::Kept } else { Applied::Gap }
    }

    /// Takes what the api told, and joins with it what came meanwhile. Whether it has to be asked again.
    pub(crate) fn loaded(&mut self, loaded: Loaded) -> bool {
        // Older than what was here when it was asked: the api lost something, and its word counts. Else what came meanwhile is newer.
        if self.loading_from.is_some_and(|from| loaded.seq < from) {
            self.begin_after(loaded.deltas.first().map_or(loaded.seq, |first| first.seq - 1));
            self.ahead.clear();
        }
        for delta in &loaded.deltas {
            if delta.seq > self.seq {
                if delta.seq > self.seq + 1 {
                    self.begin_after(delta.seq - 1);
                }
                self.push(Line::new(delta));
            }
        }
        if self.seq < loaded.seq {
            self.begin_after(loaded.seq);
        }
        if self.status == Status::Awaited {
            self.presence = loaded.presence;
        }
        self.status = Status::Known;
        self.is_unreachable = false;
        self.loads += 1;
        self.join_ahead();
        let again = std::mem::take(&mut self.again) || !self.ahead.is_empty();
        self.loading_from = again.then_some(self.seq);
        again
    }

    /// The api does not know it.
    pub(crate) fn unknown(&mut self) {
        self.status = Status::Unknown;
    }

    /// The api could not be asked. Whether that is news.
    pub(crate) fn unreachable(&mut self) -> bool {
        !std::mem::replace(&mut self.is_unreachable, true)
    }

    /// At most `most` deltas after `after`, none if there is none; `None`: they are not here any more.
    pub(crate) fn after(&self, after: u64, most: usize) -> Option<impl Iterator<Item = &Line>> {
        let missing = usize::try_from(self.seq.checked_sub(after)?).ok()?;
        let from = self.kept.len().checked_sub(missing)?;
        Some(self.kept.range(from..).take(most))
    }

    fn join_ahead(&mut self) {
        while let Some(line) = self.ahead.front() {
            if line.seq > self.seq + 1 {
                return;
            }
            let line = self.ahead.pop_front().expect("the one that was seen");
            if line.seq == self.seq + 1 {
                self.push(line);
            }
        }
    }

    fn begin_after(&mut self, seq: u64) {
        self.kept.clear();
        self.seq = seq;
    }

    fn push(&mut self, line: Line) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.seq = line.seq;
        self.kept.push_back(line);
    }
}

#[cfg(test)]
mod tests;
