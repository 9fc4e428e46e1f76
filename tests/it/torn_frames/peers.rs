//! Both ends of a session, each with its habits. What one says is cut into pieces that have nothing to do with its frames, so at any moment
//! most sessions are in the middle of one, in both directions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::script::{Reader, Script, Seen, Sizes, masked_close};
use crate::support::client::PATIENCE;

/// What is special about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Habit {
    /// Nothing: both talk, and the client goes when it is told to.
    Talks,
    /// The client reads less than the backend would send.
    ReadsSlowly,
    /// The client stops reading, in the middle of a frame.
    StopsReading,
    /// The client stops sending, in the middle of a frame, for ever.
    StopsSending,
    /// The same, until it is told to go: then it ends its frame.
    ComesBack,
    /// The backend stops sending, in the middle of a frame.
    BackendStops,
}

impl Habit {
    pub(super) fn of(n: u64) -> Self {
        match n % 50 {
            0 => Habit::StopsReading,
            1 => Habit::BackendStops,
            2 | 3 => Habit::StopsSending,
            4 | 5 => Habit::ComesBack,
            6 | 7 => Habit::ReadsSlowly,
            _ => Habit::Talks,
        }
    }

    /// Its present frame has no end, so no Close can come behind it.
    pub(super) fn is_stuck(self) -> bool {
        matches!(self, Habit::StopsReading | Habit::BackendStops)
    }

    /// Somebody has to come to a standstill first.
    pub(super) fn stands_still(self) -> bool {
        !matches!(self, Habit::Talks | Habit::ReadsSlowly)
    }

    fn backend_sizes(self) -> Sizes {
        match self {
            Habit::StopsReading => Sizes::Huge,
            Habit::ReadsSlowly => Sizes::Large,
            _ => Sizes::Mixed,
        }
    }
}

/// What all sessions of a run share.
pub(super) struct Run {
    pub(super) seed: u64,
    /// Sessions of which a side has come to a standstill.
    pub(super) still: AtomicUsize,
    /// The drain is over: who stopped reading reads the rest.
    pub(super) over: watch::Sender<bool>,
    /// The longest time for which the clients' thread did not come round, in milliseconds.
    pub(super) lag_ms: AtomicU64,
}

impl Run {
    fn script(&self, n: u64, masked: bool) -> Script {
        let sizes = if masked { Sizes::Mixed } else { Habit::of(n).backend_sizes() };
        Script::new(self.seed.wrapping_add(n << 20), masked, sizes)
    }

    fn rng(&self, n: u64, masked: bool) -> SmallRng {
        SmallRng::seed_from_u64(self.seed ^ (n << 1 | u64::from(masked)))
    }
}

/// One side's account of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) n: u64,
    /// Bytes of its own script that it wrote.
    pub(super) sent: u64,
    pub(super) seen: Seen,
    /// From the Close that a client read to its own, if it sent one.
    pub(super) took: Duration,
}

/// What the reading half knows of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Close,
    End,
}

/// The client of session `n`, until its connection ends. `opened` is told once the handshake is through.
pub(super) async fn client(run: Arc<Run>, n: u64, address: SocketAddr, opened: impl FnOnce()) -> Result<Account, String> {
    let habit = Habit::of(n);
    let (mut stream, early) = open(n, habit, address).await.map_err(|e| format!("handshake: {e}"))?;
    opened();
    let mut reader = Reader::new(run.script(n, false));
    reader.feed(&early)?;
    let (tell, told) = watch::channel(Told::Nothing);
    let sent = AtomicU64::new(0);
    let (from, to) = stream.split();
    let mut writer = Writer::new(to, run.script(n, true), run.rng(n, true), &sent);
    let took = AtomicU64::new(0);
    let writing = async {
        let told = match habit {
            Habit::StopsSending | Habit::ComesBack => writer.talk_and_stop(told, &run).await,
            _ => writer.talk(told).await,
        };
        if told == Told::Close && habit != Habit::StopsSending {
            let began = now();
            writer.leave(habit).await;
            took.store(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    };
    let reading = async {
        let read = read_as(&mut reader, from, habit, &run, &tell).await;
        tell.send_replace(Told::End);
        read
    };
    let (read, ()) = tokio::join!(reading, writing);
    read?;
    let seen = reader.end()?;
    Ok(Account { n, sent: sent.into_inner(), seen, took: Duration::from_millis(took.into_inner()) })
}

#[expect(clippy::disallowed_methods, reason = "how late this machine is, only its clock can tell")]
pub(super) fn now() -> Instant {
    Instant::now()
}

async fn open(n: u64, habit: Habit, address: SocketAddr) -> io::Result<(TcpStream, Vec<u8>)> {
    let socket = TcpSocket::new_v4()?;
    if matches!(habit, Habit::StopsReading | Habit::ReadsSlowly) {
        // What it does not read shall wait in Holdline and behind it.
        socket.set_recv_buffer_size(8 << 10)?;
    }
    let mut stream = socket.connect(address).await?;
    let head = format!(
        "GET /{n} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (head, early) = tokio::time::timeout(PATIENCE, read_head(&mut stream)).await.map_err(io::Error::other)??;
    if head.starts_with("HTTP/1.1 101 ") { Ok((stream, early)) } else { Err(io::Error::other(head)) }
}

/// The backend's side of the session that comes by `stream`; `None`: a probe.
pub(super) async fn backend(run: Arc<Run>, mut stream: TcpStream) -> Option<Result<Account, String>> {
    let (head, early) = read_head(&mut stream).await.ok()?;
    let n = head.split(['/', ' ']).nth(2)?.parse().ok()?;
    Some(session_of_backend(run, n, stream, &early).await)
}

async fn session_of_backend(run: Arc<Run>, n: u64, mut stream: TcpStream, early: &[u8]) -> Result<Account, String> {
    const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let habit = Habit::of(n);
    stream.write_all(SWITCH).await.map_err(|e| format!("answer: {e}"))?;
    let mut reader = Reader::new(run.script(n, true));
    reader.feed(early)?;
    let (tell, told) = watch::channel(Told::Nothing);
    let sent = AtomicU64::new(0);
    let (from, to) = stream.split();
    let mut writer = Writer::new(to, run.script(n, false), run.rng(n, false), &sent);
    let writing = async {
        match habit {
            Habit::BackendStops => writer.talk_and_stop(told, &run).await,
            Habit::StopsReading | Habit::ReadsSlowly => writer.talk_as_fast_as_it_is_read().await,
            _ => writer.talk(told).await,
        }
    };
    // Its own end follows Holdline's at once, in the middle of a frame as a rule.
    let read = tokio::select! {
        read = read_as(&mut reader, from, Habit::Talks, &run, &tell) => read,
        never = async { writing.await; std::future::pending().await } => never,
    };
    read?;
    let _ = stream.shutdown().await;
    Ok(Account { n, sent: sent.into_inner(), seen: reader.end()?, took: Duration::ZERO })
}

/// A head, and what came behind it.
async fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let early = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), early));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads to the end, whatever kind of end.
async fn read_as(
    reader: &mut Reader,
    from: ReadHalf<'_>,
    habit: Habit,
    run: &Run,
    tell: &watch::Sender<Told>,
) -> Result<(), String> {
    let mut stopped = false;
    loop {
        if habit == Habit::StopsReading && !stopped && reader.in_huge() {
            stopped = true;
            run.still.fetch_add(1, Ordering::SeqCst);
            // It cannot fail: the run is ours.
            let _ = run.over.subscribe().wait_for(|over| *over).await;
        }
        if habit == Habit::ReadsSlowly {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut buffer = [0; 8 << 10];
        let room = if habit == Habit::StopsReading && !stopped { 1_000 } else { buffer.len() };
        if from.readable().await.is_err() {
            return Ok(());
        }
        match from.try_read(&mut buffer[..room]) {
            Ok(0) => return Ok(()),
            Ok(n) => reader.feed(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(()),
        }
        if reader.is_told() {
            tell.send_if_modified(|told| std::mem::replace(told, Told::Close) == Told::Nothing);
        }
    }
}

struct Writer<'a> {
    to: WriteHalf<'a>,
    script: Script,
    rng: SmallRng,
    frame: Vec<u8>,
    at: usize,
    sent: &'a AtomicU64,
}

impl<'a> Writer<'a> {
    fn new(to: WriteHalf<'a>, script: Script, rng: SmallRng, sent: &'a AtomicU64) -> Self {
        Writer { to, script, rng, frame: Vec::new(), at: 0, sent }
    }

    /// Pieces with pauses, until the other half knows something.
    async fn talk(&mut self, mut told: watch::Receiver<Told>) -> Told {
        loop {
            let pause = Duration::from_millis(self.rng.random_range(500..3_500));
            tokio::select! {
                told = told.wait_for(|told| *told != Told::Nothing) => return *told.unwrap(),
                () = tokio::time::sleep(pause) => {}
            }
            let piece = async {
                // The longest frames are through in a few pieces too.
                let is_long = self.frame.len() - self.at > 8_000;
                let len = self.rng.random_range(if is_long { 25_000..30_000 } else { 1..4_000 });
                self.say(len).await
            };
            let said = tokio::select! {
                told = told.wait_for(|told| *told != Told::Nothing) => return *told.unwrap(),
                said = piece => said,
            };
            if said.is_err() {
                return *told.wait_for(|told| *told == Told::End).await.unwrap();
            }
        }
    }

    /// Half a frame, then nothing.
    async fn talk_and_stop(&mut self, mut told: watch::Receiver<Told>, run: &Run) -> Told {
        for _ in 0..self.rng.random_range(0..3) {
            let len = self.rng.random_range(1..2_000);
            let _ = self.say(len).await;
        }
        let _ = self.say(self.frame.len() - self.at).await;
        let first_half = self.begin().max(2) / 2;
        let _ = self.say(first_half).await;
        run.still.fetch_add(1, Ordering::SeqCst);
        *told.wait_for(|told| *told != Told::Nothing).await.unwrap()
    }

    async fn talk_as_fast_as_it_is_read(&mut self) -> Told {
        while self.say(16 << 10).await.is_ok() {}
        Told::End
    }

    /// The end of its frame, then a Close.
    async fn leave(&mut self, habit: Habit) {
        if habit == Habit::ComesBack {
            let pause = Duration::from_millis(self.rng.random_range(0..2_000));
            tokio::time::sleep(pause).await;
        }
        let rest = self.frame.len() - self.at;
        if self.say(rest).await.is_ok() {
            let close = masked_close(1012, self.rng.random());
            // Holdline may have lost patience.
            let _ = self.to.write_all(&close).await;
        }
    }

    /// The next frame is begun; its length.
    fn begin(&mut self) -> usize {
        self.script.next(&mut self.frame);
        self.at = 0;
        self.frame.len()
    }

    /// The next `len` bytes of the script.
    async fn say(&mut self, mut len: usize) -> io::Result<()> {
        while len > 0 {
            if self.at == self.frame.len() {
                self.begin();
            }
            let end = self.frame.len().min(self.at + len);
            // What was written is counted even if this future goes no further.
            let n = self.to.write(&self.frame[self.at..end]).await?;
            self.at += n;
            self.sent.fetch_add(n as u64, Ordering::Relaxed);
            len -= n;
        }
        Ok(())
    }
}
