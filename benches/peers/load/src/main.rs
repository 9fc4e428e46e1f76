//! What `benches/peers/run` needs beside the proxies: backends that echo, clients that hold, storm and echo, and the table.
//!
//! Every command ends by itself, or when its standard input ends: the script that started it is gone then.

mod backend;
mod client;
mod load;
mod report;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: holdline-peers-load COMMAND key=value…
  backend     first=IP:PORT addresses=N                        N echo servers at consecutive addresses, until stdin ends
  hold        target=IP:PORT sessions=N                        opens N idle sessions, says `ready`, until stdin ends
  handshakes  target=IP:PORT seconds=S concurrency=N           opens and drops sessions; prints handshakes a second
  roundtrips  target=IP:PORT seconds=S connections=N           128-byte echoes; prints round trips a second and p99 in µs
  report      results=FILE json=FILE machine=TEXT versions=TEXT  lines `CONTENDER METRIC VALUE` → table and JSON";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let options = Options(args.filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))).collect());
    match run(&command, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("holdline-peers-load {command}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, options: &Options) -> Result<(), Failure> {
    if command == "report" {
        return report::write(options);
    }
    // As many threads as each proxy has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            "backend" => backend::serve(options.address("first")?, options.number("addresses")?).await,
            "hold" => load::hold(options.address("target")?, options.number("sessions")?).await,
            "handshakes" => {
                load::handshakes(options.address("target")?, options.duration()?, options.number("concurrency")?).await
            }
            "roundtrips" => {
                load::round_trips(options.address("target")?, options.duration()?, options.number("connections")?).await
            }
            _ => Err(USAGE.into()),
        }
    });
    // Sessions still open are reset by the exit; nobody waits for them.
    runtime.shutdown_background();
    outcome
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// `key=value` arguments.
struct Options(HashMap<String, String>);

impl Options {
    fn text(&self, key: &str) -> Result<&str, Failure> {
        self.0.get(key).map(String::as_str).ok_or_else(|| format!("`{key}=…` is missing\n{USAGE}").into())
    }

    fn number(&self, key: &str) -> Result<u32, Failure> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("`{key}={text}` is not a number").into())
    }

    fn address(&self, key: &str) -> Result<SocketAddr, Failure> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("`{key}={text}` is not an address like 127.0.0.1:8080").into())
    }

    fn duration(&self) -> Result<Duration, Failure> {
        Ok(Duration::from_secs(self.number("seconds")?.into()))
    }
}
