//! A chunked body that is fed in any pieces is the body that it is as a whole.

#![no_main]

use holdline_core::wire::chunk::{ChunkError, Decoder, Piece};
use holdline_fuzz::Input;
use libfuzzer_sys::fuzz_target;

/// What was read of a body, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Body {
    data: Vec<u8>,
    /// Bytes of the coding behind the end.
    left: usize,
    end: Option<Result<(), ChunkError>>,
}

impl Body {
    fn feed(&mut self, decoder: &mut Decoder, mut input: &[u8]) {
        while self.end.is_none() {
            match decoder.next(&mut input) {
                Ok(Piece::Data(data)) => {
                    assert!(!data.is_empty());
                    self.data.extend_from_slice(data);
                }
                Ok(Piece::Hungry) => {
                    assert!(input.is_empty());
                    return;
                }
                Ok(Piece::End) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
        }
        self.left += input.len();
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let bytes = input.bytes;
    let (mut whole, mut pieces) = (Body::default(), Body::default());
    whole.feed(&mut Decoder::default(), bytes);
    let mut decoder = Decoder::default();
    input.in_pieces(|piece| pieces.feed(&mut decoder, piece));
    assert_eq!(whole, pieces);
    assert!(whole.data.len() <= bytes.len());
});
