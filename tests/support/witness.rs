//! Watches children from within: see `witness.py`. Their connection ends when the last of their processes is gone.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::network::Network;
use super::soon;

pub(crate) struct Witness {
    listener: TcpListener,
    port: String,
}

/// A child that has reported.
pub(crate) struct Seen {
    pub(crate) line: String,
    stream: BufReader<TcpStream>,
}

impl Witness {
    /// For children that start in this network.
    pub(crate) async fn new(_network: &Network) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        Witness { listener, port }
    }

    /// The command of a child in this mode.
    pub(crate) fn command<'a>(&'a self, mode: &'a str) -> Vec<&'a str> {
        vec!["python3", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/witness.py"), &self.port, mode]
    }

    /// The next child that is up.
    pub(crate) async fn seen(&self) -> Seen {
        soon("a child reports to its witness", async {
            loop {
                let (stream, _) = self.listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                // Others on this machine may probe a port that was theirs before: they say nothing.
                if stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                    return Seen { line, stream };
                }
            }
        })
        .await
    }
}

impl Seen {
    /// Waits until none of its processes is left.
    pub(crate) async fn gone(mut self) {
        // A killed process may leave a reset, which is an end, too.
        let _ = soon("all processes of the child are gone", self.stream.read_to_end(&mut Vec::new())).await;
    }

    /// Whether one of its processes is left.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.stream.get_ref().try_read(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    }
}
