//! Sticky sessions: a cookie leads a client back to the backend it had, and on long-poll routes says which client it is.

use super::{Preference, Wish};
use crate::ids::{BackendId, FleetName};
use crate::wire::token::{ClientToken, Keys, Token};

/// What a gateway needs to read and write the affinity cookies of one fleet. Made anew when its backends or the keys change.
#[derive(Clone, Debug)]
pub struct Cookies {
    name: String,
    fleet: FleetName,
    keys: Keys,
    backends: Vec<(BackendId, Vec<Token>)>,
}

impl Cookies {
    /// For the fleet's `backends`; `name` is the cookie's.
    pub fn new<'b>(fleet: &FleetName, name: &str, keys: &Keys, backends: impl IntoIterator<Item = &'b BackendId>) -> Self {
        let backends = backends.into_iter().map(|id| (id.clone(), keys.tokens(fleet, id).collect())).collect();
        Cookies { name: name.to_owned(), fleet: fleet.clone(), keys: keys.clone(), backends }
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

    /// Gives a client that has none an identity, made of `number`, which need not be secret; [`Cookies::set_cookie`] tells the client.
    pub fn identify(&self, preference: &mut Preference, number: u64) {
        if preference.client.is_none() {
            preference.client = Some(self.keys.client(&self.fleet, number));
            preference.is_current = false;
        }
    }

    /// The value of `Set-Cookie` that leads back to `chosen`; `None` when the client has it already. `is_secure`: the client came over TLS.
    pub fn set_cookie(&self, chosen: &BackendId, had: &Preference, is_secure: bool) -> Option<String> {
        if had.is_current && matches!(&had.wish, Wish::Backend(id) if id == chosen) {
            return None;
        }
        let (_, tokens) = self.backends.iter().find(|(id, _)| id == chosen)?;
        let token = tokens.first()?;
        let client = had.client.map(|client| format!(".{client}")).unwrap_or_default();
        let secure = if is_secure { "; Secure" } else { "" };
        Some(format!("{}={token}{client}; Path=/; HttpOnly; SameSite=Lax{secure}", self.name))
    }

    /// Reads `TOKEN` or `TOKEN.CLIENT`.
    fn read(&self, value: &[u8]) -> Preference {
        let (token, client) = match value.iter().position(|b| *b == b'.') {
            Some(dot) => (&value[..dot], ClientToken::parse(&value[dot + 1..])),
            None => (value, None),
        };
        let found = Token::parse(token).and_then(|token| self.find(token));
        let verified = client.and_then(|client| self.keys.verify_client(&self.fleet, client));
        Preference {
            is_current: found.is_some_and(|(_, current)| current) && verified.is_none_or(|v| v.is_current),
            wish: found.map_or(Wish::Anywhere, |(id, _)| Wish::Backend(id.clone())),
            client: verified.map(|v| v.signed_now),
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
        assert_eq!((&had.wish, had.identity()), (&to("b"), None));
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
        let old = cookies(&Keys::new([7; 32])).set_cookie(&"b".into(), &nothing(), false).unwrap();
        let now = cookies(&Keys::several(&[[8; 32], [7; 32]]));
        let had = asked(&now, token_of(&old));
        assert_eq!(had.wish, to("b"));
        assert_ne!(now.set_cookie(&"b".into(), &had, false).unwrap(), old);
    }

    #[test]
    fn a_client_keeps_its_identity_wherever_it_goes() {
        let before = cookies(&Keys::new([7; 32]));
        let mut new = nothing();
        before.identify(&mut new, 5);
        let who = new.identity().unwrap();
        let set = before.set_cookie(&"b".into(), &new, false).unwrap();
        let mut had = asked(&before, token_of(&set));
        before.identify(&mut had, 6);
        assert_eq!((&had.wish, had.identity()), (&to("b"), Some(who)));
        assert_eq!(before.set_cookie(&"b".into(), &had, false), None);
        // Elsewhere, under another key, and after its backend left.
        let moved = before.set_cookie(&"10.0.0.7:9001".into(), &had, false).unwrap();
        let keys = Keys::several(&[[8; 32], [7; 32]]);
        let now = cookies(&keys);
        let had = asked(&now, token_of(&moved));
        assert_eq!(had.identity(), Some(who));
        let signed_anew = now.set_cookie(&"10.0.0.7:9001".into(), &had, false).unwrap();
        assert_eq!(asked(&now, token_of(&signed_anew)).identity(), Some(who));
        let left = Cookies::new(&"chat".into(), "holdline", &keys, &[]);
        assert_eq!((asked(&left, token_of(&signed_anew)).wish, had.identity()), (Wish::Anywhere, Some(who)));
    }

    #[test]
    fn a_forged_identity_is_none() {
        let cookies = cookies(&Keys::new([7; 32]));
        let mut other = nothing();
        Cookies::new(&"feed".into(), "holdline", &Keys::new([7; 32]), &[]).identify(&mut other, 5);
        let token = token_of(&cookies.set_cookie(&"b".into(), &nothing(), false).unwrap()).to_owned();
        let foreign = cookies.set_cookie(&"b".into(), &other, false).unwrap();
        for forged in [token_of(&foreign), &format!("{token}.{}", "A".repeat(32)), &format!("{token}."), &format!("{token}.x.y")]
        {
            let had = asked(&cookies, forged);
            assert_eq!((&had.wish, had.identity()), (&to("b"), None), "{forged}");
        }
    }
}
