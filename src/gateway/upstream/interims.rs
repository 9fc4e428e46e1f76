//! Interim responses (RFC 9110 15.2) on their way from a backend to a client that has no answer yet.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use holdline_core::wire::forward;
use holdline_core::wire::head::{self, ResponseHead};

/// Held for a client that does not read, in bytes; what comes above it is dropped. As much as hyper's client takes of one answer's heads.
const HELD_MAX: usize = 64 << 10;

/// Heads that were not written to the client yet, and who writes them. How many there may be is bounded where they are read.
#[derive(Default)]
pub(crate) struct Interims {
    heads: RefCell<Vec<u8>>,
    waker: Cell<Option<Waker>>,
}

impl Interims {
    /// Takes another, as the client is to see it.
    pub(crate) fn push(&self, head: &ResponseHead<'_>) {
        let mut heads = self.heads.borrow_mut();
        let bytes = forward::interim(head);
        if heads.len() + bytes.len() > HELD_MAX {
            return;
        }
        heads.extend_from_slice(&bytes);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heads.borrow().is_empty()
    }

    /// All that were not written, possibly none.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.heads.take()
    }

    /// The next time that there are any.
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<Vec<u8>> {
        if self.is_empty() {
            self.listen(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(self.take())
    }

    /// Has `waker` woken by the next one.
    pub(crate) fn listen(&self, waker: &Waker) {
        let kept = self.waker.take().filter(|kept| kept.will_wake(waker));
        self.waker.set(Some(kept.unwrap_or_else(|| waker.clone())));
    }
}

/// Passes the interim responses at the start of `heads` on; returns what is behind them.
pub(super) fn pass<'h>(mut heads: &'h [u8], to: Option<&Interims>) -> &'h [u8] {
    // Few answers have any, and every one comes by here.
    while heads.get(9) == Some(&b'1') {
        let Ok(Some(head)) = head::parse(heads) else { break };
        if !head.is_interim() {
            break;
        }
        if let Some(to) = to {
            to.push(&head);
        }
        heads = &heads[head.len..];
    }
    heads
}
