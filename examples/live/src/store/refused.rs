//! Why the store does not do what it was asked.

use rusqlite::ErrorCode;
use thiserror::Error;

use super::ROOMS_MAX;
use crate::wall::Recovery;

/// Nothing was stored, for this reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// No such room.
    #[error("there is no room {0}")]
    UnknownRoom(String),
    /// No such comment, or it was deleted.
    #[error("there is no comment {0} in this room")]
    UnknownComment(u64),
    /// Somebody else wrote it.
    #[error("comment {comment} is {author}'s, who alone may change it")]
    NotTheAuthor {
        /// The comment.
        comment: u64,
        /// Who wrote it.
        author: String,
    },
    /// It is there already, with these settings.
    #[error("the room is there with other settings")]
    RoomDiffers(Recovery),
    /// There is no place for another room.
    #[error("there are {ROOMS_MAX} rooms, which is the most")]
    TooManyRooms,
    /// This key came with another request before.
    #[error("this Idempotency-Key came with another request before: choose a new one for each")]
    KeyReused,
    /// Deltas after one that does not exist yet.
    #[error("the newest delta is {seq}")]
    FromTheFuture {
        /// The newest.
        seq: u64,
    },
    /// Deltas that are not kept any more.
    #[error("deltas before {oldest} are not kept: fetch the room anew")]
    WindowPassed {
        /// The first that is kept.
        oldest: u64,
    },
    /// The disk, or the bound of the file, is full.
    #[error("{0}")]
    Full(String),
    /// The database cannot be read or written.
    #[error("{0}")]
    Database(String),
}

impl Refused {
    /// The database is at fault, not who asked.
    pub(super) fn is_storage(&self) -> bool {
        matches!(self, Refused::Full(_) | Refused::Database(_))
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Refused::Full(error.to_string()),
            _ => Refused::Database(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi::{Error, SQLITE_FULL, SQLITE_IOERR_FSYNC};

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let of = |code| Refused::from(rusqlite::Error::SqliteFailure(Error::new(code), None));
        assert!(matches!(of(SQLITE_FULL), Refused::Full(_)));
        assert!(matches!(of(SQLITE_IOERR_FSYNC), Refused::Database(_)));
        assert!(matches!(Refused::from(rusqlite::Error::InvalidQuery), Refused::Database(_)));
    }
}
