//! What the programs in `benches/` need beside the proxies: backends that echo, clients that hold, storm and echo, and the tables.
//!
//! Every command ends by itself, or when its standard input ends: the script that started it is gone then. Figures are printed as
//! lines `NAME VALUE`.

mod backend;
mod bulk;
mod certificate;
mod client;
mod cpu;
mod fanout;
mod figures;
mod handshakes;
mod hold;
mod options;
mod paced;
mod report;
mod round_trips;
mod stream;
mod times;

use std::process::ExitCode;

use options::Options;

const USAGE: &str = "\
usage: holdline-peers-load COMMAND key=value…
  backend      first=IP:PORT addresses=N                  N echo servers at consecutive addresses, until stdin ends
  hold         target=IP:PORT sessions=N [kind=sse]       opens N idle sessions, says `ready`, until stdin ends
  handshakes   target=IP:PORT seconds=S concurrency=N     opens and drops sessions, each client one after the other
  flood        target=IP:PORT seconds=S rate=R            opens and drops R sessions a second, whatever the answers take
  roundtrips   target=IP:PORT seconds=S connections=N     128-byte echoes, each client one after the other
  paced        target=IP:PORT seconds=S connections=N rate=R   the same, R a second, timed from when each was due
  bulk         target=IP:PORT seconds=S connections=N size=BYTES   large messages there and back
  fanout       targets=IP:PORT,… room=NAME sessions=N seconds=S rate=R text=BYTES   likes to N subscribers of one room; rate 0: as fast as all hear them
  certificate  dir=DIR                                    DIR/tls.crt and DIR/tls.key for the name `bench`, P-256
  report       results=FILE json=FILE machine=TEXT versions=TEXT notes=TEXT   lines `CONTENDER METRIC VALUE` → table and JSON
with any load: ca=FILE speaks TLS and trusts FILE; pids=1,2 adds the CPU time that these processes took, as cpu_us for each one done";

/// Whatever went wrong; told and left.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    match run(&command, &Options::parse(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("holdline-peers-load {command}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, options: &Options) -> Result<(), Failure> {
    match command {
        "report" => return report::write(options),
        "certificate" => return certificate::write(options.text("dir")?.as_ref()),
        _ => {}
    }
    // As many threads as each proxy has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            "backend" => backend::serve(options.address("first")?, options.number("addresses")?).await,
            "hold" => hold::run(options).await,
            "handshakes" => handshakes::one_after_the_other(options).await,
            "flood" => handshakes::flood(options).await,
            "roundtrips" => round_trips::run(options).await,
            "paced" => paced::run(options).await,
            "bulk" => bulk::run(options).await,
            "fanout" => fanout::run(options).await,
            _ => Err(USAGE.into()),
        }
    });
    // Sessions still open are reset by the exit; nobody waits for them.
    runtime.shutdown_background();
    outcome
}
