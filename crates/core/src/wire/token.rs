//! Affinity tokens: they name a backend to Holdline and tell nobody else anything.
//!
//! A token is HMAC-SHA256 (RFC 2104) over fleet and backend id, cut to 128 bits. It carries neither id nor address: a gateway knows its
//! backends and compares. Forging one means guessing 128 bits. A client token is a number that Holdline chose and the same kind of MAC
//! over it; it tells clients apart, and what is counted by it cannot be made up by them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::{BackendId, FleetName};

/// Separate these MACs from each other and from others that a key might ever be used for.
const BACKEND: &[u8] = b"holdline affinity 1";
const CLIENT: &[u8] = b"holdline client 1";

/// A number and a MAC.
const CLIENT_BYTES: usize = 8 + 16;

/// A secret, from a cryptographic source.
pub type Key = [u8; 32];

/// The most keys in a file: the one that signs, and the one before it, whose cookies are still in use.
const KEYS_MAX: usize = 2;

/// The least characters of a key in a file: 128 bits in hexadecimal.
const SECRET_MIN: usize = 32;

/// The keys of tokens. The first signs, all verify.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} secret)", self.0.len())
    }
}

impl Keys {
    /// One key.
    pub fn new(signing: Key) -> Self {
        Keys(vec![signing])
    }

    /// The keys in the text of a file: one a line, the one that signs first. Of each line the SHA-256 is the key, so that any encoding of a
    /// random number will do. Empty lines are skipped.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()) {
            if line.len() < SECRET_MIN || !line.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(KeysError::Weak { line: number });
            }
            keys.push(Sha256::digest(line).into());
        }
        match keys.len() {
            0 => Err(KeysError::None),
            1..=KEYS_MAX => Ok(Keys(keys)),
            found => Err(KeysError::Many { found }),
        }
    }

    /// The one that signs, and those before it.
    #[cfg(test)]
    pub(crate) fn several(keys: &[Key]) -> Self {
        Keys(keys.to_vec())
    }

    /// The token of a backend under each key; the first is the one to hand out.
    pub fn tokens<'k>(&'k self, fleet: &'k FleetName, backend: &'k BackendId) -> impl Iterator<Item = Token> + 'k {
        self.0.iter().map(move |key| sign(key, BACKEND, fleet, backend.as_str().as_bytes()))
    }

    /// A token for the client of this number.
    pub fn client(&self, fleet: &FleetName, number: u64) -> ClientToken {
        ClientToken { number, mac: sign(&self.0[0], CLIENT, fleet, &number.to_be_bytes()) }
    }

    /// Whether a key of ours signed `token`; every key is tried, so that time tells nothing.
    pub fn verify_client(&self, fleet: &FleetName, token: ClientToken) -> Option<VerifiedClient> {
        let mut verified = None;
        for (age, key) in self.0.iter().enumerate() {
            if sign(key, CLIENT, fleet, &token.number.to_be_bytes()).matches(token.mac) {
                verified = Some(VerifiedClient { signed_now: self.client(fleet, token.number), is_current: age == 0 });
            }
        }
        verified
    }
}

/// Why a text has no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// It has only empty lines.
    #[error("it holds no key")]
    None,
    /// More lines than keys may be in use.
    #[error("it holds {found} keys, and at most {KEYS_MAX} may be in use")]
    Many {
        /// How many.
        found: usize,
    },
    /// A line that is too short, or not printable ASCII without spaces.
    #[error("line {line} is not {SECRET_MIN} or more printable ASCII characters")]
    Weak {
        /// The line, from 1.
        line: usize,
    },
}

/// A client's number, authenticated.
#[derive(Clone, Copy, Debug)]
pub struct ClientToken {
    number: u64,
    mac: Token,
}

/// A [`ClientToken`] that is ours.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedClient {
    /// As the key that signs now writes it.
    pub signed_now: ClientToken,
    /// It was written so already.
    pub is_current: bool,
}

impl std::fmt::Display for ClientToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = [0; CLIENT_BYTES];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&self.mac.0);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl ClientToken {
    /// Reads what a client presents; `None` if it cannot be a token. It is not verified yet.
    pub fn parse(text: &[u8]) -> Option<ClientToken> {
        let mut bytes = [0; CLIENT_BYTES + 3];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (number, mac) = bytes[..CLIENT_BYTES].split_first_chunk()?;
        let mac = Token(mac.try_into().ok()?);
        (len == CLIENT_BYTES).then(|| ClientToken { number: u64::from_be_bytes(*number), mac })
    }

    /// The client's number.
    pub fn number(self) -> u64 {
        self.number
    }
}

/// Compare only by [`Token::matches`].
#[derive(Clone, Copy)]
pub struct Token([u8; 16]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl Token {
    /// Reads what a client presents; `None` if it cannot be a token.
    pub fn parse(text: &[u8]) -> Option<Token> {
        let mut bytes = [0; 18];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (len == 16).then(|| Token(std::array::from_fn(|i| bytes[i])))
    }

    /// Equality in constant time.
    pub fn matches(self, other: Token) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

fn sign(key: &Key, purpose: &[u8], fleet: &FleetName, subject: &[u8]) -> Token {
    // HMAC pads a short key with zeros to SHA-256's block (RFC 2104 section 2); a whole block cannot be of a wrong length.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(purpose);
    // The length keeps fleet `a` with backend `bc` apart from fleet `ab` with backend `c`.
    mac.update(&(fleet.as_str().len() as u64).to_be_bytes());
    mac.update(fleet.as_str().as_bytes());
    mac.update(subject);
    let full = mac.finalize().into_bytes();
    Token(std::array::from_fn(|i| full[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(keys: &Keys, fleet: &str, backend: &str) -> Token {
        keys.tokens(&fleet.into(), &backend.into()).next().unwrap()
    }

    #[test]
    fn a_token_names_one_backend_of_one_fleet() {
        let keys = Keys::new([7; 32]);
        let text = token(&keys, "chat", "10.0.0.7:9001").to_string();
        assert_eq!(text.len(), 22);
        let parsed = Token::parse(text.as_bytes()).unwrap();
        assert!(token(&keys, "chat", "10.0.0.7:9001").matches(parsed));
        assert!(!token(&keys, "chat", "10.0.0.7:9002").matches(parsed));
        assert!(!token(&keys, "feed", "10.0.0.7:9001").matches(parsed));
        assert!(!token(&Keys::new([8; 32]), "chat", "10.0.0.7:9001").matches(parsed));
        assert!(!token(&keys, "a", "bc").matches(token(&keys, "ab", "c")));
    }

    #[test]
    fn the_first_key_signs_and_the_tokens_of_all_are_known() {
        let old = token(&Keys::new([1; 32]), "chat", "b");
        let keys = Keys::several(&[[2; 32], [1; 32]]);
        let known: Vec<bool> = keys.tokens(&"chat".into(), &"b".into()).map(|own| own.matches(old)).collect();
        assert_eq!(known, [false, true]);
        assert!(token(&keys, "chat", "b").matches(token(&Keys::new([2; 32]), "chat", "b")));
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in [&b""[..], b"short", b"AAAAAAAAAAAAAAAAAAAAAAAA", b"AAAAAAAAAAAAAAAAAAAA*A", &[0xff; 22], &[b'A'; 4000]] {
            assert!(Token::parse(text).is_none(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_client_token_is_ours_or_nobodys() {
        let (chat, keys) = ("chat".into(), Keys::new([1; 32]));
        let text = keys.client(&chat, 7).to_string();
        assert_eq!(text.len(), 32);
        let token = ClientToken::parse(text.as_bytes()).unwrap();
        assert!(keys.verify_client(&chat, token).is_some_and(|v| v.is_current && v.signed_now.number() == 7));
        assert!(keys.verify_client(&"feed".into(), token).is_none());
        assert!(keys.verify_client(&chat, ClientToken { number: 8, ..token }).is_none());
        let keys = Keys::several(&[[2; 32], [1; 32]]);
        let verified = keys.verify_client(&chat, token).unwrap();
        assert!(!verified.is_current && keys.verify_client(&chat, verified.signed_now).unwrap().is_current);
        assert!(Keys::several(&[[3; 32], [2; 32]]).verify_client(&chat, token).is_none());
        for text in [&b""[..], b"AAAA", &[b'A'; 31], &[b'A'; 33], &[b'A'; 36], &[b'.'; 32], &[b'A'; 4000]] {
            assert!(ClientToken::parse(text).is_none(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let keys = Keys::new([0x41; 32]);
        assert!(!format!("{keys:?} {:?}", token(&keys, "f", "b")).contains("65"));
    }
}
