use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use holdline_core::wire::ws::{PING, Tracker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::net::scratch::READ_MAX;

/// A socket that has `input` without an end and takes `room` bytes.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    room: usize,
    output: Vec<u8>,
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = (self.input.len() - self.read).min(buffer.remaining());
        if n == 0 {
            return Poll::Pending;
        }
        buffer.put_slice(&self.input[self.read..][..n]);
        self.read += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = bytes.len().min(self.room);
        if n == 0 {
            return Poll::Pending;
        }
        self.room -= n;
        self.output.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Pipe {
    fn reset_on_close(&self) {}
}

/// A backend's side that has `input`, a client's side that takes `room` bytes.
fn sides(input: &[u8], room: usize) -> (Side<Pipe>, Side<Pipe>) {
    (Side::new(Pipe { input: input.to_vec(), ..Pipe::default() }, &[]), Side::new(Pipe { room, ..Pipe::default() }, &[]))
}

fn message(len: u16) -> Vec<u8> {
    [&[0x82, 126][..], &len.to_be_bytes(), &vec![1; len.into()]].concat()
}

#[test]
fn what_is_kept_for_a_slow_side_is_bounded_and_nothing_more_is_read() {
    let input = message(60_000);
    let (mut from, mut to) = sides(&input, 1_000);
    let (since, cx) = (Cell::new(0), &mut Context::from_waker(Waker::noop()));
    let stall = Stall { since: &since, now: 9 };
    let mut tracker = Tracker::new(false);
    let done = pump(cx, &mut from, &mut tracker, &mut to, Mode::Forward, stall);
    assert_eq!((done.read, to.waiting(), since.get()), (READ_MAX, READ_MAX - 1_000, 9));
    assert_eq!(pump(cx, &mut from, &mut tracker, &mut to, Mode::Forward, stall), Pumped::default());

    // Progress restarts the clock; once all is through, it stops.
    let later = Stall { since: &since, now: 12 };
    to.get_mut().unwrap().room = 10;
    to.flush(cx, later);
    assert_eq!((to.waiting(), since.get()), (READ_MAX - 1_010, 12));
    to.get_mut().unwrap().room = usize::MAX;
    to.flush(cx, later);
    assert_eq!((to.waiting(), since.get()), (0, 0));
    pump(cx, &mut from, &mut tracker, &mut to, Mode::Forward, later);
    assert!(to.get_mut().unwrap().output == input);
}

#[test]
fn the_last_frame_comes_at_the_first_boundary_in_whatever_was_read() {
    let (one, two) = (message(200), message(300));
    let input = [&one[..], &two[..], &one[..50]].concat();
    for already in [0, 1, 100, one.len(), one.len() + 3] {
        let (mut from, mut to) = sides(&input[already..], usize::MAX);
        let (since, cx) = (Cell::new(0), &mut Context::from_waker(Waker::noop()));
        let mut tracker = Tracker::new(false);
        tracker.feed(&input[..already]);
        let done = pump(cx, &mut from, &mut tracker, &mut to, Mode::Last(&PING), Stall { since: &since, now: 1 });
        let boundary = [0, one.len(), one.len() + two.len()].into_iter().find(|end| *end >= already).unwrap();
        assert!(done.last_sent);
        assert_eq!(done.read, input.len() - already, "the rest is followed");
        assert!(!tracker.at_boundary());
        assert!(to.get_mut().unwrap().output == [&input[already..boundary], &PING].concat(), "already {already}");
    }
}

#[test]
fn without_a_boundary_there_is_no_last_frame() {
    let half = &message(1_000)[..500];
    let (mut from, mut to) = sides(&half[1..], usize::MAX);
    let (since, cx) = (Cell::new(0), &mut Context::from_waker(Waker::noop()));
    let mut tracker = Tracker::new(false);
    tracker.feed(&half[..1]);
    let done = pump(cx, &mut from, &mut tracker, &mut to, Mode::Last(&PING), Stall { since: &since, now: 1 });
    assert_eq!((done.passed, done.last_sent), (499, false));
}

#[test]
fn a_last_frame_that_was_written_in_part_is_finished_before_our_end() {
    let (mut from, mut to) = sides(&[], 1);
    let (since, cx) = (Cell::new(0), &mut Context::from_waker(Waker::noop()));
    let stall = Stall { since: &since, now: 4 };
    let frame = holdline_core::wire::close::frame(1012, "drained", None);
    let done = pump(cx, &mut from, &mut Tracker::new(false), &mut to, Mode::Last(&frame), stall);
    assert!(done.last_sent);
    to.finish();
    for taken in 1..frame.len() {
        assert_eq!((to.waiting(), to.finished()), (frame.len() - taken, false));
        to.get_mut().unwrap().room = 1;
        to.flush(cx, stall);
    }
    assert!(to.finished());
    assert_eq!(to.get_mut().unwrap().output, frame);
}
