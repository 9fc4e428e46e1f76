//! The file: its tables, and how a connection to it is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::ffi::SQLITE_MISMATCH;
use rusqlite::{Connection, OpenFlags};

/// `deltas` is the log. Its `pos` and `seq` are counted in `log` and `rooms`, in the transaction that adds the delta, so that neither has
/// gaps: what is rolled back was never counted. `keys` keeps the answers to mutations that came with an Idempotency-Key; `seq` is absent where
/// nothing changed.
const SCHEMA: &str = "
CREATE TABLE log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    pos INTEGER NOT NULL,
    trimmed INTEGER NOT NULL
) STRICT;
INSERT INTO log VALUES (1, 0, 0);
CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    refetch_s INTEGER,
    seq INTEGER NOT NULL DEFAULT 0,
    at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE comments (
    room INTEGER NOT NULL,
    id INTEGER NOT NULL,
    user TEXT NOT NULL,
    text TEXT NOT NULL,
    at INTEGER NOT NULL,
    edited INTEGER NOT NULL DEFAULT 0,
    likes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (room, id)
) STRICT;
CREATE TABLE likes (
    room INTEGER NOT NULL,
    comment INTEGER NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (room, comment, user)
) STRICT, WITHOUT ROWID;
CREATE TABLE deltas (
    pos INTEGER PRIMARY KEY,
    room INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    comment INTEGER NOT NULL,
    user TEXT NOT NULL,
    text TEXT,
    UNIQUE (room, seq)
) STRICT;
CREATE INDEX deltas_at ON deltas (room, at);
CREATE TABLE keys (
    n INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kept_at INTEGER NOT NULL,
    room TEXT NOT NULL,
    action TEXT NOT NULL,
    comment INTEGER NOT NULL,
    user TEXT NOT NULL,
    text TEXT,
    seq INTEGER,
    at INTEGER
) STRICT;
";

/// The form of the file, in its header: another one is not opened.
const VERSION: i64 = 1;

/// The connection that writes.
///
/// `synchronous` is FULL: each commit is on the disk before anybody hears of it. With NORMAL a power cut may take the newest commits back after
/// nodes and clients applied their deltas, and the same seq would then be given to another delta. What FULL costs is one fsync a
/// commit, which a batch of mutations shares (`writer.rs`).
pub(super) fn writer(path: &Path, max_mib: Option<u32>) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    prepare(&db)?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "full")?;
    // After a long burst the WAL file is cut back to this, in bytes.
    db.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    if let Some(mib) = max_mib {
        let page_size: u64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = (u64::from(mib) << 20) / page_size;
        db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => {
            db.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        }
        VERSION => {}
        other => {
            let reason = format!("another version of live wrote it: its form is {other}, this one's is {VERSION}");
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(SQLITE_MISMATCH), Some(reason)));
        }
    }
    Ok(db)
}

/// A connection that reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&db)?;
    Ok(db)
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(64);
    // WAL readers and the writer do not wait for each other; this is for the moment in which the WAL is reset or recovered.
    db.busy_timeout(Duration::from_secs(5))
}
