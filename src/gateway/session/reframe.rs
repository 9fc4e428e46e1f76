//! A body on its way from the backend's framing to the client's, events followed if it is a stream of them. Pure: bytes in, bytes out, in
//! one buffer.

use std::ops::Range;
use std::time::Duration;

use holdline_core::wire::chunk::{self, Decoder, Piece};
use holdline_core::wire::head;
use holdline_core::wire::sse::{self, Boundary};

/// Bytes that must be free before those that are taken: the longest line before a chunk's data.
pub(crate) const ROOM_BEFORE: usize = 18;

/// Bytes that must be free behind them: the line's end after a chunk's data.
pub(crate) const ROOM_AFTER: usize = 2;

/// Follows one body: where it ends, and where events in it do.
#[derive(Debug)]
pub(crate) struct Reframe {
    source: Source,
    /// The client gets chunks; else its body ends with the connection.
    is_chunked: bool,
    /// `None`: there are none, or the content is compressed and they cannot be seen.
    events: Option<Boundary>,
    leaves: bool,
}

#[derive(Debug)]
enum Source {
    Chunked(Decoder),
    Length(u64),
    UntilClose,
}

/// What became of bytes that were taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Where in the buffer the client's bytes are; possibly none.
    pub(crate) out: Range<usize>,
    /// The stream is over, once those are sent.
    pub(crate) end: Option<End>,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The backend's body is complete.
    Complete,
    /// [`Reframe::leave`] was asked for, and this is the end of an event; what came behind it is dropped.
    Left,
    /// The backend broke its framing.
    Broken,
}

/// Whether, and when, a stream can be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is between two events now.
    Now,
    /// At the end of the present event; [`Reframe::take`] will say so.
    AfterEvent,
    /// Events cannot be seen in it.
    Never,
}

impl Reframe {
    /// `framing` is the backend's, `is_chunked` the client's; `has_events`: the content is a stream of events that can be seen.
    pub(crate) fn new(framing: head::Body, is_chunked: bool, has_events: bool) -> Self {
        let source = match framing {
            head::Body::Chunked => Source::Chunked(Decoder::default()),
            head::Body::Length(bytes) => Source::Length(bytes),
            head::Body::UntilClose => Source::UntilClose,
            head::Body::None => Source::Length(0),
        };
        Reframe { source, is_chunked, events: has_events.then(Boundary::default), leaves: false }
    }

    /// Turns the backend's bytes at `bytes` into the client's, in place. [`ROOM_BEFORE`] and [`ROOM_AFTER`] must be free around them.
    pub(crate) fn take(&mut self, buffer: &mut [u8], bytes: Range<usize>) -> Taken {
        let (mut content, mut end) = self.source.unframe(buffer, bytes);
        let last = self.events.as_mut().and_then(|events| events.feed(&buffer[content.clone()]));
        if let Some(complete) = last.filter(|_| self.leaves) {
            content.end = content.start + complete;
            end = Some(End::Left);
        }
        let out = if self.is_chunked { frame(buffer, content) } else { content };
        Taken { out, end }
    }

    /// The backend's connection ended: whether its body may end so.
    pub(crate) fn ends_with_connection(&self) -> bool {
        matches!(self.source, Source::UntilClose)
    }

    /// From now on the stream shall end with an event.
    pub(crate) fn leave(&mut self) -> Leave {
        self.leaves = true;
        match &self.events {
            Some(events) if events.is_at() => Leave::Now,
            Some(_) => Leave::AfterEvent,
            None => Leave::Never,
        }
    }

    /// What a client is told that shall come back in `retry`, and the end of its body.
    pub(crate) fn goodbye(&self, retry: Duration) -> Vec<u8> {
        let event = sse::retry(retry);
        let mut out = Vec::new();
        if self.is_chunked {
            chunk::encode(event.as_bytes(), &mut out);
        } else {
            out.extend_from_slice(event.as_bytes());
        }
        out.extend_from_slice(self.last());
        out
    }

    /// The end of the client's body.
    pub(crate) fn last(&self) -> &'static [u8] {
        if self.is_chunked { chunk::LAST } else { b"" }
    }
}

impl Source {
    /// Leaves only content, moved together at the start of `bytes`.
    fn unframe(&mut self, buffer: &mut [u8], bytes: Range<usize>) -> (Range<usize>, Option<End>) {
        match self {
            Source::UntilClose => (bytes, None),
            Source::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= len as u64;
                (bytes.start..bytes.start + len, (*left == 0).then_some(End::Complete))
            }
            Source::Chunked(decoder) => {
                let (mut at, mut content_end) = (bytes.start, bytes.start);
                loop {
                    let mut input = &buffer[at..bytes.end];
                    let piece = decoder.next(&mut input);
                    at = bytes.end - input.len();
                    let end = match piece {
                        Ok(Piece::Data(data)) => {
                            let len = data.len();
                            buffer.copy_within(at - len..at, content_end);
                            content_end += len;
                            continue;
                        }
                        Ok(Piece::Hungry) => None,
                        Ok(Piece::End) => Some(End::Complete),
                        Err(_) => Some(End::Broken),
                    };
                    return (bytes.start..content_end, end);
                }
            }
        }
    }
}

/// Makes one chunk of `content`, around it.
fn frame(buffer: &mut [u8], content: Range<usize>) -> Range<usize> {
    if content.is_empty() {
        return content;
    }
    let header = chunk::header(content.len());
    let start = content.start - header.as_ref().len();
    let end = content.end + chunk::CRLF.len();
    buffer[start..content.start].copy_from_slice(header.as_ref());
    buffer[content.end..end].copy_from_slice(chunk::CRLF);
    start..end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a client gets of `wire`, fed in `pieces`, until an end.
    fn relay(body: &mut Reframe, pieces: &[&[u8]]) -> (Vec<u8>, Option<End>) {
        let mut out = Vec::new();
        for piece in pieces {
            let mut buffer = vec![b'#'; ROOM_BEFORE + piece.len() + ROOM_AFTER];
            let bytes = ROOM_BEFORE..ROOM_BEFORE + piece.len();
            buffer[bytes.clone()].copy_from_slice(piece);
            let taken = body.take(&mut buffer, bytes);
            out.extend_from_slice(&buffer[taken.out]);
            if taken.end.is_some() {
                return (out, taken.end);
            }
        }
        (out, None)
    }

    #[test]
    fn chunks_are_joined_and_their_ends_need_not_meet_events() {
        let mut body = Reframe::new(head::Body::Chunked, true, true);
        let got = relay(&mut body, &[b"3\r\ndat\r\n", b"7;x=y\r\na: 1\n\nd\r\n3\r\nata\r\n", b"0\r\n\r\nrest"]);
        assert_eq!(got, (b"3\r\ndat\r\na\r\na: 1\n\ndata\r\n".to_vec(), Some(End::Complete)));
    }

    #[test]
    fn the_other_framings_end_where_they_should() {
        let mut body = Reframe::new(head::Body::Length(5), false, true);
        assert_eq!(relay(&mut body, &[b"abc", b"defg"]), (b"abcde".to_vec(), Some(End::Complete)));
        assert_eq!(relay(&mut Reframe::new(head::Body::Length(0), true, true), &[b""]), (vec![], Some(End::Complete)));
        assert_eq!(relay(&mut Reframe::new(head::Body::None, false, false), &[b"rubbish"]), (vec![], Some(End::Complete)));
        let mut body = Reframe::new(head::Body::Chunked, false, false);
        assert_eq!(relay(&mut body, &[b"2\r\nhe\r\n3", b"\r\nllo\r\n0\r\n\r\nx"]), (b"hello".to_vec(), Some(End::Complete)));
        let mut body = Reframe::new(head::Body::UntilClose, true, true);
        assert_eq!(relay(&mut body, &[b"ab"]), (b"2\r\nab\r\n".to_vec(), None));
        assert!(body.ends_with_connection() && !Reframe::new(head::Body::Chunked, true, true).ends_with_connection());
    }

    #[test]
    fn content_before_broken_framing_still_goes_out() {
        let mut body = Reframe::new(head::Body::Chunked, false, true);
        assert_eq!(relay(&mut body, &[b"2\r\nab\r\nxyz"]), (b"ab".to_vec(), Some(End::Broken)));
        assert_eq!(relay(&mut Reframe::new(head::Body::Chunked, false, false), &[b"zz\r\n"]).1, Some(End::Broken));
    }

    #[test]
    fn a_stream_is_left_between_two_events() {
        let mut body = Reframe::new(head::Body::UntilClose, false, true);
        assert_eq!(body.leave(), Leave::Now);
        let mut body = Reframe::new(head::Body::UntilClose, false, true);
        relay(&mut body, &[b"data: a\n"]);
        assert_eq!(body.leave(), Leave::AfterEvent);
        let got = relay(&mut body, &[b"data: b\n", b"\ndata: c\n\ndata: d\n"]);
        assert_eq!(got, (b"data: b\n\ndata: c\n\n".to_vec(), Some(End::Left)));
        assert_eq!(Reframe::new(head::Body::UntilClose, true, false).leave(), Leave::Never);
    }

    #[test]
    fn a_goodbye_says_when_to_come_back() {
        let goodbye = |is_chunked| {
            let body = Reframe::new(head::Body::UntilClose, is_chunked, true);
            String::from_utf8(body.goodbye(Duration::from_millis(1200))).unwrap()
        };
        assert_eq!(goodbye(true), "d\r\nretry: 1200\n\n\r\n0\r\n\r\n");
        assert_eq!(goodbye(false), "retry: 1200\n\n");
    }

    proptest! {
        #[test]
        fn whatever_the_splits_the_content_is_the_same(
            chunks in proptest::collection::vec("[a-c\r\n:]{1,20}", 1..6),
            mut cuts in proptest::collection::vec(0usize..160, 0..12),
            leaves in any::<bool>(),
        ) {
            let mut wire = Vec::new();
            chunks.iter().for_each(|c| chunk::encode(c.as_bytes(), &mut wire));
            wire.extend_from_slice(chunk::LAST);
            cuts.push(wire.len());
            cuts.iter_mut().for_each(|c| *c = (*c).min(wire.len()));
            cuts.sort_unstable();
            let mut start = 0;
            let pieces: Vec<_> = cuts.iter().map(|end| &wire[std::mem::replace(&mut start, *end)..*end]).collect();
            let mut body = Reframe::new(head::Body::Chunked, true, true);
            // Left in mid-event, so that the start of the stream is not the end of it.
            let (first, _) = relay(&mut body, &[b"1\r\nx\r\n"]);
            prop_assert_eq!(first, b"1\r\nx\r\n");
            if leaves {
                prop_assert_eq!(body.leave(), Leave::AfterEvent);
            }
            let (out, end) = relay(&mut body, &pieces);
            let mut decoder = Decoder::default();
            let (mut input, mut content) = (&out[..], Vec::new());
            while let Piece::Data(data) = decoder.next(&mut input).unwrap() {
                content.extend_from_slice(data);
            }
            let whole = chunks.concat().into_bytes();
            prop_assert!(whole.starts_with(&content));
            let mut events = Boundary::default();
            events.feed(b"x");
            events.feed(&content);
            match end {
                Some(End::Left) => prop_assert!(leaves && events.is_at()),
                Some(End::Complete) => {
                    prop_assert_eq!(&content, &whole);
                    let mut events = Boundary::default();
                    events.feed(b"x");
                    prop_assert!(!leaves || events.feed(&whole).is_none());
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
