//! A backend's response head, read strictly (RFC 9112), and where its body ends.

use super::fields::Fields;

/// The longest head that is read, in bytes: what common servers send at most, and what an exchange may hold.
pub const HEAD_MAX: usize = 16 << 10;

/// The most fields in a head.
pub const FIELDS_MAX: usize = 100;

/// A response head, borrowed from the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead<'b> {
    /// HTTP/1.`minor`: 0 or 1.
    pub minor: u8,
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason: &'b str,
    pub fields: Fields<'b>,
    /// Bytes of the head; the body, or the other protocol, begins there.
    pub len: usize,
}

/// Where a response's body ends (RFC 9112 6.3, for an answer to a GET).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Why a backend's head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP/1.
    #[error("the backend does not speak HTTP/1: expected a line `HTTP/1.1 200 OK`")]
    NotHttp,
    /// The head breaks the grammar.
    #[error("the backend's response head is malformed: {0}")]
    Malformed(httparse::Error),
    /// A CR, LF or NUL where none may be.
    #[error("the backend's response head holds a bare CR, a bare LF or a NUL")]
    LineEnd,
    /// Too long, or too many fields.
    #[error("the backend's response head is longer than {HEAD_MAX} bytes or {FIELDS_MAX} fields")]
    TooLarge,
    /// The end of the body is ambiguous.
    #[error("the end of the backend's response is ambiguous: {0}")]
    Framing(&'static str),
}

/// Parses the head at the start of `bytes`; `None` while it is incomplete.
///
/// # Errors
/// [`HeadError`], as early as it can be told.
pub fn parse(bytes: &[u8]) -> Result<Option<ResponseHead<'_>>, HeadError> {
    // httparse skips empty lines before the status line; a response never has any.
    if !bytes.iter().zip(b"HTTP/1.").all(|(a, b)| a == b) {
        return Err(HeadError::NotHttp);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let len = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(error) => return Err(HeadError::Malformed(error)),
    };
    check_line_ends(&bytes[..len])?;
    let (Some(minor), Some(status @ 100..=599)) = (parsed.version, parsed.code) else { return Err(HeadError::NotHttp) };
    let reason = parsed.reason.unwrap_or_default();
    Ok(Some(ResponseHead { minor, status, reason, fields: parsed.headers.iter().map(|h| (h.name, h.value)).collect(), len }))
}

/// httparse takes a bare LF for a line's end; two parsers that disagree on that read two different responses.
fn check_line_ends(head: &[u8]) -> Result<(), HeadError> {
    let mut before = 0;
    for &b in head {
        if (b == b'\n') != (before == b'\r') || b == 0 {
            return Err(HeadError::LineEnd);
        }
        before = b;
    }
    Ok(())
}

impl ResponseHead<'_> {
    /// An interim response (1xx other than 101): another head follows it.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// An event stream: 200 with `Content-Type: text/event-stream`.
    pub fn is_event_stream(&self) -> bool {
        let essence = |value: &[u8]| value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        self.status == 200 && self.fields.single("content-type").is_some_and(|value| essence(value) == b"text/event-stream")
    }

    /// The body's bytes are the content itself, so that events can be seen in them.
    pub fn is_identity_coded(&self) -> bool {
        self.fields.list("content-encoding").all(|coding| coding.eq_ignore_ascii_case(b"identity"))
    }

    /// Where the body ends, as the answer to a GET.
    ///
    /// # Errors
    /// [`HeadError::Framing`] where two readers could disagree.
    pub fn body(&self) -> Result<Body, HeadError> {
        let lengths: Vec<_> = self.fields.all("content-length").collect();
        let coded = self.fields.has("transfer-encoding");
        let body = match (coded, lengths.as_slice()) {
            (true, []) => self.coded_body()?,
            (true, _) => return Err(HeadError::Framing("Content-Length beside Transfer-Encoding")),
            (false, []) => Body::UntilClose,
            (false, [length]) => Body::Length(parse_length(length)?),
            (false, _) => return Err(HeadError::Framing("more than one Content-Length")),
        };
        Ok(if matches!(self.status, 100..=199 | 204 | 304) { Body::None } else { body })
    }

    fn coded_body(&self) -> Result<Body, HeadError> {
        if self.minor == 0 {
            return Err(HeadError::Framing("Transfer-Encoding in an HTTP/1.0 response"));
        }
        match self.fields.single("transfer-encoding") {
            Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
            _ => Err(HeadError::Framing("a Transfer-Encoding other than `chunked`, once")),
        }
    }
}

/// Digits only: `+5`, `0x5`, `5,5` and nothing at all are not lengths.
fn parse_length(text: &[u8]) -> Result<u64, HeadError> {
    let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|d| d.parse().ok()).ok_or(HeadError::Framing("a Content-Length that is no decimal number"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(fields: &str) -> Result<Body, HeadError> {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        parse(bytes.as_bytes()).unwrap().unwrap().body()
    }

    #[test]
    fn a_head_ends_where_its_body_begins() {
        let bytes = b"HTTP/1.1 200 Fine\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nX: \xffy\r\n\r\ndata: x";
        let head = parse(bytes).unwrap().unwrap();
        assert_eq!((head.minor, head.status, head.reason, &bytes[head.len..]), (1, 200, "Fine", &b"data: x"[..]));
        assert!(head.is_event_stream() && head.is_identity_coded() && !head.is_interim());
        assert_eq!(head.fields.single("x"), Some(&b"\xffy"[..]));
        for cut in 0..head.len {
            assert!(parse(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
    }

    #[test]
    fn rubbish_is_told_early() {
        for (bytes, error) in [
            (&b"SSH-2.0"[..], HeadError::NotHttp),
            (b"\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::NotHttp),
            (b"HTTP/2.0 200 OK\r\n\r\n", HeadError::NotHttp),
            (b"HTTP/1.1 099 x\r\n\r\n", HeadError::NotHttp),
            (b"HTTP/1.1 200 OK\nA: b\n\n", HeadError::LineEnd),
            (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", HeadError::LineEnd),
        ] {
            assert_eq!(parse(bytes).unwrap_err(), error, "{}", bytes.escape_ascii());
        }
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        ] {
            assert!(matches!(parse(bytes), Err(HeadError::Malformed(_))), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_MAX));
        assert_eq!(parse(long.as_bytes()).unwrap_err(), HeadError::TooLarge);
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(parse(many.as_bytes()).unwrap_err(), HeadError::TooLarge);
        let most = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX));
        assert_eq!(parse(most.as_bytes()).unwrap().unwrap().len, most.len());
    }

    #[test]
    fn a_body_ends_in_one_way_only() {
        assert_eq!(body(""), Ok(Body::UntilClose));
        assert_eq!(body("Content-Length: 42\r\n"), Ok(Body::Length(42)));
        assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Ok(Body::Chunked));
        for ambiguous in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            "Content-Length: 4\r\nContent-Length: 4\r\n",
            "Content-Length: 4, 4\r\n",
            "Content-Length: +4\r\n",
            "Content-Length: 0x4\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
        ] {
            assert!(matches!(body(ambiguous), Err(HeadError::Framing(_))), "{ambiguous}");
        }
        let old = parse(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert!(old.body().is_err());
        let none = parse(b"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n").unwrap().unwrap();
        assert_eq!(none.body(), Ok(Body::None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), as_http in any::<bool>()) {
            if as_http {
                bytes.splice(..0, *b"HTTP/1.1 200 OK\r\n");
            }
            if let Ok(Some(head)) = parse(&bytes) {
                let _ = head.body();
                prop_assert!(head.len <= bytes.len());
            }
        }
    }
}
