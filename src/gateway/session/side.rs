//! One side of a session: a socket, the bytes that wait for it, and how much of it is left.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use holdline_core::policy::KeepalivePolicy;
use tokio::io::ReadBuf;

use crate::net::socket::Transport;

use super::timer::Tick;

/// One side of a session; `None`: closed by us, and no flag is worth keeping. It is as small as it is because a flag's spare values say
/// that.
#[derive(Debug)]
pub struct Side<S>(Option<Open<S>>);

#[derive(Debug)]
struct Open<S> {
    io: S,
    /// Bytes that the socket was not ready for.
    spill: Option<Box<Spill>>,
    /// Its end was read.
    ended: bool,
    /// Its end was an EOF that anybody could have made: TLS was not closed before.
    torn: bool,
    /// It takes nothing more: a write failed.
    deaf: bool,
    /// Our end shall follow what is spilled.
    finish: bool,
    /// Our end was sent.
    finished: bool,
}

#[derive(Debug)]
struct Spill {
    bytes: Vec<u8>,
    at: usize,
}

/// The clock of one side's writes: where the tick since which they stall is noted (zero: they do not), and the present tick.
#[derive(Clone, Copy)]
pub struct Stall<'a> {
    /// Where to note it.
    pub since: &'a Cell<Tick>,
    /// Now.
    pub now: Tick,
}

impl<S: Transport> Side<S> {
    /// Both ends open; `early` bytes wait to be sent.
    pub fn new(io: S, early: &[u8]) -> Self {
        let spill = (!early.is_empty()).then(|| Box::new(Spill { bytes: early.to_vec(), at: 0 }));
        Side(Some(Open { io, spill, ended: false, torn: false, deaf: false, finish: false, finished: false }))
    }

    /// Reads once into `buffer`; zero bytes: it has ended, by EOF or by an error.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        let Some(open) = self.0.as_mut().filter(|open| !open.ended) else { return Poll::Ready(0) };
        let mut buffer = ReadBuf::new(buffer);
        let read = std::task::ready!(Pin::new(&mut open.io).poll_read(cx, &mut buffer));
        let n = buffer.filled().len();
        open.ended = n == 0;
        match read {
            Ok(()) => {}
            // As after any EOF, the other direction may go on.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => open.torn = true,
            Err(_) => self.close(),
        }
        Poll::Ready(n)
    }

    /// Writes `bytes`, or keeps what is not taken at once. Do not send more while it [`waits`](Side::waits), save a few bytes of our own.
    pub fn send(&mut self, cx: &mut Context<'_>, mut bytes: &[u8], stall: Stall<'_>) {
        let Some(open) = self.0.as_mut().filter(|open| open.hears()) else { return };
        if open.spill.is_none() {
            let n = open.write(cx, bytes);
            bytes = &bytes[n..];
        }
        if !bytes.is_empty() && open.hears() {
            stall.since.set(stall.now);
            open.spill.get_or_insert_with(|| Box::new(Spill { bytes: Vec::new(), at: 0 })).bytes.extend_from_slice(bytes);
        }
    }

    /// Sends what was kept, then our end if that is wanted.
    pub fn flush(&mut self, cx: &mut Context<'_>, stall: Stall<'_>) {
        let Some(open) = &mut self.0 else { return };
        if let Some(mut spill) = open.spill.take() {
            let n = open.write(cx, &spill.bytes[spill.at..]);
            spill.at += n;
            if spill.at < spill.bytes.len() && open.hears() {
                if n > 0 || stall.since.get() == 0 {
                    stall.since.set(stall.now);
                }
                open.spill = Some(spill);
                return;
            }
            stall.since.set(0);
        }
        if open.finish && open.hears() {
            open.send_end(cx);
        }
    }

    /// Bytes wait for it.
    pub fn waits(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.spill.is_some())
    }

    /// Our end shall follow what was sent; whether that is new.
    pub fn finish(&mut self) -> bool {
        self.0.as_mut().is_some_and(|open| !std::mem::replace(&mut open.finish, true) && open.hears())
    }

    /// Our end was asked for, sent or not.
    pub fn finishes(&self) -> bool {
        self.0.as_ref().is_none_or(|open| open.finish)
    }

    /// Forgets what waits for it: our end follows at once.
    pub fn abandon(&mut self, stall: Stall<'_>) {
        stall.since.set(0);
        if let Some(open) = &mut self.0 {
            open.spill = None;
            open.finish = true;
        }
    }

    /// Closes the socket; nothing comes from it or goes to it any more.
    pub fn close(&mut self) {
        self.0 = None;
    }

    /// Closes the socket by a reset.
    pub fn reset(&mut self) {
        if let Some(open) = &self.0 {
            open.io.reset_on_close();
        }
        self.close();
    }

    /// Sets the connection with a session's backend up.
    pub fn set_up_backend(&self, keepalive: &KeepalivePolicy) {
        if let Some(open) = &self.0 {
            open.io.set_up_backend(keepalive);
        }
    }

    /// It takes bytes: neither closed nor ended by us, no write failed.
    pub fn hears(&self) -> bool {
        self.0.as_ref().is_some_and(Open::hears)
    }

    /// Its end was read: EOF or an error.
    pub fn ended(&self) -> bool {
        self.0.as_ref().is_none_or(|open| open.ended)
    }

    /// Its end is no proof that it sent no more.
    pub fn torn(&self) -> bool {
        self.0.as_ref().is_none_or(|open| open.torn)
    }

    /// A write failed, or it is closed.
    pub fn lost(&self) -> bool {
        self.0.as_ref().is_none_or(|open| open.deaf)
    }

    /// Our end was sent and waits for nothing.
    pub fn finished(&self) -> bool {
        self.0.as_ref().is_none_or(|open| open.finished || open.deaf)
    }

    /// Both ends are through.
    pub fn over(&self) -> bool {
        self.ended() && self.finished()
    }

    /// How many bytes wait for it.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        let spill = self.0.as_ref().and_then(|open| open.spill.as_ref());
        spill.map_or(0, |spill| spill.bytes.len() - spill.at)
    }

    #[cfg(test)]
    pub(crate) fn get_mut(&mut self) -> Option<&mut S> {
        self.0.as_mut().map(|open| &mut open.io)
    }
}

impl<S: Transport> Open<S> {
    fn hears(&self) -> bool {
        !self.deaf && !self.finished
    }

    /// Writes until nothing is left or the socket takes no more; how much it took.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match Pin::new(&mut self.io).poll_write(cx, &bytes[at..]) {
                Poll::Ready(Ok(n)) if n > 0 => at += n,
                Poll::Ready(_) => {
                    // What it sent before it broke can still be read.
                    self.deaf = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        at
    }

    fn send_end(&mut self, cx: &mut Context<'_>) {
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => self.finished = true,
            Poll::Ready(Err(_)) => self.deaf = true,
            Poll::Pending => {}
        }
    }
}
