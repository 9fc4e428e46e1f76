//! Finds the ends of events in an event stream (WHATWG HTML 9.2.5 and 9.2.6). The input may be split anywhere. Only line ends,
//! the first byte of each line and the byte order mark are examined.

use std::time::Duration;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Tracks a stream and reports where data may be inserted, or the stream ended, without splitting an event.
#[derive(Clone, Debug)]
pub struct Boundary {
    at: At,
    /// The last byte was a CR; a following LF is part of the same line end.
    after_cr: bool,
    /// A field was received and no blank line has ended its event yet. Comments do not set this.
    pending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Number of bytes of a byte order mark received at the start of the stream.
    Bom(u8),
    LineStart,
    Comment,
    Field,
}

impl Default for Boundary {
    fn default() -> Self {
        Boundary { at: At::Bom(0), after_cr: false, pending: false }
    }
}

impl Boundary {
    /// Processes `bytes` and returns the offset just after the last boundary in them, if any.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut last = None;
        let mut i = 0;
        while i < bytes.len() {
            if matches!(self.at, At::Comment | At::Field) {
                // The rest of the line is irrelevant.
                match bytes[i..].iter().position(|b| matches!(b, b'\r' | b'\n')) {
                    Some(n) => i += n,
                    None => break,
                }
            }
            self.step(bytes[i]);
            i += 1;
            if self.is_at() {
                last = Some(i);
            }
        }
        last
    }

    /// Whether the stream is at a boundary: at its start, after the blank line of an event, or after comments that follow one.
    pub fn is_at(&self) -> bool {
        matches!(self.at, At::LineStart | At::Bom(0)) && !self.pending
    }

    fn step(&mut self, byte: u8) {
        let ends_crlf = self.after_cr && byte == b'\n';
        self.after_cr = byte == b'\r';
        if ends_crlf {
            return;
        }
        self.at = match (self.at, byte) {
            (At::Bom(n), _) if BOM.get(usize::from(n)) == Some(&byte) => {
                if n == 2 {
                    At::LineStart
                } else {
                    At::Bom(n + 1)
                }
            }
            (At::LineStart | At::Bom(0), b'\r' | b'\n') => {
                self.pending = false;
                At::LineStart
            }
            (At::Comment, b'\r' | b'\n') => At::LineStart,
            // An incomplete byte order mark is the start of a field name.
            (At::Field | At::Bom(_), b'\r' | b'\n') => {
                self.pending = true;
                At::LineStart
            }
            (At::LineStart | At::Bom(0), b':') => At::Comment,
            (At::LineStart | At::Bom(_), _) => At::Field,
            (inside, _) => inside,
        };
    }
}

/// An event that dispatches nothing and sets the reconnection time of an EventSource. Must be inserted at a boundary.
pub fn retry(wait: Duration) -> String {
    format!("retry: {}\n\n", wait.as_millis())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn last(text: &str) -> Option<usize> {
        Boundary::default().feed(text.as_bytes())
    }

    #[test]
    fn a_blank_line_ends_an_event_whatever_ends_lines() {
        assert_eq!(last("data: a\n\ndata: b"), Some(9));
        assert_eq!(last("data: a\r\rdata: b\r"), Some(9));
        assert_eq!(last("data: a\r\n\r\ndata: b\r\n"), Some(11));
        assert_eq!(last("data: a\r\n\ndata"), Some(10));
        assert_eq!(last("data: a\n\r\ndata"), Some(10));
        assert_eq!(last("data: a\r\ndata: b\r\n"), None);
        assert_eq!(last("data: a\n\n\n\n"), Some(11));
    }

    #[test]
    fn the_line_feed_of_a_split_blank_line_still_belongs_to_it() {
        let mut boundary = Boundary::default();
        assert_eq!(boundary.feed(b"data: a\r\n\r"), Some(10));
        assert_eq!(boundary.feed(b"\n"), Some(1));
        assert_eq!(boundary.feed(b"d"), None);
    }

    #[test]
    fn comments_leave_nothing_pending() {
        assert_eq!(last(": ping\n"), Some(7));
        assert_eq!(last("data: a\n: ping\n"), None);
        assert_eq!(last("data: a\n\n:\n:\ndata"), Some(13));
    }

    #[test]
    fn a_byte_order_mark_is_part_of_no_line() {
        assert!(Boundary::default().is_at());
        assert_eq!(last("\u{feff}"), Some(3));
        assert_eq!(last("\u{feff}: c\n"), Some(7));
        // The second one begins the name of a field.
        assert_eq!(last("\u{feff}\u{feff}: c\n"), Some(3));
        let mut half = Boundary::default();
        assert_eq!((half.feed(b"\xef\xbb"), half.is_at()), (None, false));
        assert_eq!(half.feed(b"\n"), None);
        assert_eq!(half.feed(b"\n"), Some(1));
    }

    /// By the book: lines first, then what each does to the event buffer.
    fn reference(bytes: &[u8]) -> Option<usize> {
        let (mut i, mut last, mut pending) = (0, None, false);
        if bytes.starts_with(BOM) {
            i = 3;
            last = Some(3);
        }
        while let Some(n) = bytes[i..].iter().position(|b| matches!(b, b'\r' | b'\n')) {
            let line = &bytes[i..i + n];
            i += n + if bytes[i + n..].starts_with(b"\r\n") { 2 } else { 1 };
            pending = !line.is_empty() && (pending || line[0] != b':');
            if !pending {
                last = Some(i);
            }
        }
        last
    }

    proptest! {
        #[test]
        fn any_split_equals_one_shot_and_the_book(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'd'), Just(0xef), Just(0xbb), Just(0xbf)], 0..40),
            with_bom in any::<bool>(),
            cuts in proptest::collection::vec(0usize..43, 0..10),
        ) {
            let bytes: Vec<u8> = if with_bom { [BOM, &bytes].concat() } else { bytes };
            let expected = reference(&bytes);
            prop_assert_eq!(Boundary::default().feed(&bytes), expected);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([bytes.len()]).collect();
            cuts.sort_unstable();
            let (mut boundary, mut start, mut last) = (Boundary::default(), 0, None);
            for end in cuts {
                last = boundary.feed(&bytes[start..end]).map(|n| start + n).or(last);
                start = end;
            }
            prop_assert_eq!(last, expected);
        }
    }
}
