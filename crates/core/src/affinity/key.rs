//! What identifies a client by hashing: a header, a query parameter, or its address.
//!
//! A key is the XXH3 hash (128 bits, seed 0) of the whole value, so the same in every gateway and after every restart, and of one size
//! whatever a client sends. It is not secret: who chooses a key chooses a backend, and no more than the bounds of the load.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode;
use twox_hash::xxhash3_128;

/// A client's key. Two clients that differ share one only by a chance of 2⁻¹²⁸, or on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name or an address could be guessed from it.
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Of a header's value; `None`: it is empty, so it names nobody.
    pub fn of_value(value: &[u8]) -> Option<Key> {
        (!value.is_empty()).then(|| Key(xxhash3_128::Hasher::oneshot(value)))
    }

    /// Of the first parameter called `name` in `query`, decoded as forms are (`+` and `%20` are a space), so that it does not depend on how
    /// a client escapes. `None`: it is not there, or empty.
    pub fn of_parameter(query: &str, name: &str) -> Option<Key> {
        let (_, value) = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| decoded(key).eq(name.bytes()))?;
        if !value.contains(['%', '+']) {
            return Key::of_value(value.as_bytes());
        }
        let mut hasher = xxhash3_128::Hasher::new();
        decoded(value).for_each(|byte| hasher.write(&[byte]));
        Some(Key(hasher.finish_128()))
    }

    /// Of an address: IPv4 whole, IPv6 by its /64, whose lower half a client changes as it likes (RFC 8981).
    pub fn of_address(address: IpAddr) -> Key {
        let hash = |bytes: &[u8]| Key(xxhash3_128::Hasher::oneshot(bytes));
        match address.to_canonical() {
            IpAddr::V4(v4) => hash(&v4.octets()),
            IpAddr::V6(v6) => hash(&v6.octets()[..8]),
        }
    }

    /// Of a client that was given a number.
    pub(super) fn of_number(number: u64) -> Key {
        Key(xxhash3_128::Hasher::oneshot(&number.to_be_bytes()))
    }

    /// The half that ranks backends.
    pub(super) fn half(self) -> u64 {
        self.0 as u64
    }
}

/// The bytes that an escaped form means: a bare `+` is a space, an escaped one is itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let parts = text.split('+').enumerate();
    parts.flat_map(|(n, part)| (n > 0).then_some(b' ').into_iter().chain(percent_decode(part.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_in_every_gateway() {
        // By the reference implementation; a change would move every client.
        assert_eq!(Key::of_value(b"ann").unwrap().0, 0x3dd4_41ab_d4d7_6ed6_482c_8948_4cbd_62c8);
        assert_eq!(Key::of_address("192.0.2.7".parse().unwrap()).0, 0x5394_6310_403a_5c68_d2c5_708b_b8a1_d2f6);
        assert_eq!(Key::of_value(b""), None);
    }

    #[test]
    fn a_parameter_means_what_it_decodes_to() {
        let key = |query| Key::of_parameter(query, "user id");
        let ann = Key::of_value("änn +1".as_bytes());
        assert!(ann.is_some());
        for query in ["user%20id=%C3%A4nn+%2B1", "a=b&user+id=%c3%a4nn%20%2b1&user+id=bob", "user%20id=änn+%2B1"] {
            assert_eq!(key(query), ann, "{query}");
        }
        for query in ["", "user", "user+id", "user+id=", "User+id=ann", "xuser+id=ann", "a=user+id"] {
            assert_eq!(key(query), None, "{query}");
        }
        assert_eq!(key("user+id=100%"), Key::of_value(b"100%"), "what is no escape stands for itself");
    }

    #[test]
    fn an_address_is_known_by_its_network() {
        let key = |text: &str| Key::of_address(text.parse().unwrap());
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1:2:3"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", key_of("ann")), "Key(..)");
    }

    fn key_of(text: &str) -> Key {
        Key::of_value(text.as_bytes()).unwrap()
    }
}
