//! Checks a client's requests.

use super::section::{Section, no_text, tokens};
use super::{Body, Fed, Refused};

/// The requests on one connection, in order.
#[derive(Clone, Debug)]
pub struct Requests {
    at: At,
    /// Bytes of the head so far.
    len: usize,
    head_max: usize,
}

#[derive(Clone, Debug)]
enum At {
    Line(Line),
    Fields { minor: u8, section: Section },
    Body(Body),
}

/// Within the request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Before the method. One empty line is skipped (RFC 9112 2.2), since some clients send one after a body.
    Start {
        blank: bool,
    },
    BlankLf,
    Method,
    Target {
        is_empty: bool,
    },
    /// Number of bytes of [`VERSION`] matched.
    Version(usize),
    Minor,
    Cr {
        minor: u8,
    },
    Lf {
        minor: u8,
    },
}

const VERSION: &[u8] = b"HTTP/1.";

impl Requests {
    /// Creates a checker before the first request. `head_max` is the maximum head size in bytes, from the first line to the blank
    /// line.
    pub fn new(head_max: usize) -> Self {
        Requests { at: At::Line(Line::Start { blank: false }), len: 0, head_max }
    }

    /// Processes `input`, up to the end of one message. Any bytes after it must be fed next, provided they are HTTP.
    ///
    /// # Errors
    /// [`Refused`]; nothing after the last `End` may be used then, and no more input may be fed.
    pub fn feed(&mut self, input: &[u8]) -> Result<Fed, Refused> {
        let mut used = 0;
        if !matches!(self.at, At::Body(_)) {
            let room = self.head_max.saturating_sub(self.len).min(input.len());
            match self.head(&input[..room])? {
                None if room < input.len() => return Err(Refused::TooLarge),
                None => {
                    self.len += room;
                    return Ok(Fed::Head);
                }
                Some(end) => used = end,
            }
        }
        let At::Body(body) = &mut self.at else { return Ok(self.ended(used)) };
        let (more, ended) = body.feed(&input[used..])?;
        Ok(if ended { self.ended(used + more) } else { Fed::Body })
    }

    fn ended(&mut self, used: usize) -> Fed {
        *self = Requests::new(self.head_max);
        Fed::End(used)
    }

    /// The offset at which the head ends; the state is then `At::Body` if it announces a body.
    fn head(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        let mut used = 0;
        if let At::Line(line) = &mut self.at {
            let Some((len, minor)) = line.feed(input)? else { return Ok(None) };
            used = len;
            self.at = At::Fields { minor, section: Section::default() };
        }
        let At::Fields { minor, section } = &mut self.at else { return Ok(Some(0)) };
        let Some(len) = section.feed(&input[used..])? else { return Ok(None) };
        if let Some(body) = section.body(*minor)?.filter(|b| !matches!(b, Body::Length(0))) {
            self.at = At::Body(body);
        }
        Ok(Some(used + len))
    }
}

impl Line {
    /// The offset at which the line ends, and the minor version.
    fn feed(&mut self, input: &[u8]) -> Result<Option<(usize, u8)>, Refused> {
        let mut i = 0;
        while let Some(&byte) = input.get(i) {
            match self {
                Line::Method => i += tokens(&input[i..]),
                Line::Target { is_empty } => {
                    let run = input[i..].iter().position(|b| *b <= b' ' || *b == 0x7f).unwrap_or(input.len() - i);
                    *is_empty &= run == 0;
                    i += run;
                }
                Line::Lf { minor } if byte == b'\n' => return Ok(Some((i + 1, *minor))),
                _ => {}
            }
            let Some(&byte) = input.get(i) else { return Ok(None) };
            *self = self.step(byte)?;
            i += 1;
        }
        Ok(None)
    }

    /// One byte that ends a run, or is in none.
    fn step(self, byte: u8) -> Result<Line, Refused> {
        Ok(match (self, byte) {
            (Line::Start { blank: false }, b'\r') => Line::BlankLf,
            (Line::BlankLf, b'\n') => Line::Start { blank: true },
            (Line::Start { .. }, _) if tokens(&[byte]) == 1 => Line::Method,
            (Line::Method, b' ') => Line::Target { is_empty: true },
            (Line::Target { is_empty: false }, b' ') => Line::Version(0),
            (Line::Version(n), _) if VERSION.get(n) == Some(&byte) => {
                if n + 1 == VERSION.len() {
                    Line::Minor
                } else {
                    Line::Version(n + 1)
                }
            }
            (Line::Minor, b'0' | b'1') => Line::Cr { minor: byte - b'0' },
            (Line::Cr { minor }, b'\r') => Line::Lf { minor },
            (Line::Lf { .. } | Line::BlankLf, _) | (_, b'\n') => return Err(Refused::LineEnd),
            (Line::Target { .. }, _) if byte != b' ' && byte != b'\r' => return Err(no_text(byte)),
            _ => return Err(Refused::Line),
        })
    }
}
