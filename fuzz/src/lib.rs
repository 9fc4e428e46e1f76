//! What fuzz targets share.

/// A fuzzer's input: a first byte, cuts, and the bytes that the target is about. Plain, so that a corpus can be written by hand.
pub struct Input<'b> {
    /// The top bit of the first byte.
    pub flag: bool,
    /// How long the pieces are, in turn, 0 meaning 256; as many as the low four bits of the first byte say.
    cuts: &'b [u8],
    /// All that follows.
    pub bytes: &'b [u8],
}

impl<'b> Input<'b> {
    /// `None` if it is too short to be one.
    pub fn new(data: &'b [u8]) -> Option<Self> {
        let (&first, rest) = data.split_first()?;
        let (cuts, bytes) = rest.split_at_checked(usize::from(first & 15))?;
        Some(Input { flag: first & 128 != 0, cuts, bytes })
    }

    /// Calls `feed` with the pieces, none of them empty; the last takes the rest.
    pub fn in_pieces(&self, feed: impl FnMut(&'b [u8])) {
        self.cut(self.bytes, feed);
    }

    /// The same with other bytes.
    pub fn cut<'o>(&self, bytes: &'o [u8], mut feed: impl FnMut(&'o [u8])) {
        let mut rest = bytes;
        for &cut in self.cuts {
            let n = if cut == 0 { 256 } else { usize::from(cut) };
            let (piece, after) = rest.split_at(n.min(rest.len()));
            rest = after;
            if !piece.is_empty() {
                feed(piece);
            }
        }
        if !rest.is_empty() {
            feed(rest);
        }
    }
}
