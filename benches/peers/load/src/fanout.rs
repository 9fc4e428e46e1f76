//! One room with many subscribers, and somebody who likes: how fast a delta reaches all of them, and what it weighs on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Failure;
use crate::client::now;
use crate::cpu::Cpu;
use crate::options::Options;
use crate::stream::Target;
use crate::times::Times;

/// Likes before those that count.
const WARM_UP: u64 = 3;
/// Without a rate: likes that may be on their way to somebody.
const UNDER_WAY: u64 = 2;
/// Handshakes at once.
const OPENING: usize = 64;
/// Deltas of one run, at the most.
const LIKES_MAX: u64 = 100_000;
/// For the last delta to reach the last subscriber; longer, and it is missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What writer and subscribers share.
struct Show {
    start: Instant,
    /// The seq of the comment: likes follow it.
    comment: u64,
    /// When each like was due, in ns since the start.
    due: Vec<AtomicU64>,
    heard: AtomicU64,
    all_heard: Notify,
    sessions: u64,
    likes: AtomicU64,
}

/// What one subscriber saw.
#[derive(Default)]
struct Heard {
    times: Times,
    frame_bytes: u64,
    socket_bytes: u64,
    last: u64,
}

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let targets =
        options.text("targets")?.split(',').map(|t| Target::new(t.parse()?, None)).collect::<Result<Vec<_>, Failure>>()?;
    let (sessions, rate, room) = (options.number("sessions")?, options.number("rate")?, options.text("room")?);
    let mut api = Api(targets[0].connect_tcp(0).await?);
    api.ask("PUT", &format!("/api/rooms/{room}"), Some(&json!({ "recovery": "strong" }))).await?;
    let text = "x".repeat(options.number("text")? as usize);
    let comment = api.ask("POST", &format!("/api/rooms/{room}/comments"), Some(&json!({ "user": "ann", "text": text }))).await?;
    let comment = comment["comment"].as_u64().ok_or("the api's answer has no comment in it")?;
    let show = Arc::new(Show {
        start: now(),
        comment,
        due: (0..LIKES_MAX).map(|_| AtomicU64::new(0)).collect(),
        heard: AtomicU64::new(0),
        all_heard: Notify::new(),
        sessions: sessions.into(),
        likes: AtomicU64::new(u64::MAX),
    });
    let mut subscribers = subscribe(&targets, room, &show).await?;
    let mut likes = Likes { api, room: room.to_owned(), show: Arc::clone(&show), written: 0 };
    let written = tokio::select! {
        written = likes.write_all(options, rate) => written,
        // None of them ends before it was told to.
        Some(ended) = subscribers.join_next() => match ended? {
            Err(why) => Err(why),
            Ok(_) => Err("a subscriber ended too early".into()),
        },
    };
    let (cpu, began) = written?;
    let (took, counted) = (began.elapsed().as_secs_f64(), likes.written - WARM_UP);
    let deliveries = counted * show.sessions;
    cpu.print(deliveries)?;
    show.likes.store(likes.written, Ordering::Release);
    let whole = likes.api.ask("GET", &format!("/api/rooms/{room}/comments/{comment}"), None).await?;
    // One more, which tells the subscribers that it was the last.
    likes.write(now()).await?;
    let (mut times, mut frame_bytes, mut socket_bytes) = (Times::default(), 0, 0);
    while let Some(done) = subscribers.join_next().await {
        let heard = done??;
        times.append(heard.times);
        frame_bytes += heard.frame_bytes;
        socket_bytes += heard.socket_bytes;
    }
    let each = deliveries as f64;
    println!("deltas_per_s {:.1}\ndeliveries_per_s {:.0}", counted as f64 / took, deliveries as f64 / took);
    println!("frame_bytes {:.1}\nsocket_bytes {:.1}", frame_bytes as f64 / each, socket_bytes as f64 / each);
    println!("comment_bytes {}", framed(whole.to_string().len()));
    times.print();
    Ok(())
}

async fn subscribe(targets: &[Target], room: &str, show: &Arc<Show>) -> Result<JoinSet<Result<Heard, Failure>>, Failure> {
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut handshakes = JoinSet::new();
    for number in 0..u32::try_from(show.sessions)? {
        let (target, opening) = (targets[number as usize % targets.len()].clone(), Arc::clone(&opening));
        let path = format!("/live/ws/{room}?after={}", show.comment);
        handshakes.spawn(async move {
            let _one_of_few = opening.acquire().await?;
            Subscriber::open(&target, number, &path).await
        });
    }
    let mut subscribers = JoinSet::new();
    while let Some(opened) = handshakes.join_next().await {
        let (subscriber, show) = (opened??, Arc::clone(show));
        subscribers.spawn(subscriber.listen(show));
    }
    Ok(subscribers)
}

struct Likes {
    api: Api,
    room: String,
    show: Arc<Show>,
    written: u64,
}

impl Likes {
    /// For the time that the options say; the CPU's count and the clock of that time.
    async fn write_all(&mut self, options: &Options, rate: u32) -> Result<(Cpu, Instant), Failure> {
        for _ in 0..WARM_UP {
            self.write(now()).await?;
        }
        self.all_heard(WARM_UP).await?;
        let (cpu, began) = (options.cpu()?, now());
        while began.elapsed() < options.span()? && self.written < LIKES_MAX {
            let due = if rate > 0 {
                let due = began + Duration::from_secs_f64((self.written - WARM_UP) as f64 / f64::from(rate));
                tokio::time::sleep_until(due).await;
                due
            } else {
                self.all_heard((self.written + 1).saturating_sub(UNDER_WAY)).await?;
                now()
            };
            self.write(due).await?;
        }
        self.all_heard(self.written).await?;
        Ok((cpu, began))
    }

    /// By another user each time, so that each is a delta.
    async fn write(&mut self, due: Instant) -> Result<(), Failure> {
        let since = u64::try_from((due - self.show.start).as_nanos())?;
        self.show.due.get(self.written as usize).ok_or("more likes than a run has")?.store(since, Ordering::Release);
        let path = format!("/api/rooms/{}/comments/{}/likes/user-{}", self.room, self.show.comment, self.written);
        self.written += 1;
        self.api.ask("PUT", &path, None).await.map(drop)
    }

    /// Until everybody has heard the first `likes`.
    async fn all_heard(&self, likes: u64) -> Result<(), Failure> {
        let wanted = likes * self.show.sessions;
        let heard = || self.show.heard.load(Ordering::Acquire);
        let all = async {
            loop {
                let told = self.show.all_heard.notified();
                if heard() >= wanted {
                    return;
                }
                told.await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all).await;
        in_time.map_err(|_| format!("{} of {wanted} deliveries are missing after {PATIENCE:?}", wanted - heard()).into())
    }
}

struct Subscriber {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Subscriber {
    async fn open(target: &Target, number: u32, path: &str) -> Result<Self, Failure> {
        let mut stream = target.connect_tcp(number).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::with_capacity(1024);
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err("the handshake was not answered".into());
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end);
        if head.split(' ').nth(1) != Some("101") {
            return Err(format!("the handshake was answered with: {}", head.trim_end().replace("\r\n", " | ")).into());
        }
        Ok(Subscriber { stream, bytes })
    }

    /// Up to the like after the last that counts.
    async fn listen(mut self, show: Arc<Show>) -> Result<Heard, Failure> {
        let mut heard = Heard { last: show.comment, ..Heard::default() };
        loop {
            while let Some((payload, length)) = frame(&self.bytes) {
                let said = &self.bytes[payload..length];
                if let Some(seq) = seq(said) {
                    if seq > show.comment.saturating_add(show.likes.load(Ordering::Acquire)) {
                        heard.socket_bytes -= self.bytes.len() as u64;
                        return Ok(heard);
                    }
                    heard.take(seq, length as u64, &show)?;
                } else if said.starts_with(b"{\"resync\"") {
                    return Err("a subscriber was too slow and was told to resync".into());
                }
                self.bytes.drain(..length);
            }
            let before = self.bytes.len();
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Err("a session was ended".into());
            }
            heard.socket_bytes += (self.bytes.len() - before) as u64;
        }
    }
}

impl Heard {
    fn take(&mut self, seq: u64, length: u64, show: &Show) -> Result<(), Failure> {
        if seq != self.last + 1 {
            return Err(format!("delta {seq} came after {}", self.last).into());
        }
        self.last = seq;
        let like = seq - show.comment - 1;
        let due = show.start + Duration::from_nanos(show.due[like as usize].load(Ordering::Acquire));
        if like + 1 == WARM_UP {
            // Hellos, presence: nothing of it is a like's.
            (self.frame_bytes, self.socket_bytes) = (0, 0);
        } else if like >= WARM_UP {
            self.frame_bytes += length;
            self.times.add(now().saturating_duration_since(due).as_micros());
        }
        // The last of a delta's subscribers is who the writer waits for.
        if (show.heard.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(show.sessions) {
            show.all_heard.notify_one();
        }
        Ok(())
    }
}

/// Where the payload of the first frame begins, and where the frame ends, once it is there. A server's frames have no mask.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (payload, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= payload + length).then_some((payload, payload + length))
}

/// A frame with a payload of this length.
fn framed(length: usize) -> usize {
    length + if length < 126 { 2 } else { 4 }
}

/// Of a delta.
fn seq(said: &[u8]) -> Option<u64> {
    let digits = said.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The api, over one connection that is kept.
struct Api(TcpStream);

impl Api {
    async fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::with_capacity(1024);
        loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
                if bytes.len() >= at + 4 + length {
                    let answer = &bytes[at + 4..at + 4 + length];
                    if head.split(' ').nth(1).is_none_or(|status| !status.starts_with('2')) {
                        return Err(format!("{method} {path}: {head} {}", String::from_utf8_lossy(answer)).into());
                    }
                    return Ok(serde_json::from_slice(answer).unwrap_or(Value::Null));
                }
            }
            if self.0.read_buf(&mut bytes).await? == 0 {
                return Err(format!("{method} {path}: no answer").into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_once_they_are_whole() {
        let said = br#"{"seq":104,"at":1}"#;
        let mut bytes = vec![0x81, said.len() as u8];
        bytes.extend(said);
        assert_eq!((frame(&bytes), frame(&bytes[..10]), frame(&[0x81])), (Some((2, 20)), None, None));
        assert_eq!((seq(&bytes[2..]), seq(b"{\"presence\":3}"), framed(20)), (Some(104), None, 22));
        let mut long = vec![0x81, 126, 1, 0];
        long.extend([b'x'; 256]);
        assert_eq!((frame(&long), framed(256)), (Some((4, 260)), 260));
    }
}
