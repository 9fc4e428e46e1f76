//! A redis-server, which `tests/run` installs.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::soon;
use crate::support::{TestDir, clock};

pub(super) struct Redis {
    server: Child,
    dir: TestDir,
}

impl Redis {
    pub(super) async fn start() -> Self {
        let dir = TestDir::new();
        let server = serve(dir.path()).await;
        Redis { server, dir }
    }

    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}/redis.sock", self.dir.path().display())
    }

    /// Killed, away for so long, and started again with what it had written down.
    pub(super) async fn restart(&mut self, away: std::time::Duration) {
        let back = clock::now() + away;
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        tokio::time::sleep_until(back).await;
        self.server = serve(self.dir.path()).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

async fn serve(dir: &Path) -> Child {
    let socket = dir.join("redis.sock");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--appendonly", "yes", "--save", "", "--dir"]).arg(dir).arg("--unixsocket").arg(&socket);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let server = command.spawn().unwrap_or_else(|e| panic!("`redis-server` does not start: {e}; tests/run installs it"));
    let listens = async {
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("redis-server listens", listens).await;
    server
}
