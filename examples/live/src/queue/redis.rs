//! Redis: a stream whose entries have their position as id, so that Redis itself refuses a second copy.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamMaxlen, StreamRangeReply, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::Mutex;

use super::pages::{self, ANSWER, KEPT, PAGE, Pages, Server, down, within};
use super::{QueueError, WrongUrl};
use crate::delta::Entry;

/// The one stream of all rooms: one order, one number to resume from.
const STREAM: &str = "live:deltas";

/// A queue on a Redis server, 5.0 or newer.
pub struct Redis {
    client: Client,
    at: String,
    /// The connection for commands. It is taken out for the time of a command and is put back when that was answered: one that failed, fell
    /// silent or was left half-way is not used again.
    commands: Mutex<Option<MultiplexedConnection>>,
}

impl Redis {
    /// The server at `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` or `redis+unix:///SOCKET`, which is not asked yet.
    ///
    /// # Errors
    /// `url` is none of these.
    pub fn connect(url: &str) -> Result<Self, WrongUrl> {
        let client = Client::open(url).map_err(|e| WrongUrl(format!("no URL of a Redis server: {e}")))?;
        // Not the URL, which may have a password in it.
        let at = client.get_connection_info().addr().to_string();
        Ok(Self { client, at, commands: Mutex::new(None) })
    }

    /// A new connection. Limits in time are ours alone: the crate's would end a read that waits for news.
    async fn open(&self) -> Result<MultiplexedConnection, QueueError> {
        let no_limits = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection =
            async { self.client.get_multiplexed_async_connection_with_config(&no_limits).await.map_err(|e| down(&self.at, e)) };
        within(ANSWER, &self.at, connection).await
    }

    async fn ask<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, QueueError> {
        let mut held = self.commands.lock().await;
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let answer = within(ANSWER, &self.at, async { command(&mut connection).await.map_err(|e| down(&self.at, e)) }).await?;
        *held = Some(connection);
        Ok(answer)
    }
}

impl Server for Redis {
    type Log = Reader;

    async fn newest_pos(&self) -> Result<u64, QueueError> {
        let newest: StreamRangeReply = self.ask(async |c| c.xrevrange_count(STREAM, "+", "-", 1).await).await?;
        newest.ids.first().map_or(Ok(0), |id| pos(&self.at, id))
    }

    /// All of them or none: a half that failed for want of memory, and a later one that did not, would leave a gap.
    async fn add(&self, entries: &[Entry]) -> Result<(), QueueError> {
        let mut transaction = redis::pipe();
        transaction.atomic().ignore_errors();
        for entry in entries {
            let fields = [("room", &entry.room), ("delta", &pages::delta_text(entry))];
            // A little more than that is kept: whole blocks are dropped, which costs Redis nothing.
            let kept = StreamMaxlen::Approx(KEPT as usize);
            transaction.xadd_maxlen(STREAM, kept, format!("{}-0", entry.pos), &fields);
        }
        let added: Vec<RedisResult<String>> = self.ask(async |c| transaction.query_async(c).await).await?;
        match added.into_iter().filter_map(Result::err).find(|error| !is_there_already(error)) {
            Some(error) => Err(down(&self.at, error)),
            None => Ok(()),
        }
    }

    async fn log(&self) -> Result<Reader, QueueError> {
        Ok(Reader { connection: self.open().await?, at: self.at.clone() })
    }
}

/// Redis takes ids in growing order alone.
fn is_there_already(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("equal or smaller than the target stream top item"))
}

/// A subscriber's connection: a read that waits blocks it for everything else.
pub(super) struct Reader {
    connection: MultiplexedConnection,
    at: String,
}

impl Pages for Reader {
    fn at(&self) -> &str {
        &self.at
    }

    async fn page(&mut self, after: u64, wait: Duration) -> Result<Vec<Entry>, QueueError> {
        let mut how = StreamReadOptions::default().count(PAGE);
        // `BLOCK 0` would be: for ever.
        if !wait.is_zero() {
            how = how.block(wait.as_millis() as usize);
        }
        let read = self.connection.xread_options(&[STREAM], &[format!("{after}-0")], &how).await;
        let page: Option<StreamReadReply> = read.map_err(|e| down(&self.at, e))?;
        page.into_iter().flat_map(|page| page.keys).flat_map(|key| key.ids).map(|id| entry(&self.at, &id)).collect()
    }
}

fn entry(at: &str, id: &StreamId) -> Result<Entry, QueueError> {
    let pos = pos(at, id)?;
    let field = |name| id.get::<String>(name).ok_or_else(|| down(at, format!("position {pos} has no `{name}`")));
    pages::entry(at, pos, field("room")?, &field("delta")?)
}

fn pos(at: &str, id: &StreamId) -> Result<u64, QueueError> {
    let pos = id.id.strip_suffix("-0").and_then(|pos| pos.parse().ok());
    pos.ok_or_else(|| down(at, format!("{STREAM} has an entry of somebody else: {}", id.id)))
}
