//! What leads a client back to the backend it had: a cookie that names the backend, or a key whose hash does.

mod cookies;
mod key;
mod ring;

pub use self::cookies::Cookies;
pub use self::key::Key;
pub use self::ring::Ring;
use crate::ids::BackendId;

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
    /// The cookie is as it would be set now, as long as the client goes where it wishes.
    is_current: bool,
}

impl Preference {
    /// Of a client with a key; without one it is placed as if there were no affinity.
    pub fn of_key(key: Option<Key>) -> Self {
        Preference { wish: key.map_or(Wish::Anywhere, Wish::Key), ..Preference::default() }
    }
}
