//! What the API answers about rooms: shared by the api that writes it and by nodes and clients that read it.

use serde::{Deserialize, Serialize};

use crate::delta::Delta;

/// How clients of a room recover what they missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "recovery", rename_all = "lowercase", deny_unknown_fields)]
pub enum Recovery {
    /// Every delta is applied once and in order.
    Strong {},
    /// A delta about something unknown fetches it, and the room is fetched again from time to time.
    Eventual {
        /// How often, in seconds: 1 to [`REFETCH_S_MAX`].
        refetch_s: u32,
    },
}

/// The longest [`Recovery::Eventual::refetch_s`]: a day.
pub const REFETCH_S_MAX: u32 = 86_400;

/// A room in the list of rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its name.
    pub room: String,
    /// How its clients recover.
    #[serde(flatten)]
    pub recovery: Recovery,
    /// Its newest delta; 0 with none.
    pub seq: u64,
}

/// The state of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub room: String,
    /// How its clients recover.
    #[serde(flatten)]
    pub recovery: Recovery,
    /// The newest delta that this state includes.
    pub seq: u64,
    /// The first delta that is kept; `seq` + 1 with none.
    pub oldest: u64,
    /// Clients that are connected now, over all nodes.
    pub presence: u64,
    /// A page of comments, the newest last.
    pub comments: Vec<Comment>,
    /// There are older ones.
    pub more: bool,
}

/// A comment as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its id: the seq of the delta that created it.
    pub comment: u64,
    /// Who wrote it.
    pub user: String,
    /// What it says.
    pub text: String,
    /// When it was written, in seconds since 1970 (UTC).
    pub at: u64,
    /// Its text was changed since.
    pub edited: bool,
    /// How many users like it.
    pub likes: u64,
    /// Whether the user likes it who was named in the question; `None` if nobody was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liked: Option<bool>,
}

/// A page of a room's deltas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deltas {
    /// The room.
    pub room: String,
    /// Its newest delta.
    pub seq: u64,
    /// The first delta that is kept; `seq` + 1 with none.
    pub oldest: u64,
    /// Those asked for, in order.
    pub deltas: Vec<Delta>,
    /// There are newer ones.
    pub more: bool,
}

/// 1 to 32 of `a-z A-Z 0-9 _ -`: what rooms, users and nodes may be called.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_the_form_that_the_readme_gives() {
        let strong = Room { room: "r".into(), recovery: Recovery::Strong {}, seq: 7 };
        let eventual = Room { room: "r".into(), recovery: Recovery::Eventual { refetch_s: 30 }, seq: 7 };
        for (room, text) in [
            (strong, r#"{"room":"r","recovery":"strong","seq":7}"#),
            (eventual, r#"{"room":"r","recovery":"eventual","refetch_s":30,"seq":7}"#),
        ] {
            assert_eq!(serde_json::to_string(&room).unwrap(), text);
            assert_eq!(serde_json::from_str::<Room>(text).unwrap(), room);
        }
    }

    #[test]
    fn settings_with_a_word_too_much_are_refused() {
        for bad in [r#"{"recovery":"strong","refetch_s":3}"#, r#"{"recovery":"eventual"}"#, r#"{"recovery":"weak"}"#, "{}"] {
            assert!(serde_json::from_str::<Recovery>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(is_name("a") && is_name("Az0_-") && is_name(&"x".repeat(32)));
        assert!(!is_name("") && !is_name(&"x".repeat(33)) && !is_name("a b") && !is_name("é") && !is_name("a/b"));
    }
}
