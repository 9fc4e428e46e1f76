//! A backend's head that is taken is the same in front of any body, ends where another parser says, and what is written for the
//! client is a head that is taken again, with one length.

#![no_main]

use holdline_core::wire::forward::{Reply, ReplyBody, reply};
use holdline_core::wire::head::{self, Body};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(head)) = head::parse(bytes) else { return };
    assert_eq!(head::parse(&bytes[..head.len]).unwrap().unwrap().len, head.len);
    assert!(head::parse(&bytes[..head.len - 1]).unwrap().is_none());
    let mut fields = [httparse::EMPTY_HEADER; head::FIELDS_MAX];
    let other = httparse::Response::new(&mut fields).parse(bytes);
    assert_eq!(other, Ok(httparse::Status::Complete(head.len)));

    let Ok(body) = head.body() else { return };
    let framing = match body {
        Body::None => ReplyBody::None,
        Body::Length(length) => ReplyBody::Length(length),
        Body::Chunked => ReplyBody::Chunked,
        Body::UntilClose => ReplyBody::UntilClose,
    };
    let written = reply(&head, &Reply { body: framing, session: None, set_cookie: None });
    // It may have grown over what is read: by our own fields.
    if written.len() <= head::HEAD_MAX && head.fields.iter().count() + 2 <= head::FIELDS_MAX {
        let again = head::parse(&written).unwrap().unwrap();
        assert_eq!((again.len, again.status, again.body()), (written.len(), head.status, Ok(body)));
    }
});
