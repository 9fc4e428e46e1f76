//! Long-poll: each poll is a request, and who polls is a session that outlives it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::cursor::Heard;
use super::hub::{Hub, Listener, Member};
use super::lingering::{Lingering, Stay};
use super::problem;
use super::room::{KEPT_MAX, Line, Refusal};
use super::sessions::{Guard, Sessions};
use crate::problem::Problem;

/// A poll is answered within this time, with or without a delta.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// A client that polls keeps its seat for so many sweeps, of a second each, after its last poll: as long as Holdline keeps it.
const SEAT_SWEEPS: u32 = 10;

/// The most seats of clients that poll. Who comes then is counted for the time of its request.
const SEATS_MAX: usize = 65_536;

/// Clients that poll, by what Holdline calls them (`Holdline-Session`). A client without it comes from elsewhere; it is counted while it is answered.
pub(crate) struct Polls {
    seats: Arc<Lingering<u64, Guard>>,
    /// A client may poll several rooms, and is present in each.
    places: Arc<Places>,
}

/// A client's place in a room, by who it is and the room.
type Places = Lingering<(u64, String), Arc<Member>>;

/// A poll that counts: until it is answered and, with a seat, for a while longer.
pub(crate) struct Counted {
    _seat: Option<Stay<u64, Guard>>,
    _place: Option<Stay<(u64, String), Arc<Member>>>,
    _once: Option<Guard>,
}

impl Polls {
    pub(crate) fn new() -> Polls {
        Polls { seats: Lingering::new(SEATS_MAX, SEAT_SWEEPS), places: Lingering::new(SEATS_MAX, SEAT_SWEEPS) }
    }

    /// Listens for one poll.
    ///
    /// # Errors
    /// See [`Hub::enter`] and [`Hub::listen`].
    pub(crate) async fn listen(
        &self,
        hub: &Arc<Hub>,
        sessions: &Sessions,
        client: Option<u64>,
        room: &str,
        after: Option<u64>,
    ) -> Result<(Listener, Counted), Refusal> {
        let Some(client) = client else {
            let listener = hub.listen(Arc::new(hub.enter(room)?), after).await?;
            return Ok((listener, Counted { _seat: None, _place: None, _once: Some(sessions.enter()) }));
        };
        let key = (client, room.to_owned());
        let place = self.places.get(&key);
        let member = match &place {
            Some(place) => Arc::clone(&**place),
            None => Arc::new(hub.enter(room)?),
        };
        let listener = hub.listen(Arc::clone(&member), after).await.inspect_err(|_| {
            // A room that is not there any more may be made anew, and this is no place in that one.
            if let Some(place) = &place {
                self.places.forget(&key, place);
            }
        })?;
        let seat = self.seats.enter(&client, || sessions.enter());
        let once = seat.is_none().then(|| sessions.enter());
        let place = self.places.enter(&key, || member);
        let counted = Counted { _seat: seat, _place: place, _once: once };
        Ok((listener, counted))
    }

    /// To be called every second: takes back the seats of clients that do not poll any more.
    pub(crate) fn sweep(&self) {
        self.places.sweep();
        self.seats.sweep();
    }
}

/// Answers a poll: at once if the client has no delta yet, or if there are some that it lacks.
pub(crate) async fn answer(listener: &mut Listener, node: &str, has_deltas: bool) -> Response {
    let mut knows_the_room = false;
    let news = async {
        loop {
            match listener.next_of(KEPT_MAX).await {
                Heard::Hello { .. } if !has_deltas => return Ok(Vec::new()),
                Heard::Hello { .. } => knows_the_room = true,
                Heard::Presence(_) => {}
                Heard::Deltas(lines) => return Ok(lines),
                Heard::Resync { seq } => return Err(problem::resync(seq)),
                Heard::Refused(refusal) => return Err(Problem::from(refusal)),
            }
        }
    };
    let lines = match tokio::time::timeout(ANSWER_WITHIN, news).await {
        Ok(Ok(lines)) => lines,
        Ok(Err(problem)) => return problem.into_response(),
        Err(_) if knows_the_room => Vec::new(),
        Err(_) => return problem::api_down().into_response(),
    };
    let (seq, presence) = listener.room();
    let seq = lines.last().map_or(seq, Line::seq);
    let body = body(node, seq, presence, &lines);
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// The deltas are in it as they were serialised for all.
fn body(node: &str, seq: u64, presence: u64, lines: &[Line]) -> String {
    let deltas: Vec<_> = lines.iter().map(|line| line.json().as_str()).collect();
    format!(r#"{{"node":{},"seq":{seq},"presence":{presence},"deltas":[{}]}}"#, json!(node), deltas.join(","))
}
