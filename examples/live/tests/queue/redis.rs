//! A real redis-server, and what only it can do.

use std::path::Path;
use std::process::Command;

use holdline_live::queue::redis::Redis;
use holdline_live::queue::{Publish, QueueError};
use rustix::process::Signal;

use crate::published::{Kind, Served};
use crate::rig::{Rig as _, next, take};
use crate::server::Server;

pub(crate) type Rig = Served<RedisServer>;

pub(crate) struct RedisServer {
    /// Whether it remembers what it had when it was killed.
    keeps: bool,
}

impl Default for RedisServer {
    fn default() -> Self {
        RedisServer { keeps: true }
    }
}

impl Kind for RedisServer {
    type Queue = Redis;

    fn url(dir: &Path) -> String {
        format!("redis+unix://{}/redis.sock", dir.display())
    }

    fn connect(url: &str) -> Redis {
        Redis::connect(url).unwrap()
    }

    fn start(&self, dir: &Path) -> Server {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--dir"]).arg(dir).current_dir(dir);
        if self.keeps {
            command.args(["--appendonly", "yes", "--appendfsync", "no"]);
        }
        Server::start(command, "ready to accept connections", Signal::KILL).0
    }

    async fn cut(dir: &Path) {
        command(dir, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    }
}

fn forgetful() -> Rig {
    Served::new(RedisServer { keeps: false })
}

async fn connection(dir: &Path) -> redis::aio::MultiplexedConnection {
    redis::Client::open(RedisServer::url(dir)).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn command(dir: &Path, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec_async(&mut connection(dir).await).await.unwrap();
}

/// Bytes that the server uses.
async fn memory(dir: &Path) -> usize {
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut connection(dir).await).await.unwrap();
    info.get("used_memory").unwrap()
}

/// Redis keeps what it has in memory, unless it is told otherwise.
#[tokio::test]
async fn a_redis_that_forgets_everything_is_filled_again_from_the_log() {
    let mut rig = forgetful();
    rig.put(&["lobby"; 100]).await;
    let queue = rig.subscriber();
    let mut entries = queue.subscribe(0).await.unwrap();
    let mut heard = take(&mut entries, 100).await;
    rig.kill();
    assert!(matches!(next(&mut entries).await, Err(QueueError::Down { .. })));
    rig.restart();

    // It is behind this subscriber, which hears nothing before that has changed, and nothing twice.
    let mut entries = queue.subscribe(100).await.unwrap();
    rig.put(&["lobby"; 5]).await;
    heard.extend(take(&mut entries, 5).await);
    assert_eq!(heard, rig.written());
    // And one that had not heard all of it does now.
    let mut late = queue.subscribe(60).await.unwrap();
    assert_eq!(take(&mut late, 45).await, rig.written()[60..]);
}

#[tokio::test]
async fn what_neither_redis_nor_the_log_has_any_more_is_told() {
    let mut rig = forgetful();
    rig.put(&["lobby"; 100]).await;
    rig.kill();
    rig.restart();
    // The log has lost its beginning meanwhile, and Redis was asked before.
    assert!(matches!(Publish::newest(&rig.publisher).await, Err(QueueError::Down { .. })));
    rig.publisher.publish(&rig.log.entries[70..]).await.unwrap();
    let queue = rig.subscriber();
    assert!(matches!(queue.subscribe(50).await.err(), Some(QueueError::Passed { oldest: 71 })));
    assert_eq!(take(&mut queue.subscribe(70).await.unwrap(), 30).await, rig.written()[70..]);
    assert_eq!(take(&mut queue.subscribe(95).await.unwrap(), 5).await, rig.written()[95..]);
}

/// With room for some of a batch, too.
#[tokio::test]
async fn a_full_redis_is_down_and_takes_no_half() {
    let mut rig = forgetful();
    rig.put(&["lobby"; 10]).await;
    rig.log.write(&["lobby"; 200]);
    let used = memory(rig.dir.path()).await;
    let mut refused = 0;
    for room in (0..).step_by(4_096) {
        command(rig.dir.path(), &["CONFIG", "SET", "maxmemory", &(used + room).to_string()]).await;
        let Err(error) = rig.publisher.publish(&rig.log.entries[10..]).await else { break };
        assert!(error.to_string().contains("maxmemory"), "{error}");
        assert_eq!(rig.subscriber().newest().await.unwrap(), 10);
        refused += 1;
    }
    assert!(refused > 5, "{refused}");
    assert_eq!(take(&mut rig.subscriber().subscribe(0).await.unwrap(), 210).await, rig.written());
}

#[tokio::test]
async fn a_stopped_redis_is_down_and_goes_on() {
    let mut rig = forgetful();
    rig.put(&["lobby"]).await;
    let queue = rig.subscriber();
    let mut entries = queue.subscribe(1).await.unwrap();
    rig.server.as_ref().unwrap().signal(Signal::STOP);
    let error = queue.newest().await.unwrap_err().to_string();
    assert!(error.contains("no answer within 2 s"), "{error}");
    let error = rig.publisher.publish(&rig.log.entries).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 2 s"), "{error}");
    rig.server.as_ref().unwrap().signal(Signal::CONT);
    rig.put(&["lobby"]).await;
    assert_eq!(take(&mut entries, 1).await, rig.written()[1..]);
}

#[tokio::test]
async fn an_entry_of_somebody_else_is_told() {
    let rig = forgetful();
    command(rig.dir.path(), &["XADD", "live:deltas", "7-1", "who", "knows"]).await;
    for error in [rig.subscriber().newest().await.err(), rig.subscriber().subscribe(0).await.err()] {
        assert!(matches!(&error, Some(QueueError::Down { reason, .. }) if reason.contains("7-1")), "{error:?}");
    }
}
