use super::*;

/// What a header is and how long, fed whole, byte by byte, and with bytes behind it.
fn read(bytes: &[u8]) -> Result<Fed, BadHeader> {
    let whole = Reader::default().feed(bytes);
    let mut reader = Reader::default();
    let mut pieces = Ok(Fed::More);
    for (at, byte) in bytes.iter().enumerate() {
        pieces = match reader.feed(std::slice::from_ref(byte)) {
            Ok(Fed::More) => Ok(Fed::More),
            Ok(Fed::End(n, source)) => {
                assert_eq!(n, 1);
                Ok(Fed::End(at + 1, source))
            }
            Err(bad) => Err(bad),
        };
        if pieces != Ok(Fed::More) {
            break;
        }
    }
    assert_eq!(whole, pieces, "{:?}", String::from_utf8_lossy(bytes));
    if let Ok(Fed::End(n, _)) = whole {
        assert_eq!(Reader::default().feed(&[&bytes[..n], b"GET / HTTP/1.1\r\n"].concat()), whole);
    }
    whole
}

/// The source of a header that is all of `bytes`.
fn source(bytes: &[u8]) -> Source {
    match read(bytes) {
        Ok(Fed::End(n, source)) if n == bytes.len() => source,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn client(from: &str, to: &str) -> Source {
    Source::Client { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

/// Version 2 with this command, family, length and what follows.
fn binary(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
}

#[test]
fn version_1() {
    let tcp4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    assert_eq!(source(tcp4), client("192.0.2.7:56324", "198.51.100.1:443"));
    let tcp6 = b"PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 0 65535\r\n";
    assert_eq!(source(tcp6), client("[2001:db8::7]:0", "[2001:db8::1]:65535"));
    assert_eq!(source(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n"), client("192.0.2.7:1", "[::1]:2"));
    for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN \r\n", b"PROXY UNKNOWN a b c d e f g \xff\r\n"] {
        assert_eq!(source(unknown), Source::Unknown);
    }
    let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!((longest.len(), source(longest.as_bytes())), (TEXT_MAX, Source::Unknown));
    let longer = longest.replace("65535\r", "655355\r");
    assert_eq!(read(longer.as_bytes()), Err(BadHeader::TooLong));
}

#[test]
fn lines_that_do_not_exactly_match() {
    for line in [
        "TCP4 192.0.2.7 198.51.100.1 56324",
        "TCP4 192.0.2.7 198.51.100.1 56324 443 ",
        "TCP4 192.0.2.7 198.51.100.1 56324 443 x",
        "TCP4  192.0.2.7 198.51.100.1 56324 443",
        "TCP4 192.0.2.7 198.51.100.1 +56324 443",
        "TCP4 192.0.2.7 198.51.100.1 056324 443",
        "TCP4 192.0.2.7 198.51.100.1 65536 443",
        "TCP4 192.0.2.7 198.51.100.1  443",
        "TCP4 192.0.2.07 198.51.100.1 1 443",
        "TCP4 2001:db8::7 2001:db8::1 1 443",
        "TCP6 192.0.2.7 198.51.100.1 1 443",
        "TCP6 2001:db8::7%eth0 2001:db8::1 1 443",
        "tcp4 192.0.2.7 198.51.100.1 1 443",
        "UDP4 192.0.2.7 198.51.100.1 1 443",
        "UNKNOWNS",
        "unknown",
        "",
        "TCP4 \u{fc} 198.51.100.1 1 443",
    ] {
        let line = format!("PROXY {line}\r\n");
        assert!(matches!(read(line.as_bytes()), Err(BadHeader::Malformed(_))), "{line}");
    }
    for alone in ["PROXY UNKNOWN\n", "PROXY UNKNOWN\r \n", "PROXY UNKNOWN\rx", "PROXY \n"] {
        assert!(matches!(read(alone.as_bytes()), Err(BadHeader::Malformed(_))), "{alone:?}");
    }
}

#[test]
fn version_2() {
    let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
    assert_eq!(source(&binary(0x21, 0x11, 12, &four)), client("192.0.2.7:56324", "198.51.100.1:443"));
    let six: Vec<u8> = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 15], &[1], &[0, 1, 0, 2]].concat();
    assert_eq!(source(&binary(0x21, 0x21, 36, &six)), client("[2001:db8::7]:1", "[::1]:2"));
    // Extensions are skipped, whatever is in them.
    assert_eq!(source(&binary(0x21, 0x11, 15, &[&four[..], &[4, 9, 9]].concat())), client("192.0.2.7:56324", "198.51.100.1:443"));
    let extended = binary(0x21, 0x21, (HEADER_MAX - FIXED) as u16, &[&six[..], &[0xee; HEADER_MAX - FIXED - 36]].concat());
    assert_eq!(source(&extended), client("[2001:db8::7]:1", "[::1]:2"));
}

#[test]
fn local_and_what_is_no_tcp() {
    assert_eq!(source(&LOCAL), Source::Proxy);
    assert_eq!(source(&binary(0x20, 0xff, 3, b"xyz")), Source::Proxy, "its family is ignored, its length is not");
    for family in [0x00, 0x01, 0x10, 0x12, 0x20, 0x22, 0x31, 0x32] {
        assert_eq!(source(&binary(0x21, family, 0, b"")), Source::Unknown, "{family:x}");
        assert_eq!(source(&binary(0x21, family, 216, &[7; 216])), Source::Unknown, "{family:x}");
    }
}

#[test]
fn binaries_that_break_the_rules() {
    for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x31, 0x11), (0x2f, 0x11), (0x21, 0x41), (0x21, 0x13), (0x21, 0xff)] {
        assert!(matches!(read(&binary(command, family, 12, &[])), Err(BadHeader::Malformed(_))), "{command:x} {family:x}");
    }
    for (family, length) in [(0x11, 11), (0x21, 35), (0x11, 0)] {
        assert!(matches!(read(&binary(0x21, family, length, &[])), Err(BadHeader::Malformed(_))), "{family:x} {length}");
    }
    for command in [0x20, 0x21] {
        assert_eq!(read(&binary(command, 0x11, (HEADER_MAX - FIXED + 1) as u16, &[])), Err(BadHeader::TooLong));
        assert_eq!(read(&binary(command, 0x11, u16::MAX, &[])), Err(BadHeader::TooLong));
    }
}

#[test]
fn what_is_something_else_is_known_by_its_first_wrong_byte() {
    for (bytes, wrong) in [
        (&b"GET / HTTP/1.1\r\n"[..], 1),
        (b"\x16\x03\x01", 1),
        (b"\0", 1),
        (b"POST / HTTP/1.1\r\n", 2),
        (b"PROXY\r\n", 6),
        (b"PROXYTCP4 ", 6),
        (b"\r\nGET / HTTP/1.1\r\n", 3),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
    ] {
        assert_eq!(read(&bytes[..wrong - 1]), Ok(Fed::More));
        assert_eq!(read(&bytes[..wrong]), Err(BadHeader::Foreign), "{bytes:?}");
    }
}

#[test]
fn what_is_encoded_is_read_again() {
    for (from, to, family) in [
        ("192.0.2.7:56324", "198.51.100.1:443", 0x11),
        ("[2001:db8::7]:0", "[2001:db8::1]:65535", 0x21),
        ("192.0.2.7:1", "[2001:db8::1]:2", 0x21),
        ("[2001:db8::1]:2", "192.0.2.7:1", 0x21),
    ] {
        let written = encode(from.parse().unwrap(), to.parse().unwrap());
        assert_eq!((source(&written), written[13]), (client(from, to), family));
    }
    let mapped = encode("[::ffff:192.0.2.7]:1".parse().unwrap(), "198.51.100.1:2".parse().unwrap());
    assert_eq!((source(&mapped), mapped[13]), (client("192.0.2.7:1", "198.51.100.1:2"), 0x11));
}
