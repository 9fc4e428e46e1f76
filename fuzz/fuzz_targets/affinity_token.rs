//! A cookie names a backend only with that backend's token, and a client only with a number that was given out: whatever else a client
//! sends names nobody. What is given out is read back.

#![no_main]

use holdline_core::affinity::{Cookies, Wish};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::wire::token::{ClientToken, Keys, Token};
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
    if preference.identity().is_some() {
        let given_out = |text: &[u8]| ClientToken::parse(text).is_some_and(|token| keys.verify_client(&fleet, token).is_some());
        let named = |field: &&[u8]| field.windows(32).any(given_out);
        assert!(fields.iter().any(named), "a client was named by a number that nobody gave out");
    }
    let mut told = preference;
    cookies.identify(&mut told, data.len() as u64);
    if let Some(set) = cookies.set_cookie(&backends[0], &told, false) {
        let cookie = set.split(';').next().unwrap();
        assert_eq!(cookies.preference([cookie.as_bytes()]).identity(), told.identity());
    }
    for field in &fields {
        if let Some(token) = Token::parse(field) {
            assert_eq!(Token::parse(token.to_string().as_bytes()).map(|t| t.to_string()), Some(token.to_string()));
        }
    }
});
