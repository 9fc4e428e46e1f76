//! Close frames of our own (RFC 6455 section 5.5.1).

/// 1001: the endpoint goes away.
pub const GOING_AWAY: u16 = 1001;
/// 1002: the peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// 1012: the service restarts, come back.
pub const SERVICE_RESTART: u16 = 1012;
/// 1013: no room now, come back later.
pub const TRY_AGAIN_LATER: u16 = 1013;
/// 1014: what stands behind a gateway gave an invalid answer.
pub const BAD_GATEWAY: u16 = 1014;

/// The longest reason: a control frame's 125 bytes less the code.
pub const REASON_MAX: usize = 123;

/// A Close frame; a `reason` beyond [`REASON_MAX`] bytes is cut at a character. To a backend, for which we are the client, it must have a `mask`.
pub fn frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    debug_assert!(!matches!(code, 1005 | 1006 | 1015), "{code} never goes over the wire (RFC 6455 section 7.4.1)");
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_MAX)];
    let len = 2 + reason.len() as u8;
    let mut frame = Vec::with_capacity(2 + 4 + usize::from(len));
    frame.extend([0x88, len | if mask.is_some() { 0x80 } else { 0 }]);
    frame.extend(mask.iter().flatten());
    let payload = code.to_be_bytes().into_iter().chain(reason.iter().copied());
    let key = mask.unwrap_or_default();
    frame.extend(payload.enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    frame
}

#[cfg(test)]
mod tests {
    use super::super::ws::Tracker;
    use super::*;

    #[test]
    fn to_a_client_it_is_plain() {
        assert_eq!(frame(SERVICE_RESTART, "bye", None), [0x88, 5, 0x03, 0xf4, b'b', b'y', b'e']);
    }

    #[test]
    fn to_a_backend_it_is_masked() {
        assert_eq!(frame(GOING_AWAY, "", Some([1, 2, 3, 4])), [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let bytes = frame(GOING_AWAY, &"€".repeat(60), Some([9; 4]));
        assert_eq!(bytes.len(), 2 + 4 + 2 + 123);
        let mut tracker = Tracker::new(true);
        assert_eq!(tracker.feed(&bytes).taken, bytes.len());
        assert!(tracker.closed());
        let reason: Vec<u8> = bytes[8..].iter().map(|byte| byte ^ 9).collect();
        assert_eq!((bytes[6] ^ 9, bytes[7] ^ 9, String::from_utf8(reason).unwrap()), (0x03, 0xe9, "€".repeat(41)));
    }
}
