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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::{Action, Delta};
    use crate::node::room::{Applied, KEPT_MAX, Loaded};

    fn delta(seq: u64) -> Delta {
        Delta { seq, at: 1, action: Action::Like, comment: 1, user: "ann".into(), text: None }
    }

    fn room(seq: u64) -> Room {
        let mut room = Room::new();
        room.want();
        room.loaded(Loaded { seq, presence: 5, deltas: (1..=seq).map(delta).collect() });
        room
    }

    fn heard(cursor: &mut Cursor, room: &Room) -> Vec<u64> {
        let mut seqs = Vec::new();
        while let Some(Heard::Deltas(lines)) = cursor.next(room, 2) {
            assert!((1..=2).contains(&lines.len()));
            seqs.extend(lines.iter().map(Line::seq));
        }
        seqs
    }

    #[test]
    fn hello_comes_first_and_then_what_is_missing() {
        let mut room = room(7);
        let (mut resumed, mut new) = (Cursor::new(Some(2), &room), Cursor::new(None, &room));
        let hello = Some(Heard::Hello { seq: 7, presence: 5 });
        assert_eq!((resumed.next(&room, 2), new.next(&room, 2)), (hello.clone(), hello));
        assert_eq!((heard(&mut resumed, &room), heard(&mut new, &room)), (vec![3, 4, 5, 6, 7], vec![]));
        room.apply(&delta(8));
        assert_eq!((heard(&mut resumed, &room), heard(&mut new, &room)), (vec![8], vec![8]));
    }

    #[test]
    fn before_the_room_is_known_it_hears_nothing() {
        let mut room = Room::new();
        let mut cursor = Cursor::new(Some(1), &room);
        assert_eq!(cursor.next(&room, 2), None);
        room.want();
        room.loaded(Loaded { seq: 1, presence: 0, deltas: vec![delta(1)] });
        assert_eq!(cursor.next(&room, 2), Some(Heard::Hello { seq: 1, presence: 0 }));
        let mut future = Cursor::new(Some(2), &room);
        assert_eq!(future.next(&room, 2), None);
        room.want();
        room.loaded(Loaded { seq: 1, ..Loaded::default() });
        assert_eq!(future.next(&room, 2), Some(Heard::Refused(Refusal::FromTheFuture { seq: 1 })));
    }

    #[test]
    fn who_is_too_slow_goes_on_from_the_newest() {
        let mut room = room(3);
        let mut cursor = Cursor::new(None, &room);
        cursor.next(&room, 2);
        let newest = 3 + KEPT_MAX as u64 + 1;
        (4..=newest).for_each(|seq| assert_eq!(room.apply(&delta(seq)), Applied::Next));
        assert_eq!(cursor.next(&room, 2), Some(Heard::Resync { seq: newest }));
        assert_eq!(cursor.next(&room, 2), None);
        room.apply(&delta(newest + 1));
        assert_eq!(heard(&mut cursor, &room), [newest + 1]);
    }

    #[test]
    fn presence_is_told_when_it_changed_and_after_the_deltas() {
        let mut room = room(3);
        let mut cursor = Cursor::new(Some(2), &room);
        cursor.next(&room, 2);
        assert!(room.set_presence(6) && !room.set_presence(6));
        assert_eq!(heard(&mut cursor, &room), [3]);
        let mut cursor = Cursor::new(None, &room);
        cursor.next(&room, 2);
        assert_eq!(cursor.next(&room, 2), None, "hello told it");
        room.set_presence(7);
        assert_eq!((cursor.next(&room, 2), cursor.next(&room, 2)), (Some(Heard::Presence(7)), None));
    }
}
