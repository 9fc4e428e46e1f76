//! A delta: what one mutation changed, and the id of what it changed.

use serde::{Deserialize, Serialize};

/// What one mutation changed. Serialised once and handed to everybody as it is; see README.md for its form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// Its number in the room, from 1, without gaps.
    pub seq: u64,
    /// When, in seconds since 1970 (UTC).
    pub at: u64,
    /// What was done.
    pub action: Action,
    /// The comment that it was done to: the seq of the delta that created it.
    pub comment: u64,
    /// Who did it.
    pub user: String,
    /// The text, of [`Action::Create`] and [`Action::Edit`] alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What was done to a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was written.
    Create,
    /// Its text was changed.
    Edit,
    /// It was taken away, its likes with it.
    Delete,
    /// A user likes it, who did not before.
    Like,
    /// A user does not like it any more.
    Unlike,
}

/// A delta on its way through the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number in the queue, over all rooms, from 1, without gaps.
    pub pos: u64,
    /// The room.
    pub room: String,
    /// The delta.
    pub delta: Delta,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_like_is_small_and_has_the_form_that_the_page_knows() {
        let like =
            Delta { seq: 104_017, at: 1_764_000_000, action: Action::Like, comment: 99_801, user: "ann".into(), text: None };
        let text = serde_json::to_string(&like).unwrap();
        assert_eq!(text, r#"{"seq":104017,"at":1764000000,"action":"like","comment":99801,"user":"ann"}"#);
        assert!(text.len() < 80, "{}", text.len());
        assert_eq!(serde_json::from_str::<Delta>(&text).unwrap(), like);
    }

    #[test]
    fn what_was_written_is_in_the_delta() {
        let edit = Delta { seq: 2, at: 1, action: Action::Edit, comment: 1, user: "bob".into(), text: Some("hi".into()) };
        let text = serde_json::to_string(&Entry { pos: 9, room: "r".into(), delta: edit }).unwrap();
        assert_eq!(text, r#"{"pos":9,"room":"r","delta":{"seq":2,"at":1,"action":"edit","comment":1,"user":"bob","text":"hi"}}"#);
    }
}
