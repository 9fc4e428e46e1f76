use proptest::prelude::*;

use super::*;

fn fed(masked: bool, bytes: &[u8]) -> (Tracker, Fed) {
    let mut tracker = Tracker::new(masked);
    let fed = tracker.feed(bytes);
    (tracker, fed)
}

#[test]
fn each_broken_rule_is_named_and_the_frame_is_not_taken() {
    let hello = [0x81, 1, b'a'];
    for (rule, frame) in [
        (Violation::ReservedBit, &[0xa1, 0][..]),
        (Violation::ReservedBit, &[0x91, 0]),
        (Violation::ReservedBit, &[0xc8, 0]),
        (Violation::ReservedOpcode, &[0x83, 0]),
        (Violation::ReservedOpcode, &[0x8b, 0]),
        (Violation::Mask, &[0x81, 0x81, 0, 0, 0, 0, b'a']),
        (Violation::FragmentedControl, &[0x09, 0]),
        (Violation::LongControl, &[0x89, 126, 0, 126]),
        (Violation::Fragments, &[0x80, 0]),
        (Violation::Fragments, &[0x01, 0, 0x81, 0]),
        (Violation::Length, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let bytes = [&hello[..], frame, &hello[..]].concat();
        let (mut tracker, fed) = fed(false, &bytes);
        assert_eq!(tracker.violation(), Some(rule), "{frame:?}");
        let good = if frame[0] == 0x01 { 5 } else { 3 };
        assert_eq!(fed, Fed { taken: good, close_at: None });
        assert!(tracker.at_boundary());
        assert_eq!(tracker.feed(&hello).taken, 0);
    }
    assert_eq!(super::Tracker::new(true).tap(&[0x81, 0]).violation(), Some(Violation::Mask));
}

impl Tracker {
    fn tap(mut self, bytes: &[u8]) -> Self {
        self.feed(bytes);
        self
    }
}

#[test]
fn a_header_that_was_passed_on_in_part_leaves_no_boundary() {
    let tracker = Tracker::new(false).tap(&[0x81]).tap(&[0x80]);
    assert_eq!(tracker.violation(), Some(Violation::Mask));
    assert!(!tracker.at_boundary());
}

#[test]
fn compressed_messages_pass() {
    assert_eq!(Tracker::new(false).tap(&[0x41, 0, 0x00, 0, 0x80, 0, 0xc2, 0]).violation(), None);
}

#[test]
fn a_close_says_where_it_begins_and_ends_everything() {
    let close = [0x88, 0x84, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2, b'h' ^ 3, b'i' ^ 4];
    let bytes = [&[0x82, 0x80, 0, 0, 0, 0][..], &close[..], b"more"].concat();
    let (mut tracker, fed) = fed(true, &bytes);
    assert_eq!(fed, Fed { taken: 16, close_at: Some(6) });
    assert!(tracker.closed());
    assert_eq!(tracker.feed(b"more"), Fed { taken: 0, close_at: None });
}

#[test]
fn a_close_needs_no_code() {
    for bytes in [&[0x88, 0][..], &[0x88, 1, 3]] {
        let (tracker, fed) = fed(false, bytes);
        assert_eq!((tracker.closed(), fed), (true, Fed { taken: bytes.len(), close_at: Some(0) }));
    }
}

#[test]
fn one_frame_at_a_time_stops_at_its_end() {
    let mut tracker = Tracker::new(false);
    let bytes = [0x81, 2, b'a', b'b', 0x82, 0, 0x89, 0];
    assert_eq!(tracker.feed(&bytes[..3]).taken, 3);
    assert_eq!(tracker.feed_frame(&bytes[3..]).taken, 1);
    assert_eq!(tracker.feed_frame(&bytes[4..]).taken, 2);
    assert!(tracker.at_boundary());
}

#[test]
fn pings_and_pongs_are_told_once() {
    let mut tracker = Tracker::new(false).tap(&[0x89, 1]);
    assert!(!tracker.take_ping(), "not before its end");
    tracker.feed(&[b'x', 0x8a, 0]);
    assert_eq!((tracker.take_ping(), tracker.take_pong()), (true, true));
    assert_eq!((tracker.take_ping(), tracker.take_pong()), (false, false));
}

#[test]
fn it_is_small() {
    assert_eq!(size_of::<Tracker>(), 16);
}

/// One frame, its payload zeros.
fn frame(first: u8, masked: bool, len: usize) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(bit | len as u8),
        126..=0xffff => bytes.extend([&[bit | 126][..], &(len as u16).to_be_bytes()].concat()),
        _ => bytes.extend([&[bit | 127][..], &(len as u64).to_be_bytes()].concat()),
    }
    bytes.extend(vec![0; len + if masked { 4 } else { 0 }]);
    bytes
}

prop_compose! {
    /// A message in fragments, with a Ping between.
    fn message()(lens in prop::collection::vec(prop_oneof![0..126_usize, 120..400_usize, 65_500..65_600_usize], 1..4),
        pings in prop::collection::vec(any::<bool>(), 4)) -> Vec<(u8, usize)> {
        let last = lens.len() - 1;
        let mut frames = Vec::new();
        for (i, len) in lens.iter().enumerate() {
            let first = if i == 0 { 2 } else { 0 } | if i == last { 0x80 } else { 0 };
            frames.push((first, *len));
            if pings[i] {
                frames.push((0x89, 5));
            }
        }
        frames
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn boundaries_are_where_frames_end_in_any_split(messages in prop::collection::vec(message(), 1..4), masked: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let frames: Vec<_> = messages.concat().into_iter().map(|(first, len)| frame(first, masked, len)).collect();
        let bytes = frames.concat();
        let mut ends: Vec<usize> = frames.iter().scan(0, |at, f| { *at += f.len(); Some(*at) }).collect();
        ends.push(0);
        let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let (mut tracker, mut from) = (Tracker::new(masked), 0);
        for to in cuts {
            let fed = tracker.feed(&bytes[from..to]);
            prop_assert_eq!(fed, Fed { taken: to - from, close_at: None });
            prop_assert_eq!(tracker.at_boundary(), ends.contains(&to));
            from = to;
        }
        prop_assert!(!tracker.in_message());
    }

    #[test]
    fn rubbish_is_judged_alike_in_any_split(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x88), 0..4_u8], 0..200),
        masked: bool, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let (whole, once) = fed(masked, &bytes);
        let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(bytes.len().max(1)).min(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let (mut tracker, mut from, mut taken, mut close_at) = (Tracker::new(masked), 0, 0, None);
        for to in cuts {
            let fed = tracker.feed(&bytes[from..to]);
            close_at = close_at.or(fed.close_at.map(|at| from + at));
            taken += fed.taken;
            from = to;
        }
        prop_assert_eq!(tracker.violation(), whole.violation());
        prop_assert_eq!(tracker.closed(), whole.closed());
        if whole.violation().is_none() {
            prop_assert_eq!((taken, close_at), (once.taken, once.close_at));
            prop_assert_eq!(tracker.at_boundary(), whole.at_boundary());
        } else {
            // At most a part of the header that broke the rule went on.
            prop_assert!((once.taken..once.taken + 14).contains(&taken));
        }
    }
}
