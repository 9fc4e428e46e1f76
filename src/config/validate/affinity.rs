//! Affinity: the name that each method needs.

use holdline_core::policy::Affinity;
use holdline_core::wire::fields::is_reserved;
use holdline_core::wire::token::Keys;

use super::super::located::At;
use super::super::raw_fleet as raw;
use super::check::Check;
use crate::files;

/// The cookie's default name.
const COOKIE: &str = "holdline";

pub(super) fn affinity(check: &mut Check<'_>, fleet: &str, raw: &raw::Affinity) -> Affinity {
    let at = format!("fleets.{fleet}.affinity");
    let name = raw.name.as_ref();
    if let Some(file) = raw.key_file.as_ref().filter(|_| raw.by.value != raw::AffinityBy::Cookie) {
        check.wrong(file.line, format!("{at}.key_file is used with `by: cookie` only"), "write by: cookie, or remove it");
    }
    match raw.by.value {
        raw::AffinityBy::None => {
            // A name alone is a cookie's, kept while affinity is off.
            name.inspect(|name| check_cookie(check, &at, name));
            Affinity::None
        }
        raw::AffinityBy::Cookie => {
            name.inspect(|name| check_cookie(check, &at, name));
            let keys = raw.key_file.as_ref().and_then(|file| keys(check, &at, file));
            Affinity::Cookie { name: name.map_or(COOKIE, |name| &name.value).to_owned(), keys }
        }
        raw::AffinityBy::Header => Affinity::Header { name: header(check, &at, raw).to_ascii_lowercase() },
        raw::AffinityBy::Query => Affinity::Query { name: parameter(check, &at, raw).to_owned() },
        raw::AffinityBy::Address => {
            if let Some(name) = name {
                let what = format!("{at}.name is `{}`, but the affinity is by address", name.value);
                check.wrong(name.line, what, "remove the name, or write by: header or by: query");
            }
            Affinity::Address
        }
    }
}

fn keys(check: &mut Check<'_>, at: &str, file: &At<String>) -> Option<Keys> {
    let path = check.path(&file.value);
    let (what, remedy) = match files::read_text(&path, files::SECRET_MAX).map(|text| Keys::parse(&text)) {
        Ok(Ok(keys)) => return Some(keys),
        Ok(Err(error)) => (
            format!("{at}.key_file {} cannot be used: {error}", path.display()),
            "write one key a line, the new one first and at most the one before it: openssl rand -hex 32",
        ),
        Err(error) => {
            (format!("{at}.key_file {} cannot be read: {error}", path.display()), "correct the path or its permissions")
        }
    };
    check.wrong(file.line, what, remedy);
    None
}

fn check_cookie(check: &mut Check<'_>, at: &str, name: &At<String>) {
    if !is_token(&name.value) {
        let what = format!("{at}.name `{}` is not a valid cookie name", name.value);
        check.wrong(name.line, what, "write letters, digits, `-` and `_`");
    }
}

fn header<'r>(check: &mut Check<'_>, at: &str, raw: &'r raw::Affinity) -> &'r str {
    let Some(name) = &raw.name else {
        check.wrong(raw.by.line, format!("{at}.by is header, but name is missing"), "add one, such as name: X-User");
        return "";
    };
    if !is_token(&name.value) {
        let what = format!("{at}.name `{}` is not a valid header name", name.value);
        check.wrong(name.line, what, "write one such as X-User");
    } else if is_reserved(&name.value) {
        let what = format!("{at}.name `{}` is a header that Holdline sets and clients cannot", name.value);
        check.wrong(name.line, what, "write one that clients send, such as X-User; for their address write by: address");
    }
    &name.value
}

fn parameter<'r>(check: &mut Check<'_>, at: &str, raw: &'r raw::Affinity) -> &'r str {
    let Some(name) = &raw.name else {
        check.wrong(raw.by.line, format!("{at}.by is query, but name is missing"), "add one, such as name: user");
        return "";
    };
    if name.value.is_empty() || name.value.chars().any(|c| c.is_control() || matches!(c, '?' | '&' | '=' | '#' | '%')) {
        let what = format!("{at}.name `{}` is not a valid parameter name", name.value.escape_debug());
        check.wrong(name.line, what, "write the decoded name, such as user");
    }
    &name.value
}

/// RFC 9110 section 5.6.2, which a cookie's name (RFC 6265 section 4.1.1) and a header's are.
fn is_token(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}
