//! One direction of a tunnel.

use std::task::{Context, Poll};

use holdline_core::wire::ws::Tracker;

use super::side::{Side, Stall};
use crate::net::scratch;
use crate::net::socket::Transport;

/// What happens to the bytes of a direction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode<'a> {
    /// They are passed on, a Close included; nothing behind it.
    Forward,
    /// They are passed on up to a Close.
    ForwardBeforeClose,
    /// They are passed on up to the next boundary; there this frame of ours is sent, and the rest is discarded.
    Last(&'a [u8]),
    /// They are followed and discarded.
    Discard,
}

/// What a call of [`pump`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pumped {
    /// Bytes that were read.
    pub(crate) read: usize,
    /// Bytes that were passed on.
    pub(crate) passed: usize,
    /// The frame of [`Mode::Last`] was sent.
    pub(crate) last_sent: bool,
}

/// Moves bytes until the source has no more or the sink takes no more; then the one of them that counts will wake the task.
pub(crate) fn pump<F: Transport, T: Transport>(
    cx: &mut Context<'_>,
    from: &mut Side<F>,
    track: &mut Tracker,
    to: &mut Side<T>,
    mut mode: Mode<'_>,
    stall: Stall<'_>,
) -> Pumped {
    let mut done = Pumped::default();
    loop {
        if !matches!(mode, Mode::Discard) && to.waits() {
            return done;
        }
        if let Mode::Last(frame) = mode
            && track.at_boundary()
            && !track.close_begun()
        {
            to.send(cx, frame, stall);
            done.last_sent = true;
            mode = Mode::Discard;
        }
        if from.ended() {
            return done;
        }
        let read = scratch::with(|buffer| {
            let n = std::task::ready!(from.poll_read(cx, buffer));
            let (passed, rest) = pass(track, &buffer[..n], mode);
            if to.hears() {
                done.passed += passed;
            }
            to.send(cx, &buffer[..passed], stall);
            if let Mode::Last(frame) = mode
                && rest > 0
            {
                to.send(cx, frame, stall);
                done.last_sent = true;
                track.feed(&buffer[passed..n]);
            }
            Poll::Ready(n)
        });
        let Poll::Ready(n) = read else { return done };
        done.read += n;
        if done.last_sent {
            mode = Mode::Discard;
        }
    }
}

/// How many of `bytes` are to be passed on, and how many are left behind a boundary to which [`Mode::Last`] holds.
fn pass(track: &mut Tracker, bytes: &[u8], mode: Mode<'_>) -> (usize, usize) {
    match mode {
        Mode::Last(_) => {
            let fed = track.feed_frame(bytes);
            (fed.taken, if track.at_boundary() && !track.close_begun() { bytes.len() - fed.taken } else { 0 })
        }
        Mode::Forward => (track.feed(bytes).taken, 0),
        Mode::ForwardBeforeClose => {
            let fed = track.feed(bytes);
            (fed.close_at.unwrap_or(fed.taken), 0)
        }
        Mode::Discard => {
            track.feed(bytes);
            (0, 0)
        }
    }
}

#[cfg(test)]
mod tests;
