//! How long a delta takes through a queue, and how many go through it in a second:
//!
//! ```sh
//! cargo run -p holdline-live --features redis,postgres --example queue_figures -- redis://127.0.0.1:6379         # published directly
//! cargo run … -- embedded http://127.0.0.1:9101                       # by mutations at a `live api --room figures:strong` with that queue
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use holdline_live::delta::{Action, Delta, Entry};
use holdline_live::queue::{Entries, Publish, open_subscriber};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

type Failure = Box<dyn Error + Send + Sync>;

/// Deltas that go one by one.
const SINGLE: usize = 2_000;
/// Deltas that go as fast as they can.
const CROWD: usize = 20_000;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (url, api) = (args.next().ok_or("name a queue")?, args.next());
    let queue = open_subscriber(&url, api.as_deref().unwrap_or_default())?;
    let start = queue.newest().await?;
    let mut entries = queue.subscribe(start).await?;
    let source = match api {
        Some(api) => Source::Api(Client::builder(TokioExecutor::new()).build_http(), api),
        None => Source::Queue(publisher(&url)?),
    };

    let mut took = Vec::new();
    for pos in (start + 1..).take(SINGLE) {
        let begun = Instant::now();
        let (written, heard) = tokio::join!(source.write(pos, 1), hear(&mut entries, 1));
        written.and(heard)?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!("{SINGLE} one by one: median {:.2} ms, p99 {:.2} ms", ms(took[SINGLE / 2]), ms(took[SINGLE * 99 / 100]));

    let begun = Instant::now();
    let (written, heard) = tokio::join!(source.write(start + 1 + SINGLE as u64, CROWD), hear(&mut entries, CROWD));
    written.and(heard)?;
    println!("{CROWD} at once: {:.0} a second", CROWD as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

enum Source {
    Queue(Box<dyn Publish>),
    Api(Client<HttpConnector, Full<hyper::body::Bytes>>, String),
}

impl Source {
    async fn write(&self, first: u64, count: usize) -> Result<(), Failure> {
        match self {
            Source::Queue(queue) => Ok(queue.publish(&(first..).take(count).map(entry).collect::<Vec<_>>()).await?),
            // As many as a crowd has requests under way.
            Source::Api(..) => stream::iter((first..).take(count)).map(|_| self.post()).buffer_unordered(64).try_collect().await,
        }
    }

    async fn post(&self) -> Result<(), Failure> {
        let Source::Api(client, api) = self else { return Err("no api".into()) };
        let request =
            hyper::Request::post(format!("{api}/api/rooms/figures/comments")).header("Content-Type", "application/json");
        let answer = client.request(request.body(Full::from(r#"{"user":"ann","text":"hello"}"#))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status.is_success() { Ok(()) } else { Err(String::from_utf8_lossy(&body).into()) }
    }
}

fn publisher(url: &str) -> Result<Box<dyn Publish>, Failure> {
    match url {
        #[cfg(feature = "redis")]
        url if url.starts_with("redis") => Ok(Box::new(holdline_live::queue::redis::Redis::connect(url)?)),
        #[cfg(feature = "postgres")]
        url if url.starts_with("postgres") => Ok(Box::new(holdline_live::queue::postgres::Postgres::connect(url)?)),
        _ => Err("only an api writes to this queue: name it, too".into()),
    }
}

fn entry(pos: u64) -> Entry {
    let delta = Delta {
        seq: pos,
        at: 1_764_000_000,
        action: Action::Create,
        comment: pos,
        user: "ann".into(),
        text: Some("hello".into()),
    };
    Entry { pos, room: "figures".into(), delta }
}

async fn hear(entries: &mut Entries, count: usize) -> Result<(), Failure> {
    for _ in 0..count {
        entries.next().await.ok_or("the queue ended")??;
    }
    Ok(())
}
