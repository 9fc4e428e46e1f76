//! A frame tracker that is fed any pieces says what it says of the whole, and its boundaries are those of another library.

#![no_main]

use std::io::Cursor;

use holdline_core::wire::ws::Tracker;
use holdline_fuzz::Input;
use libfuzzer_sys::fuzz_target;
use tungstenite::protocol::frame::FrameHeader;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let (masked, bytes) = (input.flag, input.bytes);
    let mut whole = Tracker::new(masked);
    let fed = whole.feed(bytes);
    assert!(fed.taken <= bytes.len());

    let (mut pieces, mut taken, mut stopped) = (Tracker::new(masked), 0, false);
    input.in_pieces(|piece| {
        let n = pieces.feed(piece).taken;
        assert!(!stopped || n == 0, "nothing is taken behind an end");
        stopped |= n < piece.len();
        taken += n;
    });
    // Of a frame that breaks a rule, what came in earlier pieces was taken already.
    let is_clean = |t: &Tracker| t.violation().is_none();
    assert_eq!(whole.violation(), pieces.violation());
    assert!(taken >= fed.taken && (taken == fed.taken || !is_clean(&whole)));
    assert_eq!((whole.close_begun(), whole.closed()), (pieces.close_begun(), pieces.closed()));
    assert_eq!((whole.take_ping(), whole.take_pong()), (pieces.take_ping(), pieces.take_pong()));
    if is_clean(&whole) {
        assert_eq!((whole.at_boundary(), whole.in_message()), (pieces.at_boundary(), pieces.in_message()));
        assert_eq!(whole.at_boundary(), ends_with_a_frame(&bytes[..fed.taken]));
    }
});

fn ends_with_a_frame(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let mut cursor = Cursor::new(bytes);
        let Ok(Some((_, length))) = FrameHeader::parse(&mut cursor) else { return false };
        // Not the header's own `len`, which is that of the shortest form.
        let Some(end) = cursor.position().checked_add(length) else { return false };
        let Some(rest) = usize::try_from(end).ok().and_then(|end| bytes.get(end..)) else { return false };
        bytes = rest;
    }
    true
}
