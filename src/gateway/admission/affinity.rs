//! A fleet's affinity: the preference of a request, and the cookie for its client.

use std::net::IpAddr;

use holdline_core::affinity::{Cookies, Key, Preference, Rendezvous};
use holdline_core::ids::BackendId;
use holdline_core::policy::{Affinity, FleetPolicy};
use holdline_core::wire::token::Keys;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};

/// Affinity to the backends of a fleet at one time.
#[derive(Debug, Default)]
pub(crate) enum AffinityIndex {
    #[default]
    None,
    /// By cookies that name them.
    Cookies(Cookies),
    /// By the hash of what tells clients apart.
    Hash(KeyOf, Rendezvous),
}

/// Where a client's key is found.
#[derive(Debug)]
pub(crate) enum KeyOf {
    Header(HeaderName),
    Parameter(String),
    Address,
}

impl AffinityIndex {
    /// To `backends` with their capacities, in the order in which the fleet keeps them.
    pub(crate) fn new<'b>(
        policy: &FleetPolicy,
        keys: &Keys,
        backends: impl Iterator<Item = (&'b BackendId, Option<u32>)>,
    ) -> Self {
        let of = match &policy.affinity {
            Affinity::None => return AffinityIndex::None,
            Affinity::Cookie { name, keys: own } => {
                let keys = own.as_ref().unwrap_or(keys);
                return AffinityIndex::Cookies(Cookies::new(&policy.name, name, keys, backends.map(|(id, _)| id)));
            }
            // The configuration allows no other names.
            Affinity::Header { name } => HeaderName::try_from(name).map_or(KeyOf::Address, KeyOf::Header),
            Affinity::Query { name } => KeyOf::Parameter(name.clone()),
            Affinity::Address => KeyOf::Address,
        };
        AffinityIndex::Hash(of, Rendezvous::new(backends))
    }

    /// Whether new capacities, in the backends' order, would change anything.
    pub(crate) fn has_capacities(&self, capacities: impl Iterator<Item = Option<u32>>) -> bool {
        match self {
            AffinityIndex::None | AffinityIndex::Cookies(_) => true,
            AffinityIndex::Hash(_, rendezvous) => rendezvous.has_capacities(capacities),
        }
    }

    /// What a request of `client` asks for. Of several fields of the name, the first counts.
    pub(crate) fn preference(&self, parts: &Parts, client: IpAddr) -> Preference {
        match self {
            AffinityIndex::None => Preference::default(),
            AffinityIndex::Cookies(cookies) => {
                cookies.preference(parts.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes))
            }
            AffinityIndex::Hash(of, _) => Preference::of_key(match of {
                KeyOf::Header(name) => parts.headers.get(name).and_then(|value| Key::of_value(value.as_bytes())),
                KeyOf::Parameter(name) => parts.uri.query().and_then(|query| Key::of_parameter(query, name)),
                KeyOf::Address => Some(Key::of_address(client)),
            }),
        }
    }

    /// Gives a client that brought no identity one, made of `number`, if the client can be told; [`AffinityIndex::set_cookie`] tells it.
    pub(crate) fn identify(&self, preference: &mut Preference, number: u64) {
        if let AffinityIndex::Cookies(cookies) = self {
            cookies.identify(preference, number);
        }
    }

    /// The order of backends for each key.
    pub(crate) fn rendezvous(&self) -> Option<&Rendezvous> {
        match self {
            AffinityIndex::Hash(_, rendezvous) => Some(rendezvous),
            AffinityIndex::None | AffinityIndex::Cookies(_) => None,
        }
    }

    /// The cookie that leads back to `chosen`, if the client needs a new one.
    pub(crate) fn set_cookie(&self, chosen: &BackendId, had: &Preference, is_secure: bool) -> Option<String> {
        match self {
            AffinityIndex::Cookies(cookies) => cookies.set_cookie(chosen, had, is_secure),
            AffinityIndex::None | AffinityIndex::Hash(..) => None,
        }
    }
}
