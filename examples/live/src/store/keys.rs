//! Idempotency keys: the first answer, kept beside what it tells of. An answer that refuses is not kept, as nothing was done.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Mutation, Refused};
use crate::delta::{Action, Delta};

/// How long an answer is kept, in seconds: a day.
pub(super) const KEEP_S: u64 = 86_400;

/// The most answers that are kept, which bounds what clients can fill with keys; the oldest go first.
pub(super) const KEPT_MAX: u64 = 100_000;

/// What the first request with this mutation's key was answered; `None`: this is the first.
///
/// # Errors
/// [`Refused::KeyReused`] if that was another mutation.
pub(super) fn first_answer(db: &Connection, mutation: &Mutation) -> Result<Option<Option<Delta>>, Refused> {
    let Some(key) = &mutation.key else { return Ok(None) };
    let sql = "SELECT room, action, comment, user, text, seq, at FROM keys WHERE key = ?1 AND kept_at > ?2";
    let kept = db
        .prepare_cached(sql)?
        .query_one(params![key, mutation.now_s.saturating_sub(KEEP_S)], |row| {
            Ok(Kept {
                room: row.get(0)?,
                action: row.get(1)?,
                comment: row.get(2)?,
                user: row.get(3)?,
                text: row.get(4)?,
                number: row.get::<_, Option<u64>>(5)?.zip(row.get(6)?),
            })
        })
        .optional()?;
    match kept {
        None => Ok(None),
        Some(kept) if kept.answers(mutation) => Ok(Some(kept.delta())),
        Some(_) => Err(Refused::KeyReused),
    }
}

/// Keeps the answer to a mutation that has a key, and prunes.
pub(super) fn keep(db: &Connection, mutation: &Mutation, delta: Option<&Delta>) -> Result<(), Refused> {
    let Some(key) = &mutation.key else { return Ok(()) };
    // Two go for one that comes, so that a lowered bound or a day without traffic is made up for, little by little.
    let sql = "DELETE FROM keys WHERE n IN (SELECT n FROM keys ORDER BY n LIMIT 2)
        AND (kept_at <= ?1 OR n <= (SELECT max(n) FROM keys) - ?2)";
    db.prepare_cached(sql)?.execute(params![mutation.now_s.saturating_sub(KEEP_S), KEPT_MAX - 1])?;
    let comment = mutation.change.comment().or(delta.map(|delta| delta.comment));
    let sql = "INSERT OR REPLACE INTO keys (key, kept_at, room, action, comment, user, text, seq, at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    db.prepare_cached(sql)?.execute(params![
        key,
        mutation.now_s,
        mutation.room,
        mutation.change.action(),
        comment,
        mutation.user,
        mutation.change.text(),
        delta.map(|delta| delta.seq),
        delta.map(|delta| delta.at)
    ])?;
    Ok(())
}

/// A request and its answer, which have all but `number` in common.
struct Kept {
    room: String,
    action: Action,
    comment: u64,
    user: String,
    text: Option<String>,
    /// The delta's `seq` and `at`; `None`: nothing changed.
    number: Option<(u64, u64)>,
}

impl Kept {
    fn answers(&self, mutation: &Mutation) -> bool {
        let change = &mutation.change;
        self.room == mutation.room
            && self.user == mutation.user
            && self.action == change.action()
            && self.text.as_deref() == change.text()
            && change.comment().is_none_or(|comment| comment == self.comment)
    }

    fn delta(self) -> Option<Delta> {
        let Kept { action, comment, user, text, number, .. } = self;
        number.map(|(seq, at)| Delta { seq, at, action, comment, user, text })
    }
}
