//! Cookies, as far as affinity needs them: one origin, names and values.

use hyper::HeaderMap;
use hyper::header::{HeaderValue, SET_COOKIE};

/// More are not kept, whatever a server sends.
const COOKIES_MAX: usize = 8;

/// What a server gave to be recognised by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Cookies(Vec<(String, String)>);

impl Cookies {
    /// Takes in the cookies of an answer.
    pub(super) fn take(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE).iter().filter_map(|v| v.to_str().ok()) {
            let pair = cookie.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.trim().split_once('=') else { continue };
            if let Some((_, old)) = self.0.iter_mut().find(|(known, _)| known == name) {
                value.clone_into(old);
            } else if self.0.len() < COOKIES_MAX {
                self.0.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// The `Cookie` header; `None` with none.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { None } else { HeaderValue::from_str(&pairs.join("; ")).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(cookies: &mut Cookies, set: &[&str]) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        for cookie in set {
            headers.append(SET_COOKIE, cookie.parse().unwrap());
        }
        cookies.take(&headers);
        cookies.header()
    }

    #[test]
    fn names_and_values_come_back_the_newest_of_each() {
        let mut cookies = Cookies::default();
        assert_eq!(taken(&mut cookies, &[]), None);
        assert_eq!(taken(&mut cookies, &["holdline=a=b; Path=/; HttpOnly", "x=1"]).unwrap(), "holdline=a=b; x=1");
        assert_eq!(taken(&mut cookies, &["holdline=c", "nonsense"]).unwrap(), "holdline=c; x=1");
        let many: Vec<_> = (0..100).map(|n| format!("n{n}=1")).collect();
        taken(&mut cookies, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(cookies.0.len(), COOKIES_MAX);
    }
}
