//! Sticky sessions: a cookie leads a client back to the backend it had.

use super::{Preference, Wish};
use crate::ids::{BackendId, FleetName};
use crate::wire::token::{Keys, Token};

/// What a gateway needs to read and write the affinity cookies of one fleet. Made anew when its backends or the keys change.
#[derive(Clone, Debug)]
pub struct Cookies {
    name: String,
    backends: Vec<(BackendId, Vec<Token>)>,
}

impl Cookies {
    /// For the fleet's `backends`; `name` is the cookie's.
    pub fn new<'b>(fleet: &FleetName, name: &str, keys: &Keys, backends: impl IntoIterator<Item = &'b BackendId>) -> Self {
        let backends = backends.into_iter().map(|id| (id.clone(), keys.tokens(fleet, id).collect())).collect();
        Cookies { name: name.to_owned(), backends }
    }

    /// What the client's `Cookie` fields (RFC 6265 4.2.1) ask for. Of several affinity cookies the first that names a backend counts.
    pub fn preference<'c>(&self, cookie_fields: impl IntoIterator<Item = &'c [u8]>) -> Preference {
        let mut preference = Preference::default();
        for value in cookie_fields.into_iter().flat_map(|field| values(field, &self.name)) {
            preference = self.read(value);
            if preference.wish != Wish::Anywhere {
                break;
            }
        }
        preference
    }

    /// The value of `Set-Cookie` that leads back to `chosen`; `None` when the client has it already. `is_secure`: the client came over TLS.
    pub fn set_cookie(&self, chosen: &BackendId, had: &Preference, is_secure: bool) -> Option<String> {
        if had.is_current && matches!(&had.wish, Wish::Backend(id) if id == chosen) {
            return None;
        }
        let (_, tokens) = self.backends.iter().find(|(id, _)| id == chosen)?;
        let token = tokens.first()?;
        let secure = if is_secure { "; Secure" } else { "" };
        Some(format!("{}={token}; Path=/; HttpOnly; SameSite=Lax{secure}", self.name))
    }

    fn read(&self, value: &[u8]) -> Preference {
        let found = Token::parse(value).and_then(|token| self.find(token));
        Preference {
            is_current: found.is_some_and(|(_, current)| current),
            wish: found.map_or(Wish::Anywhere, |(id, _)| Wish::Backend(id.clone())),
        }
    }

    /// The backend that a token names, and whether it is of the key that signs now. Compares with every token of every backend, so that
    /// time tells nothing.
    fn find(&self, presented: Token) -> Option<(&BackendId, bool)> {
        let mut found = None;
        for (id, tokens) in &self.backends {
            for (age, own) in tokens.iter().enumerate() {
                if own.matches(presented) {
                    found = Some((id, age == 0));
                }
            }
        }
        found
    }
}

/// The values of the cookies called `name` in one field, without quotes.
fn values<'c>(field: &'c [u8], name: &str) -> impl Iterator<Item = &'c [u8]> {
    field.split(|b| *b == b';').filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(keys: &Keys) -> Cookies {
        let ids: [BackendId; 2] = ["10.0.0.7:9001".into(), "b".into()];
        Cookies::new(&"chat".into(), "holdline", keys, &ids)
    }

    fn nothing() -> Preference {
        Preference::default()
    }

    fn to(id: &str) -> Wish {
        Wish::Backend(id.into())
    }

    fn token_of(set_cookie: &str) -> &str {
        set_cookie.split(['=', ';']).nth(1).unwrap()
    }

    fn asked(cookies: &Cookies, value: &str) -> Preference {
        cookies.preference([format!("holdline={value}").as_bytes()])
    }

    #[test]
    fn a_cookie_leads_back_and_is_set_only_on_change() {
        let cookies = cookies(&Keys::new([7; 32]));
        let b = "b".into();
        let set = cookies.set_cookie(&b, &nothing(), false).unwrap();
        assert_eq!(set, format!("holdline={}; Path=/; HttpOnly; SameSite=Lax", token_of(&set)));
        let field = format!("a=1; holdline=\"{}\";x=y", token_of(&set));
        let had = cookies.preference([&b"z=1"[..], field.as_bytes()]);
        assert_eq!(had.wish, to("b"));
        assert_eq!(cookies.set_cookie(&b, &had, false), None);
        let elsewhere = cookies.set_cookie(&"10.0.0.7:9001".into(), &had, true).unwrap();
        assert!(elsewhere.ends_with("; Secure") && !elsewhere.contains("10.0"), "{elsewhere}");
    }

    #[test]
    fn forged_and_foreign_cookies_ask_for_nobody() {
        let cookies = cookies(&Keys::new([7; 32]));
        let real = cookies.set_cookie(&"b".into(), &nothing(), false).unwrap();
        let real = token_of(&real);
        assert_eq!(cookies.preference([format!("holdlines={real}; Holdline={real}").as_bytes()]).wish, Wish::Anywhere);
        for forged in ["", "AAAAAAAAAAAAAAAAAAAAAA", "10.0.0.7:9001", ".", "..", &format!(".{real}")] {
            assert_eq!(asked(&cookies, forged).wish, Wish::Anywhere, "{forged}");
        }
        let both = format!("holdline=AAAAAAAAAAAAAAAAAAAAAA; holdline={real}");
        assert_eq!(cookies.preference([both.as_bytes()]).wish, to("b"));
        assert_eq!(cookies.set_cookie(&"gone".into(), &nothing(), false), None);
    }

    #[test]
    fn a_token_of_the_last_key_is_followed_and_replaced() {
        let mut keys = Keys::new([7; 32]);
        let old = cookies(&keys).set_cookie(&"b".into(), &nothing(), false).unwrap();
        keys.rotate([8; 32]);
        let now = cookies(&keys);
        let had = asked(&now, token_of(&old));
        assert_eq!(had.wish, to("b"));
        assert_ne!(now.set_cookie(&"b".into(), &had, false).unwrap(), old);
    }
}
