//! A PROXY header that is fed in any pieces is the header that it is as a whole, whatever follows it; and what is written for a backend
//! says the same of a client.

#![no_main]

use holdline_core::wire::proxy::{BadHeader, Fed, HEADER_MAX, Reader, Source, encode};
use holdline_fuzz::Input;
use libfuzzer_sys::fuzz_target;

/// A header's length and what it says; `None`: it goes on.
type Outcome = Option<Result<(usize, Source), BadHeader>>;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let whole = feed(&mut Reader::default(), 0, input.bytes);
    let (mut reader, mut before, mut pieces) = (Reader::default(), 0, None);
    input.in_pieces(|piece| {
        if pieces.is_none() {
            pieces = feed(&mut reader, before, piece);
            before += piece.len();
        }
    });
    assert_eq!(whole, pieces);
    let Some(Ok((len, source))) = whole else {
        assert!(whole.is_some() || input.bytes.len() < HEADER_MAX);
        return;
    };
    assert!(len <= HEADER_MAX);
    assert_eq!(feed(&mut Reader::default(), 0, &input.bytes[..len]), whole);
    assert_eq!(feed(&mut Reader::default(), 0, &input.bytes[..len - 1]), None);
    if let Source::Client { from, to } = source {
        let written = encode(from, to);
        assert_eq!(feed(&mut Reader::default(), 0, &written), Some(Ok((written.len(), source))));
    }
});

/// Feeds what follows `before` bytes of the header.
fn feed(reader: &mut Reader, before: usize, input: &[u8]) -> Outcome {
    match reader.feed(input) {
        Ok(Fed::More) => None,
        Ok(Fed::End(n, source)) => Some(Ok((before + n, source))),
        Err(bad) => Some(Err(bad)),
    }
}
