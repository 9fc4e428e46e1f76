//! What leads a client back to the backend it had: a cookie that names the backend, or a key whose hash does.

mod cookies;
mod key;
mod rendezvous;

pub use self::cookies::Cookies;
pub use self::key::Key;
pub use self::rendezvous::Rendezvous;
use crate::ids::BackendId;
use crate::wire::token::ClientToken;

/// Where a client should go, if it can: affinity is no reason to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing speaks for any backend.
    #[default]
    Anywhere,
    /// This one.
    Backend(BackendId),
    /// The first in the order of this key.
    Key(Key),
}

/// What a request says of its client.
#[derive(Clone, Debug, Default)]
pub struct Preference {
    /// Where it should go.
    pub wish: Wish,
    /// Who it is, by its cookie.
    client: Option<ClientToken>,
    /// The cookie is as it would be set now, as long as the client goes where it wishes.
    is_current: bool,
}

impl Preference {
    /// Of a client with a key; without one it is placed as if there were no affinity.
    pub fn of_key(key: Option<Key>) -> Self {
        Preference { wish: key.map_or(Wish::Anywhere, Wish::Key), ..Preference::default() }
    }

    /// What tells the client from all others of its fleet.
    pub fn identity(&self) -> Option<Key> {
        match (&self.wish, self.client) {
            (Wish::Key(key), _) => Some(*key),
            (_, client) => client.map(|client| Key::of_number(client.number())),
        }
    }
}
