//! The PROXY protocol, versions 1 and 2: what a proxy says of a connection before its first byte
//! (haproxy's `doc/proxy-protocol.txt`, 2020-03-05).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The beginning of a header of version 2 (2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The beginning of a header of version 1 (2.1).
const WORD: &[u8] = b"PROXY ";

/// The longest header of version 1, CRLF included (2.1).
const TEXT_MAX: usize = 107;

/// The longest header of version 2. Addresses need 232 bytes at most; the rest are extensions (TLVs), which are skipped as they come. Most
/// are short, but one may hold a client's certificate. A header may announce 64 KiB; nobody needs them before a request.
pub const HEADER_MAX: usize = 4 << 10;

/// Version, command, family and length follow the signature.
const FIXED: usize = SIGNATURE.len() + 4;

/// Version 2 with the command LOCAL and nothing more: the sender speaks for itself, as health checks do.
pub const LOCAL: [u8; FIXED] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Who a connection was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The proxy itself: its own addresses count.
    Proxy,
    /// Somebody of whom nothing is said that can be used: UNKNOWN, or what is no TCP.
    Unknown,
    /// A client.
    Client {
        /// Where it connects from; IPv4 as itself, however it was written.
        from: SocketAddr,
        /// Where it connected to.
        to: SocketAddr,
    },
}

/// What became of bytes that were fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All of them belong to the header, which goes on.
    More,
    /// The header ended behind so many of them; what follows is none of ours.
    End(usize, Source),
}

/// Why a connection does not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Something else begins here.
    #[error("the first bytes are no PROXY header")]
    Foreign,
    /// It does not end where it must.
    #[error("the PROXY header is longer than may be: {TEXT_MAX} bytes of version 1, {HEADER_MAX} of version 2")]
    TooLong,
    /// It breaks the rules of its version.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads one header, in any pieces. It keeps what addresses need and nothing of what is skipped.
#[derive(Clone, Debug)]
pub struct Reader {
    kept: [u8; TEXT_MAX],
    seen: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Reader { kept: [0; TEXT_MAX], seen: 0 }
    }
}

impl Reader {
    /// Whether anything was fed.
    pub fn has_begun(&self) -> bool {
        self.seen > 0
    }

    /// Takes what came next. After an end or an error there is nothing more to feed.
    ///
    /// # Errors
    /// [`BadHeader`], at the first byte that makes it one.
    pub fn feed(&mut self, input: &[u8]) -> Result<Fed, BadHeader> {
        for (at, &byte) in input.iter().enumerate() {
            if let Some(slot) = self.kept.get_mut(self.seen) {
                *slot = byte;
            }
            self.seen += 1;
            let source = if self.kept[0] == WORD[0] { self.text()? } else { self.binary()? };
            if let Some(source) = source {
                return Ok(Fed::End(at + 1, source));
            }
        }
        Ok(Fed::More)
    }

    /// Version 1, of which all that was seen is kept.
    fn text(&self) -> Result<Option<Source>, BadHeader> {
        let seen = &self.kept[..self.seen];
        if let Some(start) = WORD.get(..self.seen) {
            return if seen == start { Ok(None) } else { Err(BadHeader::Foreign) };
        }
        match seen {
            [line @ .., b'\r', b'\n'] => parse_line(&line[WORD.len()..]).map(Some),
            // "The receiver must not tolerate a single CR or LF character to end the line."
            [.., b'\n'] | [.., b'\r', _] => Err(BadHeader::Malformed("a CR or LF stands alone")),
            _ if self.seen == TEXT_MAX => Err(BadHeader::TooLong),
            _ => Ok(None),
        }
    }

    fn binary(&self) -> Result<Option<Source>, BadHeader> {
        if let Some(start) = SIGNATURE.get(..self.seen) {
            return if self.kept[..self.seen] == *start { Ok(None) } else { Err(BadHeader::Foreign) };
        }
        let [command, family, length @ ..] = [12, 13, 14, 15].map(|at| self.kept[at]);
        if !matches!(command, 0x20 | 0x21) {
            return Err(BadHeader::Malformed("it is not of version 2, or its command is not known"));
        }
        let (is_local, length) = (command == 0x20, usize::from(u16::from_be_bytes(length)));
        match self.seen {
            // Of a LOCAL connection the family is ignored.
            14 if !is_local && (family >> 4 > 3 || family & 15 > 2) => {
                Err(BadHeader::Malformed("its address family or protocol is not known"))
            }
            ..FIXED => Ok(None),
            FIXED if FIXED + length > HEADER_MAX => Err(BadHeader::TooLong),
            FIXED if !is_local && length < addresses_len(family) => {
                Err(BadHeader::Malformed("its addresses do not fit in its length"))
            }
            seen if seen < FIXED + length => Ok(None),
            _ if is_local => Ok(Some(Source::Proxy)),
            _ => Ok(Some(parse_addresses(family, &self.kept[FIXED..]))),
        }
    }
}

/// What follows the word PROXY and a space, without the CRLF.
fn parse_line(line: &[u8]) -> Result<Source, BadHeader> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // "The receiver must ignore anything presented before the CRLF is found."
        return Ok(Source::Unknown);
    }
    let malformed = BadHeader::Malformed("it is no line of TCP4, TCP6 or UNKNOWN");
    let mut words = str::from_utf8(line).map_err(|_| malformed)?.split(' ');
    let mut next = || words.next().ok_or(malformed);
    let address: fn(&str) -> Option<IpAddr> = match next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return Err(malformed),
    };
    let mut address = || address(next()?).ok_or(malformed);
    let (from, to) = (address()?, address()?);
    let mut port = || port(words.next().ok_or(malformed)?).ok_or(malformed);
    let (from, to) = (canonical(from, port()?), canonical(to, port()?));
    if words.next().is_some() { Err(malformed) } else { Ok(Source::Client { from, to }) }
}

/// Digits alone, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

/// The bytes of the addresses that are read; others are skipped with what follows.
fn addresses_len(family: u8) -> usize {
    match family {
        0x11 => 12,
        0x21 => 36,
        _ => 0,
    }
}

fn parse_addresses(family: u8, block: &[u8]) -> Source {
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    match family {
        0x11 => {
            let address = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|i| block[at + i]));
            Source::Client { from: (address(0), port(8)).into(), to: (address(4), port(10)).into() }
        }
        0x21 => {
            let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| block[at + i])).into();
            Source::Client { from: canonical(address(0), port(32)), to: canonical(address(16), port(34)) }
        }
        // "It automatically falls back to the UNSPEC mode for the valid combinations that it does not support."
        _ => Source::Unknown,
    }
}

fn canonical(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

/// The header of version 2 for a client's connection. Where one address is IPv4 and the other is not, both are written as IPv6.
pub fn encode(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIXED + addresses_len(0x21));
    out.extend_from_slice(SIGNATURE);
    out.push(0x21);
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x11, 0, 12]);
            out.extend_from_slice(&[from.octets(), to.octets()].concat());
        }
        (from, to) => {
            out.extend_from_slice(&[0x21, 0, 36]);
            out.extend_from_slice(&[mapped(from), mapped(to)].concat());
        }
    }
    out.extend_from_slice(&[from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
    out
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests;
