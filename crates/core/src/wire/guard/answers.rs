//! Checks a backend's answers.

use super::section::{Section, no_text, text};
use super::{Body, Fed, Refused};

/// Maximum number of interim responses (1xx) before an answer, to bound the work that a backend can cause.
const INTERIMS_MAX: u8 = 8;

/// The answers on one connection, each after its request.
#[derive(Clone, Debug)]
pub struct Answers {
    at: At,
    /// Bytes of the head so far.
    len: usize,
    head_max: usize,
    /// The request was a HEAD: its answer has no body, whatever its fields say.
    is_head: bool,
    interims: u8,
    head_end: u32,
}

#[derive(Clone, Debug)]
enum At {
    /// No request is outstanding.
    Idle,
    Line(Line),
    Fields {
        minor: u8,
        status: u16,
        section: Section,
    },
    Body(Body),
}

/// Within the status line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    at: Word,
    minor: u8,
    status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Number of bytes of [`VERSION`] matched.
    Version(usize),
    Minor,
    Space,
    /// Number of status digits received.
    Status(u8),
    Reason,
    Lf,
}

impl Default for Word {
    fn default() -> Self {
        Word::Version(0)
    }
}

const VERSION: &[u8] = b"HTTP/1.";

impl Answers {
    /// Creates a checker with no outstanding request. `head_max` is the maximum head size in bytes, from the first line to the
    /// blank line.
    pub fn new(head_max: usize) -> Self {
        Answers { at: At::Idle, len: 0, head_max, is_head: false, interims: 0, head_end: 0 }
    }

    /// Records that a request was sent and an answer is expected. `is_head` is true if its method is HEAD.
    pub fn ask(&mut self, is_head: bool) {
        *self = Answers { at: At::Line(Line::default()), is_head, ..Answers::new(self.head_max) };
    }

    /// Whether no answer is expected or in progress.
    pub fn is_idle(&self) -> bool {
        matches!(self.at, At::Idle)
    }

    /// Offset in the last input at which the answer's head ended; zero if it ended earlier or has not ended.
    pub fn head_end(&self) -> usize {
        self.head_end as usize
    }

    /// Processes `input`, up to the end of one answer. Interim responses are part of the answer that they precede.
    ///
    /// # Errors
    /// [`Refused`]; the answer must not be used then, and no more input may be fed.
    pub fn feed(&mut self, input: &[u8]) -> Result<Fed, Refused> {
        let mut used = 0;
        self.head_end = 0;
        while !matches!(self.at, At::Body(_)) {
            if self.is_idle() {
                return Err(Refused::Unasked);
            }
            let rest = &input[used..];
            let room = self.head_max.saturating_sub(self.len).min(rest.len());
            match self.head(&rest[..room])? {
                None if room < rest.len() => return Err(Refused::TooLarge),
                None => {
                    self.len += room;
                    return Ok(Fed::Head);
                }
                Some(end) => used += end,
            }
            // An interim response is part of the head.
            self.head_end = if matches!(self.at, At::Line(_)) { 0 } else { u32::try_from(used).unwrap_or(u32::MAX) };
            if self.is_idle() {
                return Ok(Fed::End(used));
            }
        }
        let At::Body(body) = &mut self.at else { return Ok(Fed::Head) };
        let (more, ended) = body.feed(&input[used..])?;
        if !ended {
            return Ok(Fed::Body);
        }
        self.at = At::Idle;
        Ok(Fed::End(used + more))
    }

    /// The offset at which a head ends; `at` is then the state after it.
    fn head(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        let mut used = 0;
        if let At::Line(line) = &mut self.at {
            let Some(len) = line.feed(input)? else { return Ok(None) };
            used = len;
            self.at = At::Fields { minor: line.minor, status: line.status, section: Section::default() };
        }
        let At::Fields { minor, status, section } = &mut self.at else { return Ok(Some(0)) };
        let Some(len) = section.feed(&input[used..])? else { return Ok(None) };
        let body = section.body(*minor)?;
        self.at = match *status {
            101 => return Err(Refused::Switch),
            100..=199 if self.interims == INTERIMS_MAX => return Err(Refused::Interims),
            100..=199 => {
                self.interims += 1;
                self.len = 0;
                At::Line(Line::default())
            }
            // RFC 9112 6.3.
            204 | 304 => At::Idle,
            _ if self.is_head => At::Idle,
            _ => match body {
                Some(Body::Length(0)) => At::Idle,
                Some(body) => At::Body(body),
                None => At::Body(Body::UntilClose),
            },
        };
        Ok(Some(used + len))
    }
}

impl Line {
    /// The offset at which the line ends.
    fn feed(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        let mut i = 0;
        while i < input.len() {
            if self.at == Word::Reason {
                i += text(&input[i..]);
            }
            let Some(&byte) = input.get(i) else { return Ok(None) };
            i += 1;
            if self.at == Word::Lf && byte == b'\n' {
                return Ok(Some(i));
            }
            self.at = self.step(byte)?;
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<Word, Refused> {
        Ok(match (self.at, byte) {
            (Word::Version(n), _) if VERSION.get(n) == Some(&byte) => {
                if n + 1 == VERSION.len() {
                    Word::Minor
                } else {
                    Word::Version(n + 1)
                }
            }
            (Word::Minor, b'0' | b'1') => {
                self.minor = byte - b'0';
                Word::Space
            }
            (Word::Space, b' ') => Word::Status(0),
            (Word::Status(n @ 0..=2), b'0'..=b'9') => {
                self.status = self.status * 10 + u16::from(byte - b'0');
                if n == 0 && !matches!(byte, b'1'..=b'5') {
                    return Err(Refused::Line);
                }
                Word::Status(n + 1)
            }
            (Word::Status(3), b' ') => Word::Reason,
            // Some servers omit the space if there is no reason phrase.
            (Word::Status(3) | Word::Reason, b'\r') => Word::Lf,
            (Word::Reason, _) => return Err(no_text(byte)),
            (Word::Lf, _) | (_, b'\n') => return Err(Refused::LineEnd),
            _ => return Err(Refused::Line),
        })
    }
}
