//! Postgres: a table of deltas, and a notification that there are more.

use std::error::Error;
use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Row, Socket, tls};

use super::pages::{self, ANSWER, KEPT, PAGE, Pages, Server, down, within};
use super::{QueueError, WrongUrl};
use crate::delta::Entry;

/// All of it is one transaction. Two that make the table at once would fail without the lock, `IF NOT EXISTS` or not. `json` keeps a delta's text as it is.
const TABLE: &str = "SELECT pg_advisory_xact_lock(hashtext('live_deltas'));
CREATE TABLE IF NOT EXISTS live_deltas (pos bigint PRIMARY KEY, room text NOT NULL, delta json NOT NULL)";

/// One statement is one transaction. Of two publishers with the same entries the second waits for the first, and then adds what is left; one that
/// is far behind does not bring back what was trimmed.
const ADD: &str = "WITH added AS (
    INSERT INTO live_deltas SELECT pos, room, delta::json FROM unnest($1, $2, $3) AS entry (pos, room, delta)
    WHERE pos > (SELECT coalesce(max(pos), 0) FROM live_deltas) ON CONFLICT DO NOTHING
), trimmed AS (DELETE FROM live_deltas WHERE pos <= $4)
SELECT pg_notify('live_deltas', '')";

const READ: &str = "SELECT pos, room, delta::text FROM live_deltas WHERE pos > $1 ORDER BY pos LIMIT $2";

const NEWEST: &str = "SELECT coalesce(max(pos), 0) FROM live_deltas";

/// The table is trimmed whenever it has grown by so many: each time costs a look at the index.
const TRIM: u64 = 1_000;

/// A queue in a Postgres database, 9.5 or newer.
pub struct Postgres {
    config: Config,
    at: String,
    /// The session for commands. It is taken out for the time of a command and is put back when that was answered: one that failed, fell
    /// silent or was left half-way is not used again.
    commands: Mutex<Option<Session>>,
}

impl Postgres {
    /// The database at `postgres://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, which is not asked yet.
    ///
    /// # Errors
    /// `url` is none of these.
    pub fn connect(url: &str) -> Result<Self, WrongUrl> {
        let config: Config = url.parse().map_err(|e| WrongUrl(format!("no URL of a Postgres database: {}", reason(&e))))?;
        // Not the URL, which may have a password in it.
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => return Err(WrongUrl("the URL of the Postgres database names no host".to_owned())),
        };
        let at = format!("{host}:{}", config.get_ports().first().unwrap_or(&5432));
        Ok(Self { config, at, commands: Mutex::new(None) })
    }

    async fn open(&self) -> Result<Session, QueueError> {
        let session = async {
            let (client, connection) = self.config.connect(NoTls).await?;
            let session = Session::new(client, connection);
            session.client.batch_execute(TABLE).await?;
            Ok(session)
        };
        within(ANSWER, &self.at, async { session.await.map_err(|e| self.down(&e)) }).await
    }

    async fn ask<T>(&self, command: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>) -> Result<T, QueueError> {
        let mut held = self.commands.lock().await;
        let session = match held.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        let answer = within(ANSWER, &self.at, async { command(&session.client).await.map_err(|e| self.down(&e)) }).await?;
        *held = Some(session);
        Ok(answer)
    }

    fn down(&self, error: &tokio_postgres::Error) -> QueueError {
        down(&self.at, reason(error))
    }
}

impl Server for Postgres {
    type Log = Reader;

    async fn newest_pos(&self) -> Result<u64, QueueError> {
        let newest: i64 = self.ask(async |client| client.query_typed_one(NEWEST, &[]).await?.try_get(0)).await?;
        Ok(newest.cast_unsigned())
    }

    async fn add(&self, entries: &[Entry]) -> Result<(), QueueError> {
        let pos: Vec<i64> = entries.iter().map(|entry| entry.pos.cast_signed()).collect();
        let rooms: Vec<&str> = entries.iter().map(|entry| entry.room.as_str()).collect();
        let deltas: Vec<String> = entries.iter().map(pages::delta_text).collect();
        let trimmed = trim_to(entries).cast_signed();
        self.ask(async |client| {
            let types = [
                (&pos as _, Type::INT8_ARRAY),
                (&rooms as _, Type::TEXT_ARRAY),
                (&deltas as _, Type::TEXT_ARRAY),
                (&trimmed as _, Type::INT8),
            ];
            client.query_typed_one(ADD, &types).await
        })
        .await?;
        Ok(())
    }

    async fn log(&self) -> Result<Reader, QueueError> {
        let session = self.open().await?;
        // Before the table is read: what comes in between is heard.
        within(ANSWER, &self.at, async { session.client.batch_execute("LISTEN live_deltas").await.map_err(|e| self.down(&e)) })
            .await?;
        Ok(Reader { session, at: self.at.clone() })
    }
}

/// The newest position that goes when these come; 0: none.
fn trim_to(entries: &[Entry]) -> u64 {
    match (entries.first(), entries.last()) {
        (Some(first), Some(last)) if first.pos / TRIM != (last.pos + 1) / TRIM => last.pos.saturating_sub(KEPT),
        _ => 0,
    }
}

/// The crate says what failed; why stands in its causes.
fn reason(error: &tokio_postgres::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

/// A subscriber's session.
pub(super) struct Reader {
    session: Session,
    at: String,
}

impl Reader {
    async fn read(&self, after: u64) -> Result<Vec<Entry>, QueueError> {
        let (after, most) = (after.cast_signed(), PAGE as i64);
        let rows = self.session.client.query_typed(READ, &[(&after, Type::INT8), (&most, Type::INT8)]).await;
        rows.map_err(|e| down(&self.at, reason(&e)))?.iter().map(|row| self.entry(row)).collect()
    }

    fn entry(&self, row: &Row) -> Result<Entry, QueueError> {
        let columns = || Ok((row.try_get::<_, i64>(0)?, row.try_get(1)?, row.try_get(2)?));
        let (pos, room, delta) = columns().map_err(|e| down(&self.at, reason(&e)))?;
        pages::entry(&self.at, pos.cast_unsigned(), room, delta)
    }
}

impl Pages for Reader {
    fn at(&self) -> &str {
        &self.at
    }

    async fn page(&mut self, after: u64, wait: Duration) -> Result<Vec<Entry>, QueueError> {
        self.session.notified.mark_unchanged();
        let page = self.read(after).await?;
        if !page.is_empty() || wait.is_zero() {
            return Ok(page);
        }
        // Whether there is news, or silence, or the connection's end: the table says it.
        let _ = timeout(wait, self.session.notified.changed()).await;
        self.read(after).await
    }
}

/// A connection, and the task that moves its bytes: it ends with the session.
struct Session {
    client: Client,
    notified: watch::Receiver<()>,
    _mover: JoinSet<()>,
}

impl Session {
    fn new(client: Client, mut connection: Connection<Socket, tls::NoTlsStream>) -> Self {
        let (notify, notified) = watch::channel(());
        let mut mover = JoinSet::new();
        // Always read, whatever the subscriber does: notifications that nobody takes would fill Postgres' queue of them, and then nobody could
        // publish. That there were some is all that is kept. How the connection ended, the next command says.
        mover.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(_) = message {
                    notify.send_replace(());
                }
            }
        });
        Self { client, notified, _mover: mover }
    }
}
