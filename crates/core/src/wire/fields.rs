//! Header fields of one head, borrowed from whoever parsed it.

/// Fields that belong to one connection and never cross a proxy (RFC 9110 7.6.1 and what deployed software adds to its list).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that no trailer section may have: they say how a message is framed, routed, conditioned, authenticated, cached or decoded, which
/// must be known before its body (RFC 9110 6.5.1).
const NOT_TRAILING: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "warning",
    "www-authenticate",
];

/// Fields that a `Connection` header may not nominate away: the message would mean something else without them, or come from somebody else.
const NOT_NOMINABLE: &[&str] =
    &["content-length", "content-type", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// Names and values in their order; names compare without case.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> FromIterator<(&'a str, &'a [u8])> for Fields<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(fields: I) -> Self {
        Fields(fields.into_iter().collect())
    }
}

impl<'a> Fields<'a> {
    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// Values of every field called `name`, in order, without surrounding white space.
    pub fn all<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'a [u8]> + 's {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_ascii())
    }

    /// Whether there is one called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The value of the field called `name`, if there is exactly one.
    pub fn single(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The members of the comma-separated lists under `name` (RFC 9110 5.6.1), empty ones left out. Only for fields whose members
    /// hold no quoted comma.
    pub fn list<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'a [u8]> + 's {
        self.all(name).flat_map(|value| value.split(|b| *b == b',')).map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
    }

    /// Whether a list under `name` has the member `token`, in any case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the field called `name` must not cross a proxy: it is hop-by-hop, or nominated by `Connection` (RFC 9110 7.6.1).
    pub fn stays_behind(&self, name: &str) -> bool {
        let is = |other: &&str| name.eq_ignore_ascii_case(other);
        if HOP_BY_HOP.iter().any(is) {
            return true;
        }
        let nominable = !NOT_NOMINABLE.iter().any(is) && !begins(name, "sec-websocket-");
        nominable && self.lists("connection", name)
    }
}

/// Whether a field called `name` may cross the gateway in a trailer section.
pub fn may_trail(name: &str) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    !HOP_BY_HOP.iter().any(is) && !NOT_TRAILING.iter().any(is) && !is_reserved(name)
}

/// Whether only Holdline itself may say this: the client's own are dropped before ours are set. An underscore counts as a hyphen,
/// because CGI-like backends cannot tell them apart.
pub fn is_reserved(name: &str) -> bool {
    begins(name, "holdline-") || begins(name, "x-forwarded-") || name.eq_ignore_ascii_case("forwarded")
}

/// Whether `name` begins with `prefix` (lower case, hyphens), in any case and with `_` for `-`.
fn begins(name: &str, prefix: &str) -> bool {
    let fold = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() >= prefix.len() && name.bytes().map(fold).zip(prefix.bytes()).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_cross_fields_and_keep_their_order() {
        let fields: Fields = [("Connection", &b"a, ,B"[..]), ("x", b"1"), ("connection", b"\tc ")].into_iter().collect();
        assert_eq!(fields.list("connection").collect::<Vec<_>>(), [b"a", b"B", b"c"]);
        assert!(fields.lists("connection", "b") && !fields.lists("connection", "d"));
        assert_eq!((fields.single("connection"), fields.single("X")), (None, Some(&b"1"[..])));
    }

    #[test]
    fn nominated_fields_stay_behind_but_not_those_that_carry_the_message() {
        let fields: Fields =
            [("connection", &b"X-User, host, Sec-WebSocket-Key, content-length, X-Forwarded-For"[..])].into_iter().collect();
        assert!(fields.stays_behind("x-user") && fields.stays_behind("Connection") && fields.stays_behind("HTTP2-Settings"));
        assert!(
            !fields.stays_behind("host") && !fields.stays_behind("sec-websocket-key") && !fields.stays_behind("Content-Length")
        );
        assert!(!fields.stays_behind("cookie") && !fields.stays_behind("x-forwarded-for"));
    }

    #[test]
    fn what_must_be_known_before_the_body_does_not_trail() {
        for name in ["Transfer-Encoding", "host", "Authorization", "Set-Cookie", "TE", "X-Forwarded-For", "holdline_cause"] {
            assert!(!may_trail(name), "{name}");
        }
        assert!(["grpc-status", "Server-Timing", "digest", "x-sum"].into_iter().all(may_trail));
    }

    #[test]
    fn reserved_in_any_spelling() {
        for name in ["Holdline-Session", "HOLDLINE_SESSION", "x-forwarded-user", "X_Forwarded_For", "Forwarded"] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("x-forward") && !is_reserved("holdline") && !is_reserved("x-real-ip"));
    }
}
