//! A real Postgres, and what only it can do.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdline_live::queue::postgres::Postgres;
use holdline_live::queue::{Publish, QueueError};
use rustix::process::Signal;

use crate::published::{Kind, Published, Served};
use crate::rig::{Rig as _, take};
use crate::server::Server;

pub(crate) type Rig = Served<PostgresServer>;

#[derive(Default)]
pub(crate) struct PostgresServer;

impl Kind for PostgresServer {
    type Queue = Postgres;

    /// By the socket in the directory.
    fn url(dir: &Path) -> String {
        format!("postgres://live@{}/postgres", dir.display().to_string().replace('/', "%2F"))
    }

    fn connect(url: &str) -> Postgres {
        Postgres::connect(url).unwrap()
    }

    fn prepare(dir: &Path) {
        if rustix::process::getuid().is_root() {
            chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut initdb = program("initdb");
        initdb.args(["--username", "live", "--auth", "trust", "--no-locale", "--encoding", "UTF8", "--no-sync", "--pgdata"]);
        let made = initdb.arg(dir.join("data")).output();
        let made = made.unwrap_or_else(|e| panic!("`initdb` does not start: {e}; tests/run installs it"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn start(&self, dir: &Path) -> Server {
        let mut command = program("postgres");
        let sockets = format!("unix_socket_directories={}", dir.display());
        command.args(["-c", "listen_addresses=", "-c", &sockets, "-D"]).arg(dir.join("data")).current_dir(dir);
        // What it calls an immediate shutdown is a crash that takes its children along.
        Server::start(command, "ready to accept connections", Signal::QUIT).0
    }

    async fn cut(dir: &Path) {
        let others = "datname = current_database() AND pid <> pg_backend_pid()";
        execute(dir, &format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {others}")).await;
    }
}

async fn execute(dir: &Path, sql: &str) {
    let (client, connection) = tokio_postgres::connect(&PostgresServer::url(dir), tokio_postgres::NoTls).await.unwrap();
    let mover = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    mover.await.unwrap().unwrap();
}

/// A program of the newest Postgres that Debian's packages installed, or of the path.
fn program(name: &str) -> Command {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed.filter_map(|dir| dir.file_name().to_str()?.parse::<u32>().ok()).max();
    let program =
        newest.map_or(PathBuf::from(name), |v| Path::new("/usr/lib/postgresql").join(v.to_string()).join("bin").join(name));
    let mut command = Command::new(program);
    if rustix::process::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Postgres does not run as root.
const NOBODY: u32 = 65_534;

/// Many nodes start at once with the api.
#[tokio::test]
async fn many_that_come_first_make_one_table() {
    let rig = Rig::start().await;
    let queues: Vec<_> = (0..10).map(|_| rig.subscriber()).collect();
    let asked = futures_util::future::join_all(queues.iter().map(|queue| queue.newest())).await;
    assert!(asked.iter().all(|newest| matches!(newest, Ok(0))), "{asked:?}");
}

#[tokio::test]
async fn a_publisher_that_is_far_behind_brings_nothing_back() {
    let mut rig = Rig::start().await;
    rig.put(&["lobby"; 50]).await;
    execute(rig.dir.path(), "DELETE FROM live_deltas WHERE pos <= 30").await;
    rig.publisher().publish(&rig.written()[10..]).await.unwrap();
    assert_eq!(take(&mut rig.subscriber().subscribe(30).await.unwrap(), 20).await, rig.written()[30..]);
    let error = rig.subscriber().subscribe(12).await.err().unwrap();
    assert!(matches!(error, QueueError::Passed { oldest: 31 }), "{error}");
}

#[tokio::test]
async fn a_table_that_somebody_locks_is_down_and_goes_on() {
    let mut rig = Rig::start().await;
    rig.put(&["lobby"]).await;
    let (locker, connection) = tokio_postgres::connect(&rig.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    locker.batch_execute("BEGIN; LOCK TABLE live_deltas").await.unwrap();
    rig.log.write(&["lobby"]);
    let error = rig.publisher.publish(&rig.log.entries[1..]).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 2 s"), "{error}");
    locker.batch_execute("COMMIT").await.unwrap();
    // The statement that was given up may be done all the same.
    rig.put(&["lobby"]).await;
    assert_eq!(take(&mut rig.subscriber().subscribe(0).await.unwrap(), 3).await, rig.written());
}

#[tokio::test]
async fn a_database_that_refuses_says_why() {
    let mut rig = Rig::start().await;
    rig.put(&["lobby"]).await;
    execute(rig.dir.path(), "ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    rig.log.write(&["lobby"]);
    // The session that is there goes on as it began.
    let error = rig.publisher().publish(&rig.written()[1..]).await.unwrap_err().to_string();
    assert!(error.contains("read-only transaction"), "{error}");
    assert_eq!(Publish::newest(&rig.publisher).await.unwrap(), 1);
}
