//! Deltas over long-poll: a request that is answered when there is something, again and again.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::header::COOKIE;
use hyper::{HeaderMap, Request, StatusCode};
use serde::Deserialize;

use super::{Cookies, End, Hello, Message, path};
use crate::client::api::Api;
use crate::delta::Delta;

/// Longer than a node waits before it answers with nothing.
const GIVES_UP_AFTER: Duration = Duration::from_secs(40);

pub(in super::super) struct LongPoll {
    api: Api,
    room: String,
    pub(super) cookies: Cookies,
    /// The last delta that was heard.
    after: u64,
    node: String,
    presence: u64,
    /// What an answer held and nobody has taken yet.
    heard: VecDeque<Message>,
    /// The poll that is on its way.
    poll: Option<BoxFuture<'static, Result<Answer, End>>>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct Polled {
    node: String,
    seq: u64,
    #[serde(default)]
    presence: u64,
    deltas: Vec<Delta>,
}

#[derive(Deserialize)]
struct Resync {
    seq: u64,
}

impl LongPoll {
    /// The first poll asks for nothing, and is answered at once: with it there is a session.
    pub(super) async fn open(api: Api, room: String, after: u64, cookies: Cookies) -> Result<Self, End> {
        let mut polls =
            LongPoll { api, room, cookies, after, node: String::new(), presence: 0, heard: VecDeque::new(), poll: None };
        let answer = polls.ask(None).await?;
        let polled: Polled = serde_json::from_slice(&polls.accepted(answer)?).map_err(End::broken)?;
        (polls.node, polls.presence) = (polled.node.clone(), polled.presence);
        polls.heard.push_back(Message::Hello(Hello { node: polled.node, seq: polled.seq, presence: polled.presence }));
        Ok(polls)
    }

    pub(super) async fn next(&mut self) -> Result<Message, End> {
        loop {
            if let Some(message) = self.heard.pop_front() {
                return Ok(message);
            }
            // Stays where it is if nobody waits for it any more.
            let next = self.poll.take().unwrap_or_else(|| self.ask(Some(self.after)));
            let answer = self.poll.insert(next).await;
            self.poll = None;
            self.take(answer?)?;
        }
    }

    fn take(&mut self, answer: Answer) -> Result<(), End> {
        if answer.status == StatusCode::GONE {
            let Resync { seq } = serde_json::from_slice(&answer.body).map_err(End::broken)?;
            self.after = seq;
            self.heard.push_back(Message::Resync(seq));
            return Ok(());
        }
        let polled: Polled = serde_json::from_slice(&self.accepted(answer)?).map_err(End::broken)?;
        if polled.node != self.node {
            // Moved between two polls, without a word: another session.
            self.node.clone_from(&polled.node);
            self.heard.push_back(Message::Hello(Hello { node: polled.node, seq: polled.seq, presence: polled.presence }));
        } else if polled.presence != self.presence {
            self.heard.push_back(Message::Presence(polled.presence));
        }
        self.presence = polled.presence;
        self.after = polled.deltas.last().map_or(self.after, |delta| delta.seq);
        self.heard.extend(polled.deltas.into_iter().map(Message::Delta));
        if self.heard.is_empty() {
            self.heard.push_back(Message::Alive);
        }
        Ok(())
    }

    fn accepted(&mut self, answer: Answer) -> Result<Vec<u8>, End> {
        if !answer.status.is_success() {
            return Err(End::answered(answer.status, &answer.headers, &answer.body));
        }
        self.cookies.take(&answer.headers);
        Ok(answer.body)
    }

    fn ask(&self, after: Option<u64>) -> BoxFuture<'static, Result<Answer, End>> {
        let uri = format!("http://{}{}", self.api.authority(), path("poll", &self.room, after));
        let mut request = Request::get(uri);
        if let Some(header) = self.cookies.header() {
            request = request.header(COOKIE, header);
        }
        let api = self.api.clone();
        Box::pin(async move {
            let exchange = api.send(request.body(Default::default()).map_err(End::broken)?);
            match tokio::time::timeout(GIVES_UP_AFTER, exchange).await {
                Ok(Ok((head, body))) => Ok(Answer { status: head.status, headers: head.headers, body: body.to_vec() }),
                Ok(Err(error)) => Err(End::broken(error)),
                Err(_) => Err(End::broken("silence")),
            }
        })
    }
}
