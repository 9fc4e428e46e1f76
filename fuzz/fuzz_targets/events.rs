//! The boundaries of an event stream are where they are, whatever the pieces; behind each, a field begins a new event.

#![no_main]

use holdline_core::wire::sse::Boundary;
use holdline_fuzz::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let bytes = input.bytes;
    let mut whole = Boundary::default();
    let last = whole.feed(bytes);
    let (mut pieces, mut at, mut last_in_pieces) = (Boundary::default(), 0, None);
    input.in_pieces(|piece| {
        if let Some(offset) = pieces.feed(piece) {
            last_in_pieces = Some(at + offset);
        }
        at += piece.len();
    });
    assert_eq!((last, whole.is_at()), (last_in_pieces, pieces.is_at()));
    if let Some(last) = last {
        let mut up_to = Boundary::default();
        up_to.feed(&bytes[..last]);
        assert!(up_to.is_at());
        assert_eq!(up_to.feed(b"x: 1\n"), None, "an event without its blank line is no boundary");
    }
});
