//! A real Postgres, and what only it can do.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use holdline_live::delta::Entry;
use holdline_live::queue::postgres::Postgres;
use holdline_live::queue::{Publish, QueueError, Subscribe};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::published::{Log, Published};
use crate::rig::{self, take};
use crate::server::Server;

pub(crate) struct Rig {
    log: Log,
    publisher: Postgres,
    server: Option<Server>,
    dir: TempDir,
}

impl Rig {
    async fn execute(&self, sql: &str) {
        let (client, connection) = tokio_postgres::connect(&url(&self.dir), tokio_postgres::NoTls).await.unwrap();
        let mover = tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
        drop(client);
        mover.await.unwrap().unwrap();
    }
}

/// By the socket in the directory.
fn url(dir: &TempDir) -> String {
    format!("postgres://live@{}/postgres", dir.path().display().to_string().replace('/', "%2F"))
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

impl rig::Rig for Rig {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if rustix::process::getuid().is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut initdb = program("initdb");
        initdb.args(["--username", "live", "--auth", "trust", "--no-locale", "--encoding", "UTF8", "--no-sync", "--pgdata"]);
        let made = initdb.arg(dir.path().join("data")).output();
        let made = made.unwrap_or_else(|e| panic!("`initdb` does not start: {e}; tests/run installs it"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

        let publisher = Postgres::connect(&url(&dir)).unwrap();
        let mut rig = Rig { log: Log::default(), publisher, server: None, dir };
        rig.restart();
        rig
    }

    async fn put(&mut self, rooms: &[&str]) {
        self.log.write(rooms);
        self.log.publish(&self.publisher).await;
    }

    fn written(&self) -> &[Entry] {
        &self.log.entries
    }

    async fn outgrow(&mut self) {
        self.put(&vec!["lobby"; 101_000]).await;
    }

    fn subscriber(&self) -> Arc<dyn Subscribe> {
        Arc::new(Postgres::connect(&url(&self.dir)).unwrap())
    }

    async fn cut(&mut self) {
        let others = "datname = current_database() AND pid <> pg_backend_pid()";
        self.execute(&format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {others}")).await;
    }

    fn kill(&mut self) {
        self.server = None;
    }

    fn restart(&mut self) {
        let mut command = program("postgres");
        let sockets = format!("unix_socket_directories={}", self.dir.path().display());
        command.args(["-c", "listen_addresses=", "-c", &sockets, "-D"]).arg(self.dir.path().join("data"));
        command.current_dir(self.dir.path());
        // What it calls an immediate shutdown is a crash that takes its children along.
        self.server = Some(Server::start(command, "ready to accept connections", Signal::QUIT).0);
    }
}

impl Published for Rig {
    fn url(&self) -> String {
        url(&self.dir)
    }

    fn publisher(&self) -> Box<dyn Publish> {
        Box::new(Postgres::connect(&url(&self.dir)).unwrap())
    }
}

/// Many nodes start at once with the api.
#[tokio::test]
async fn many_that_come_first_make_one_table() {
    use rig::Rig as _;
    let rig = Rig::start().await;
    let queues: Vec<_> = (0..10).map(|_| rig.subscriber()).collect();
    let asked = futures_util::future::join_all(queues.iter().map(|queue| queue.newest())).await;
    assert!(asked.iter().all(|newest| matches!(newest, Ok(0))), "{asked:?}");
}

#[tokio::test]
async fn a_publisher_that_is_far_behind_brings_nothing_back() {
    use rig::Rig as _;
    let mut rig = Rig::start().await;
    rig.put(&["lobby"; 50]).await;
    rig.execute("DELETE FROM live_deltas WHERE pos <= 30").await;
    rig.publisher().publish(&rig.written()[10..]).await.unwrap();
    assert_eq!(take(&mut rig.subscriber().subscribe(30).await.unwrap(), 20).await, rig.written()[30..]);
    let error = rig.subscriber().subscribe(12).await.err().unwrap();
    assert!(matches!(error, QueueError::Passed { oldest: 31 }), "{error}");
}

#[tokio::test]
async fn a_table_that_somebody_locks_is_down_and_goes_on() {
    use rig::Rig as _;
    let mut rig = Rig::start().await;
    rig.put(&["lobby"]).await;
    let (locker, connection) = tokio_postgres::connect(&url(&rig.dir), tokio_postgres::NoTls).await.unwrap();
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
    use rig::Rig as _;
    let mut rig = Rig::start().await;
    rig.put(&["lobby"]).await;
    rig.execute("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    rig.log.write(&["lobby"]);
    // The session that is there goes on as it began.
    let error = rig.publisher().publish(&rig.written()[1..]).await.unwrap_err().to_string();
    assert!(error.contains("read-only transaction"), "{error}");
    assert_eq!(Publish::newest(&rig.publisher).await.unwrap(), 1);
}
