//! Messages that are due at fixed times, sent whether or not earlier ones came back, and timed from when they were due: so a proxy
//! that stalls cannot hide it by delaying what would have been measured (coordinated omission).
//!
//! A runtime's timers tick in milliseconds, which is longer than what is measured. So a thread of its own sleeps by the kernel's
//! high-resolution timer and writes; tasks read.

use std::io::{self, Write};
use std::net::TcpStream as StdStream;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Failure;
use crate::client::{ECHO, FRAME, Kind, now, shake};
use crate::options::Options;
use crate::times::Times;

/// The first of the messages, and of each second: connections and caches are warm then.
const WARM_UP: Duration = Duration::from_millis(500);

/// When messages are due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
    messages: u32,
    connections: u32,
}

impl Schedule {
    fn due(&self, message: u32) -> Instant {
        self.start + self.interval * message
    }

    /// Messages of one connection: every `connections`th.
    fn of(self, connection: u32) -> impl Iterator<Item = Instant> {
        (connection..self.messages).step_by(self.connections as usize).map(move |m| self.due(m))
    }
}

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let target = options.target()?;
    let (connections, rate) = (options.number("connections")?, options.number("rate")?);
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for number in 0..connections {
        let mut stream = target.connect_tcp(number).await?;
        shake(Kind::WebSocket, &mut stream).await?;
        let stream = stream.into_std()?;
        writers.push(stream.try_clone()?);
        readers.push(tokio::net::TcpStream::from_std(stream)?);
    }
    let interval = Duration::from_secs(1) / rate;
    let messages = u32::try_from((options.span()? + WARM_UP).as_nanos() / interval.as_nanos())?;
    let schedule = Schedule { start: now() + Duration::from_millis(10), interval, messages, connections };
    let cpu = options.cpu()?;
    let mut tasks = JoinSet::new();
    for (connection, mut stream) in (0..).zip(readers) {
        tasks.spawn(async move {
            let (mut times, mut echo) = (Times::default(), [0; ECHO]);
            for due in schedule.of(connection) {
                stream.read_exact(&mut echo).await?;
                if due - schedule.start >= WARM_UP {
                    times.add((now() - due).as_micros());
                }
            }
            Ok::<_, io::Error>(times)
        });
    }
    let pacer = std::thread::spawn(move || write_all(writers, schedule));
    let mut times = Times::default();
    while let Some(task) = tasks.join_next().await {
        times.append(task??);
    }
    pacer.join().map_err(|_| "the pacer panicked")??;
    cpu.print(messages.into())?;
    times.print();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a thread that has nothing else to do")]
fn write_all(mut writers: Vec<StdStream>, schedule: Schedule) -> io::Result<()> {
    // Best effort: with the default of 50 µs, every figure is that much higher, for every contender.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    for message in 0..schedule.messages {
        let due = schedule.due(message);
        let before = now();
        if due > before {
            std::thread::sleep(due - before);
        }
        let writer = &mut writers[(message % schedule.connections) as usize];
        // Non-blocking, as its other half is. A full buffer means that the proxy stands still; what is late then is timed as late.
        let mut frame = &FRAME[..];
        while !frame.is_empty() {
            match writer.write(frame) {
                Ok(n) => frame = &frame[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_belongs_to_one_connection() {
        let schedule = Schedule { start: now(), interval: Duration::from_micros(100), messages: 10, connections: 4 };
        let mut all: Vec<Instant> = (0..4).flat_map(|c| schedule.of(c)).collect();
        all.sort();
        assert_eq!(all, (0..10).map(|m| schedule.due(m)).collect::<Vec<_>>());
        assert_eq!(schedule.of(3).next(), Some(schedule.due(3)));
    }
}
