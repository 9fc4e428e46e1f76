//! What a client is told that cannot have a session, or said what nobody can hear here.

use axum::http::StatusCode;

use super::room::Refusal;
use crate::problem::Problem;

/// The node cannot give what the client lacks up to `seq`.
pub(crate) fn resync(seq: u64) -> Problem {
    let detail =
        format!("this node does not have all deltas that you lack; get those up to {seq} from the api and go on after it");
    Problem::new(StatusCode::GONE, "resync", "Deltas are missing here", detail).with("seq", seq)
}

/// The api has not answered yet.
pub(crate) fn api_down() -> Problem {
    let detail = "nothing is known of this room, for the api gives no answer; try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "api-down", "The api gives no answer", detail)
}

/// A message that a node has no ear for.
pub(crate) fn not_over_websocket() -> Problem {
    let detail = "a node takes {\"ping\":N} and nothing else; comments and likes go to the api: POST /api/rooms/ROOM/comments, \
                  PUT /api/rooms/ROOM/comments/ID/likes/USER";
    Problem::new(StatusCode::BAD_REQUEST, "not-over-websocket", "Mutations go over HTTP", detail)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::BadName => Problem::invalid("the name of a room is 1 to 32 of a-z A-Z 0-9 _ -"),
            Refusal::UnknownRoom => {
                let detail = "there is no such room: GET /api/rooms lists them, PUT /api/rooms/ROOM makes one";
                Problem::new(StatusCode::NOT_FOUND, "unknown-room", "There is no such room", detail)
            }
            Refusal::FromTheFuture { seq } => {
                let detail = format!("the newest delta of this room is {seq}");
                Problem::new(StatusCode::BAD_REQUEST, "from-the-future", "There is no such delta yet", detail).with("seq", seq)
            }
            Refusal::TooManyRooms => {
                let detail = "this node has as many rooms as it takes; try again later";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-rooms", "There is no place for another room", detail)
            }
        }
    }
}
