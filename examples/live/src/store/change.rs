//! A mutation: its row and its delta.

use rusqlite::{Connection, OptionalExtension, params};

use super::query::{self, RoomRow, saturated};
use super::{ROOMS_MAX, Refused, keys};
use crate::delta::{Action, Delta};
use crate::wall::{Recovery, Room};

/// What a user wants.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// Where.
    pub room: String,
    /// Who.
    pub user: String,
    /// What.
    pub change: Change,
    /// The request's Idempotency-Key.
    pub key: Option<String>,
    /// When, in seconds since 1970 (UTC).
    pub now_s: u64,
}

/// What to change; numbers are comments' ids.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the words of `Action`")]
pub enum Change {
    Create { text: String },
    Edit { comment: u64, text: String },
    Delete { comment: u64 },
    Like { comment: u64 },
    Unlike { comment: u64 },
}

/// What came of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What changed; `None`: nothing, it was so already.
    pub delta: Option<Delta>,
    /// This is the answer that the first request with this key got.
    pub replayed: bool,
}

impl Mutation {
    /// In the caller's transaction. `window` and `published` say which deltas may go to make place for the new one.
    pub(super) fn apply(&self, db: &Connection, window: u64, published: u64) -> Result<Done, Refused> {
        if let Some(delta) = keys::first_answer(db, self)? {
            return Ok(Done { delta, replayed: true });
        }
        let room = query::room(db, &self.room)?;
        let delta = self.change_row(db, &room)?.then(|| Delta {
            seq: room.seq + 1,
            // Time never goes back in a room, whatever the clock does: that is what `?since=` relies on.
            at: self.now_s.max(room.at),
            action: self.change.action(),
            comment: self.change.comment().unwrap_or(room.seq + 1),
            user: self.user.clone(),
            text: self.change.text().map(str::to_owned),
        });
        if let Some(delta) = &delta {
            trim(db, &room, window, published)?;
            append(db, &room, delta)?;
        }
        keys::keep(db, self, delta.as_ref())?;
        Ok(Done { delta, replayed: false })
    }

    /// `false`: it is so already.
    fn change_row(&self, db: &Connection, room: &RoomRow) -> Result<bool, Refused> {
        match &self.change {
            Change::Create { text } => {
                let sql = "INSERT INTO comments (room, id, user, text, at) VALUES (?1, ?2, ?3, ?4, ?5)";
                let at = self.now_s.max(room.at);
                db.prepare_cached(sql)?.execute(params![room.id, room.seq + 1, self.user, text, at])?;
                Ok(true)
            }
            Change::Edit { comment, text } => {
                self.must_be_author(db, room, *comment)?;
                let sql = "UPDATE comments SET text = ?3, edited = 1 WHERE room = ?1 AND id = ?2";
                db.prepare_cached(sql)?.execute(params![room.id, comment, text])?;
                Ok(true)
            }
            Change::Delete { comment } => {
                self.must_be_author(db, room, *comment)?;
                for sql in
                    ["DELETE FROM likes WHERE room = ?1 AND comment = ?2", "DELETE FROM comments WHERE room = ?1 AND id = ?2"]
                {
                    db.prepare_cached(sql)?.execute(params![room.id, comment])?;
                }
                Ok(true)
            }
            Change::Like { comment } => {
                author(db, room, *comment)?;
                let sql = "INSERT OR IGNORE INTO likes (room, comment, user) VALUES (?1, ?2, ?3)";
                let new = db.prepare_cached(sql)?.execute(params![room.id, comment, self.user])? == 1;
                if new {
                    count(db, room, *comment, 1)?;
                }
                Ok(new)
            }
            Change::Unlike { comment } => {
                author(db, room, *comment)?;
                let sql = "DELETE FROM likes WHERE room = ?1 AND comment = ?2 AND user = ?3";
                let gone = db.prepare_cached(sql)?.execute(params![room.id, comment, self.user])? == 1;
                if gone {
                    count(db, room, *comment, -1)?;
                }
                Ok(gone)
            }
        }
    }

    fn must_be_author(&self, db: &Connection, room: &RoomRow, comment: u64) -> Result<(), Refused> {
        let author = author(db, room, comment)?;
        if author == self.user { Ok(()) } else { Err(Refused::NotTheAuthor { comment, author }) }
    }
}

impl Change {
    pub(super) fn action(&self) -> Action {
        match self {
            Change::Create { .. } => Action::Create,
            Change::Edit { .. } => Action::Edit,
            Change::Delete { .. } => Action::Delete,
            Change::Like { .. } => Action::Like,
            Change::Unlike { .. } => Action::Unlike,
        }
    }

    /// The comment that it is done to; a new one has no id before it is stored.
    pub(super) fn comment(&self) -> Option<u64> {
        match self {
            Change::Create { .. } => None,
            Change::Edit { comment, .. } | Change::Delete { comment } | Change::Like { comment } | Change::Unlike { comment } => {
                Some(*comment)
            }
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Change::Create { text } | Change::Edit { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// See [`super::Store::make_room`].
pub(super) fn make_room(db: &Connection, name: &str, recovery: Recovery) -> Result<(Room, bool), Refused> {
    match query::room(db, name) {
        Ok(there) if there.recovery == recovery => Ok((Room { room: name.to_owned(), recovery, seq: there.seq }, false)),
        Ok(there) => Err(Refused::RoomDiffers(there.recovery)),
        Err(Refused::UnknownRoom(_)) => {
            let rooms: u64 = db.query_one("SELECT count(*) FROM rooms", [], |row| row.get(0))?;
            if rooms >= ROOMS_MAX {
                return Err(Refused::TooManyRooms);
            }
            let refetch_s = match recovery {
                Recovery::Strong {} => None,
                Recovery::Eventual { refetch_s } => Some(refetch_s),
            };
            db.execute("INSERT INTO rooms (name, refetch_s) VALUES (?1, ?2)", params![name, refetch_s])?;
            Ok((Room { room: name.to_owned(), recovery, seq: 0 }, true))
        }
        Err(refused) => Err(refused),
    }
}

fn author(db: &Connection, room: &RoomRow, comment: u64) -> Result<String, Refused> {
    let author = db
        .prepare_cached("SELECT user FROM comments WHERE room = ?1 AND id = ?2")?
        .query_one(params![room.id, saturated(comment)], |row| row.get(0))
        .optional()?;
    author.ok_or(Refused::UnknownComment(comment))
}

fn count(db: &Connection, room: &RoomRow, comment: u64, by: i64) -> Result<(), Refused> {
    let sql = "UPDATE comments SET likes = likes + ?3 WHERE room = ?1 AND id = ?2";
    db.prepare_cached(sql)?.execute(params![room.id, comment, by])?;
    Ok(())
}

fn append(db: &Connection, room: &RoomRow, delta: &Delta) -> Result<(), Refused> {
    let pos: u64 = db.prepare_cached("UPDATE log SET pos = pos + 1 RETURNING pos")?.query_one([], |row| row.get(0))?;
    db.prepare_cached("UPDATE rooms SET seq = ?2, at = ?3 WHERE id = ?1")?.execute(params![room.id, delta.seq, delta.at])?;
    let sql = "INSERT INTO deltas (pos, room, seq, at, action, comment, user, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    db.prepare_cached(sql)?.execute(params![
        pos,
        room.id,
        delta.seq,
        delta.at,
        delta.action,
        delta.comment,
        delta.user,
        delta.text
    ])?;
    Ok(())
}

/// Makes place for one delta in a full window, and notes up to where the log has holes.
fn trim(db: &Connection, room: &RoomRow, window: u64, published: u64) -> Result<(), Refused> {
    let Some(last) = (room.seq + 1).checked_sub(window).filter(|&last| last > 0) else { return Ok(()) };
    let sql = "SELECT max(pos) FROM deltas WHERE room = ?1 AND seq <= ?2 AND pos <= ?3";
    let trimmed: Option<u64> =
        db.prepare_cached(sql)?.query_one(params![room.id, last, saturated(published)], |row| row.get(0))?;
    if let Some(trimmed) = trimmed {
        db.prepare_cached("DELETE FROM deltas WHERE room = ?1 AND seq <= ?2 AND pos <= ?3")?
            .execute(params![room.id, last, trimmed])?;
        db.prepare_cached("UPDATE log SET trimmed = max(trimmed, ?1)")?.execute([trimmed])?;
    }
    Ok(())
}
