//! A cookie names a backend only with that backend's token: whatever else a client sends names none.

#![no_main]

use holdline_core::affinity::{Cookies, Wish};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::wire::token::{Keys, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Cookie fields, a line each.
    let fields: Vec<_> = data.split(|b| *b == b'\n').collect();
    let (fleet, keys) = (FleetName::from("chat"), Keys::new([7; 32]));
    let backends: [BackendId; 2] = ["a".into(), "b".into()];
    let cookies = Cookies::new(&fleet, "holdline", &keys, &backends);
    let preference = cookies.preference(fields.iter().copied());
    if let Wish::Backend(id) = &preference.wish {
        let token = keys.tokens(&fleet, id).next().unwrap().to_string();
        let named = |field: &&[u8]| field.windows(token.len()).any(|w| w == token.as_bytes());
        assert!(fields.iter().any(named), "a backend was named without its token");
    }
    for field in &fields {
        if let Some(token) = Token::parse(field) {
            assert_eq!(Token::parse(token.to_string().as_bytes()).map(|t| t.to_string()), Some(token.to_string()));
        }
    }
});
