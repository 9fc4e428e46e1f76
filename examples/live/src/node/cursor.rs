//! Where one client is in its room, and what it hears next. It holds no deltas: they are the room's until they are sent, so a client that does not
//! read costs what any other does.

use super::room::{Line, Refusal, Room};

/// A client's place.
#[derive(Debug)]
pub(crate) struct Cursor {
    after: Option<u64>,
    loads_begun: u64,
    /// The last delta that it was given, and the presence that it knows; nothing before its hello.
    told: Option<(u64, u64)>,
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The first of all.
    Hello {
        /// The room's newest delta.
        seq: u64,
        /// Who is there.
        presence: u64,
    },
    /// Deltas, in order and without gaps.
    Deltas(Vec<Line>),
    /// What it lacks up to `seq` is not here; it goes on after that.
    Resync {
        /// The room's newest delta.
        seq: u64,
    },
    /// Who is there now.
    Presence(u64),
    /// It is known only now that it could not listen; nothing comes any more.
    Refused(Refusal),
}

impl Cursor {
    /// Of a client that has the deltas up to `after`; without it, it wants those from now on.
    pub(crate) fn new(after: Option<u64>, room: &Room) -> Cursor {
        Cursor { after, loads_begun: room.loads_begun(), told: None }
    }

    /// Whether the client may listen; `None`: not known yet.
    pub(crate) fn verdict(&self, room: &Room) -> Option<Result<(), Refusal>> {
        room.verdict(self.after, self.loads_begun)
    }

    /// What it hears next, at most `most` deltas at once; `None`: nothing for now.
    pub(crate) fn next(&mut self, room: &Room, most: usize) -> Option<Heard> {
        let Some((at, presence)) = &mut self.told else {
            if let Err(refusal) = self.verdict(room)? {
                return Some(Heard::Refused(refusal));
            }
            let (seq, presence) = (room.seq(), room.presence());
            self.told = Some((self.after.unwrap_or(seq), presence));
            return Some(Heard::Hello { seq, presence });
        };
        let Some(lines) = room.after(*at, most) else {
            *at = room.seq();
            return Some(Heard::Resync { seq: *at });
        };
        let lines: Vec<_> = lines.cloned().collect();
        if let Some(last) = lines.last() {
            *at = last.seq();
            return Some(Heard::Deltas(lines));
        }
        (*presence != room.presence()).then(|| {
            *presence = room.presence();
            Heard::Presence(*presence)
        })
    }
}
