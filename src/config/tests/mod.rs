//! The configuration from the outside: text in, model or error text out.

use std::path::Path;

use super::model::Config;
use super::{Programs, parse, parse_with};

mod examples;
mod files;
mod meanings;
mod models;
mod shapes;
mod tls;
mod trusted;

/// What is said about `text`; relative paths start at a directory that is not there.
fn error_of(text: &str) -> String {
    match parse(text, "holdline.yaml", Path::new("/srv/holdline")) {
        Ok(config) => panic!("should be refused:\n{text}\n{config:#?}"),
        Err(error) => error.to_string(),
    }
}

/// The model of `text`.
fn model_of(text: &str) -> Config {
    match parse_with(text, "holdline.yaml", Path::new("/srv/holdline"), Programs::Trust) {
        Ok(config) => config,
        Err(error) => panic!("should be accepted:\n{text}\n{error}"),
    }
}
