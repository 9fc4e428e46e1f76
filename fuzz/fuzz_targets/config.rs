//! A configuration is taken, or its error says something.

#![no_main]

use std::path::Path;

use holdline::config::{Programs, parse_with};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = parse_with(text, "fuzzed.yaml", Path::new("/nonexistent"), Programs::Trust) {
        assert!(error.to_string().contains("fuzzed.yaml"), "{error}");
    }
});
