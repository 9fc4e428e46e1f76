//! The fields of a head, up to the blank line, and the body framing that they define.

use super::super::chunk::{Decoder, is_text, is_token};
use super::{Body, FIELDS_MAX, Refused};

/// Character class tables: one lookup per byte.
const TOKEN: [bool; 256] = table(true);
const TEXT: [bool; 256] = table(false);

const fn table(tokens: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = if tokens { is_token(byte as u8) } else { is_text(byte as u8) };
        byte += 1;
    }
    table
}

/// The length of the run of token characters at the start of `bytes`.
pub(super) fn tokens(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| !TOKEN[usize::from(*b)]).unwrap_or(bytes.len())
}

/// The length of the run of field value characters at the start of `bytes`.
pub(super) fn text(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| !TEXT[usize::from(*b)]).unwrap_or(bytes.len())
}

/// The error for `byte` where text or CR was expected.
pub(super) fn no_text(byte: u8) -> Refused {
    if byte == b'\n' { Refused::LineEnd } else { Refused::Control }
}

/// Parser of the fields up to the blank line that ends them.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    at: At,
    name: Name,
    count: u16,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before a name, or the blank line.
    #[default]
    Line,
    Name,
    Value(Value),
    /// After the CR of a field line.
    Lf,
    /// After the CR of the blank line.
    EndLf,
}

/// The part of a field value that has been parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Any,
    /// `Content-Length`.
    Length(Part<u64>),
    /// `Transfer-Encoding`: number of bytes of `chunked` matched.
    Coding(Part<usize>),
}

/// Position in a value with optional white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<T> {
    Before,
    Within(T),
    After(T),
}

const CHUNKED: &[u8] = b"chunked";

impl Section {
    /// Parses `input` and returns the offset just after the blank line, or `None` if the head is incomplete.
    ///
    /// # Errors
    /// [`Refused`], at the first byte that can be recognised as invalid.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        let mut i = 0;
        while i < input.len() {
            let byte = input[i];
            match self.at {
                At::Line => self.at = self.line(byte)?,
                At::Name => {
                    let run = tokens(&input[i..]);
                    self.name.push(&input[i..i + run]);
                    i += run;
                    match input.get(i) {
                        Some(b':') => self.at = At::Value(self.value()?),
                        Some(b'\n') => return Err(Refused::LineEnd),
                        Some(_) => return Err(Refused::Name),
                        None => return Ok(None),
                    }
                }
                At::Value(Value::Any) => {
                    i += text(&input[i..]);
                    match input.get(i) {
                        Some(b'\r') => self.at = At::Lf,
                        Some(other) => return Err(no_text(*other)),
                        None => return Ok(None),
                    }
                }
                At::Value(value) if byte == b'\r' => {
                    self.ended(value)?;
                    self.at = At::Lf;
                }
                At::Value(value) => self.at = At::Value(value.with(byte)?),
                At::Lf | At::EndLf if byte != b'\n' => return Err(Refused::LineEnd),
                At::Lf => self.at = At::Line,
                At::EndLf => return Ok(Some(i + 1)),
            }
            // Each arm leaves its last byte to be consumed here; `line` consumes no byte of a name.
            i += usize::from(self.at != At::Name);
        }
        Ok(None)
    }

    /// The first byte of a line.
    fn line(&mut self, byte: u8) -> Result<At, Refused> {
        match byte {
            b'\r' => return Ok(At::EndLf),
            b'\n' => return Err(Refused::LineEnd),
            b' ' | b'\t' => return Err(Refused::Folded),
            _ if !is_token(byte) => return Err(Refused::Name),
            _ => {}
        }
        self.count += 1;
        if self.count > FIELDS_MAX {
            return Err(Refused::TooLarge);
        }
        self.name = Name::default();
        Ok(At::Name)
    }

    /// How to parse the value of a complete name.
    fn value(&self) -> Result<Value, Refused> {
        match self.name.known() {
            Some(Known::Length) if self.is_chunked => Err(Refused::Ambiguous),
            Some(Known::Length) if self.length.is_some() => Err(Refused::Length),
            Some(Known::Length) => Ok(Value::Length(Part::Before)),
            Some(Known::Coding) if self.length.is_some() => Err(Refused::Ambiguous),
            Some(Known::Coding) if self.is_chunked => Err(Refused::Coding),
            Some(Known::Coding) => Ok(Value::Coding(Part::Before)),
            None => Ok(Value::Any),
        }
    }

    fn ended(&mut self, value: Value) -> Result<(), Refused> {
        match value {
            Value::Any => {}
            Value::Length(Part::Within(length) | Part::After(length)) => self.length = Some(length),
            Value::Length(Part::Before) => return Err(Refused::Length),
            Value::Coding(Part::Within(n) | Part::After(n)) if n == CHUNKED.len() => self.is_chunked = true,
            Value::Coding(_) => return Err(Refused::Coding),
        }
        Ok(())
    }

    /// The body that the fields announce, or `None` if they give neither length nor coding. `minor` is the minor HTTP version.
    ///
    /// # Errors
    /// A coding in HTTP/1.0 (RFC 9112 6.1).
    pub(super) fn body(&self, minor: u8) -> Result<Option<Body>, Refused> {
        match (self.is_chunked, self.length) {
            (true, _) if minor == 0 => Err(Refused::Coding),
            (true, _) => Ok(Some(Body::Chunked(Decoder::default()))),
            (false, length) => Ok(length.map(Body::Length)),
        }
    }
}

impl Value {
    fn with(self, byte: u8) -> Result<Value, Refused> {
        let blank = byte == b' ' || byte == b'\t';
        Ok(match self {
            Value::Any => self,
            Value::Length(part) => Value::Length(match part {
                Part::Before if blank => part,
                Part::Within(length) | Part::After(length) if blank => Part::After(length),
                Part::Before => Part::Within(with_digit(0, byte)?),
                Part::Within(length) => Part::Within(with_digit(length, byte)?),
                Part::After(_) => return Err(Refused::Length),
            }),
            Value::Coding(part) => Value::Coding(match part {
                Part::Before if blank => part,
                Part::Within(n) | Part::After(n) if blank => Part::After(n),
                Part::Before if byte.eq_ignore_ascii_case(&CHUNKED[0]) => Part::Within(1),
                Part::Within(n) if CHUNKED.get(n).is_some_and(|c| byte.eq_ignore_ascii_case(c)) => Part::Within(n + 1),
                _ => return Err(Refused::Coding),
            }),
        })
    }
}

fn with_digit(length: u64, byte: u8) -> Result<u64, Refused> {
    let digit = char::from(byte).to_digit(10).ok_or(Refused::Length)?;
    length.checked_mul(10).and_then(|l| l.checked_add(u64::from(digit))).ok_or(Refused::Length)
}

/// Names whose values are parsed.
enum Known {
    Length,
    Coding,
}

/// The name received so far, in lower case. The buffer holds the longest known name.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    bytes: [u8; 17],
    len: usize,
}

impl Name {
    fn push(&mut self, run: &[u8]) {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(run) {
            *to = from.to_ascii_lowercase();
        }
        self.len += run.len();
    }

    fn known(&self) -> Option<Known> {
        match self.bytes.get(..self.len)? {
            b"content-length" => Some(Known::Length),
            b"transfer-encoding" => Some(Known::Coding),
            _ => None,
        }
    }
}
