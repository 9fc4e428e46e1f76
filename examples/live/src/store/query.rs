//! What is read, each in one transaction, so that the parts of an answer are of one moment.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Refused;
use crate::delta::{Action, Delta, Entry};
use crate::wall::{Comment, Deltas, Recovery, Room, Snapshot};

/// Texts of a page of the log, in bytes, after which it ends: what one slow reader of the log costs.
pub const PAGE_BYTES: usize = 256 * 1024;

/// Where a page of a room's deltas begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// After this seq.
    After(u64),
    /// At or after this time, in seconds since 1970.
    Since(u64),
}

/// A room's row.
pub(super) struct RoomRow {
    pub(super) id: i64,
    pub(super) recovery: Recovery,
    pub(super) seq: u64,
    /// When its newest delta was written.
    pub(super) at: u64,
}

/// SQLite's numbers have a sign: what is above them is as far away as they go.
pub(super) fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn newest(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT pos FROM log")?.query_one([], |row| row.get(0))
}

pub(super) fn trimmed(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT trimmed FROM log")?.query_one([], |row| row.get(0))
}

pub(super) fn room(db: &Connection, name: &str) -> Result<RoomRow, Refused> {
    let row = db
        .prepare_cached("SELECT id, refetch_s, seq, at FROM rooms WHERE name = ?1")?
        .query_one([name], |row| {
            Ok(RoomRow { id: row.get(0)?, recovery: recovery(row.get(1)?), seq: row.get(2)?, at: row.get(3)? })
        })
        .optional()?;
    row.ok_or_else(|| Refused::UnknownRoom(name.to_owned()))
}

pub(super) fn rooms(db: &Connection) -> Result<Vec<Room>, Refused> {
    let mut statement = db.prepare_cached("SELECT name, refetch_s, seq FROM rooms ORDER BY name")?;
    let rooms =
        statement.query_map([], |row| Ok(Room { room: row.get(0)?, recovery: recovery(row.get(1)?), seq: row.get(2)? }))?;
    Ok(rooms.collect::<Result<_, _>>()?)
}

/// The columns of a comment for a [`comment_of`]; `?2` is the user whose likes are told, or NULL.
macro_rules! comment_columns {
    () => {
        "id, user, text, at, edited, likes, CASE WHEN ?2 IS NOT NULL THEN EXISTS
         (SELECT 1 FROM likes WHERE likes.room = comments.room AND likes.comment = comments.id AND likes.user = ?2) END"
    };
}

pub(super) fn snapshot(
    db: &Connection,
    name: &str,
    limit: usize,
    before: Option<u64>,
    user: Option<&str>,
) -> Result<Snapshot, Refused> {
    let room = room(db, name)?;
    let sql = concat!("SELECT ", comment_columns!(), " FROM comments WHERE room = ?1 AND id < ?3 ORDER BY id DESC LIMIT ?4");
    let mut statement = db.prepare_cached(sql)?;
    let before = before.map_or(i64::MAX, saturated);
    let rows = statement.query_map(params![room.id, user, before, limit + 1], comment_of)?;
    let mut comments = rows.collect::<Result<Vec<_>, _>>()?;
    let more = comments.len() > limit;
    comments.truncate(limit);
    comments.reverse();
    let oldest = oldest(db, &room)?;
    Ok(Snapshot { room: name.to_owned(), recovery: room.recovery, seq: room.seq, oldest, presence: 0, comments, more })
}

pub(super) fn comment(db: &Connection, name: &str, comment: u64, user: Option<&str>) -> Result<Comment, Refused> {
    let room = room(db, name)?;
    let row = db
        .prepare_cached(concat!("SELECT ", comment_columns!(), " FROM comments WHERE room = ?1 AND id = ?3"))?
        .query_one(params![room.id, user, saturated(comment)], comment_of)
        .optional()?;
    row.ok_or(Refused::UnknownComment(comment))
}

pub(super) fn deltas(db: &Connection, name: &str, from: From, limit: usize) -> Result<Deltas, Refused> {
    let room = room(db, name)?;
    let oldest = oldest(db, &room)?;
    let first = match from {
        From::After(after) if after > room.seq => return Err(Refused::FromTheFuture { seq: room.seq }),
        From::After(after) => after + 1,
        From::Since(since) => first_since(db, &room, oldest, since)?,
    };
    if first < oldest {
        return Err(Refused::WindowPassed { oldest });
    }
    let sql = "SELECT seq, at, action, comment, user, text FROM deltas WHERE room = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![room.id, first, limit], |row| delta_of(row, 0))?;
    let deltas = rows.collect::<Result<Vec<_>, _>>()?;
    let more = deltas.last().is_some_and(|last| last.seq < room.seq);
    Ok(Deltas { room: name.to_owned(), seq: room.seq, oldest, deltas, more })
}

/// The first seq at or after a time. Of the second in which the oldest kept delta was written, others may have gone: that is before the window.
fn first_since(db: &Connection, room: &RoomRow, oldest: u64, since: u64) -> Result<u64, Refused> {
    let sql = "SELECT at FROM deltas WHERE room = ?1 AND seq = ?2";
    let oldest_at: Option<u64> = db.prepare_cached(sql)?.query_one(params![room.id, oldest], |row| row.get(0)).optional()?;
    if oldest > 1 && oldest_at.is_some_and(|at| since <= at) {
        return Err(Refused::WindowPassed { oldest });
    }
    let sql = "SELECT min(seq) FROM deltas WHERE room = ?1 AND at >= ?2";
    let first: Option<u64> = db.prepare_cached(sql)?.query_one(params![room.id, saturated(since)], |row| row.get(0))?;
    Ok(first.unwrap_or(room.seq + 1))
}

pub(super) fn log(db: &Connection, after: u64, until: u64, limit: usize) -> Result<Vec<Entry>, Refused> {
    let trimmed = trimmed(db)?;
    if after < trimmed {
        return Err(Refused::WindowPassed { oldest: trimmed + 1 });
    }
    let sql = "SELECT pos, name, deltas.seq, deltas.at, action, comment, user, text
        FROM deltas JOIN rooms ON rooms.id = deltas.room WHERE pos > ?1 AND pos <= ?2 ORDER BY pos LIMIT ?3";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![saturated(after), saturated(until), limit])?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()?
        && bytes < PAGE_BYTES
    {
        let entry = Entry { pos: row.get(0)?, room: row.get(1)?, delta: delta_of(row, 2)? };
        bytes += entry.delta.text.as_ref().map_or(0, String::len);
        page.push(entry);
    }
    Ok(page)
}

fn oldest(db: &Connection, room: &RoomRow) -> Result<u64, Refused> {
    let sql = "SELECT min(seq) FROM deltas WHERE room = ?1";
    let oldest: Option<u64> = db.prepare_cached(sql)?.query_one([room.id], |row| row.get(0))?;
    Ok(oldest.unwrap_or(room.seq + 1))
}

fn recovery(refetch_s: Option<u32>) -> Recovery {
    refetch_s.map_or(Recovery::Strong {}, |refetch_s| Recovery::Eventual { refetch_s })
}

fn comment_of(row: &Row) -> rusqlite::Result<Comment> {
    let (comment, user, text) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(Comment { comment, user, text, at: row.get(3)?, edited: row.get(4)?, likes: row.get(5)?, liked: row.get(6)? })
}

/// The columns seq, at, action, comment, user, text from `first` on.
fn delta_of(row: &Row, first: usize) -> rusqlite::Result<Delta> {
    Ok(Delta {
        seq: row.get(first)?,
        at: row.get(first + 1)?,
        action: row.get(first + 2)?,
        comment: row.get(first + 3)?,
        user: row.get(first + 4)?,
        text: row.get(first + 5)?,
    })
}

const WORDS: [(Action, &str); 5] = [
    (Action::Create, "create"),
    (Action::Edit, "edit"),
    (Action::Delete, "delete"),
    (Action::Like, "like"),
    (Action::Unlike, "unlike"),
];

impl ToSql for Action {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let (_, word) = WORDS.into_iter().find(|(action, _)| action == self).expect("all are there");
        Ok(word.into())
    }
}

impl FromSql for Action {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        let known = WORDS.into_iter().find(|(_, word)| *word == text);
        known.map(|(action, _)| action).ok_or(FromSqlError::InvalidType)
    }
}
