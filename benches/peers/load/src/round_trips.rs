//! Messages there and back, each client one after the other.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::{ECHO, FRAME, now, open};
use crate::options::Options;
use crate::stream::Target;
use crate::times::Times;

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let (target, span) = (options.target()?, options.span()?);
    let streams = open_all(&target, options.number("connections")?).await?;
    let (cpu, start) = (options.cpu()?, now());
    let mut clients = JoinSet::new();
    for mut stream in streams {
        clients.spawn(async move {
            let (mut times, mut echo) = (Times::default(), [0; ECHO]);
            let mut before = now();
            while before - start < span {
                stream.write_all(&FRAME).await?;
                stream.read_exact(&mut echo).await?;
                let after = now();
                times.add((after - before).as_micros());
                before = after;
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Times::default();
    while let Some(client) = clients.join_next().await {
        times.append(client??);
    }
    println!("rate {:.0}", times.len() as f64 / (now() - start).as_secs_f64());
    cpu.print(times.len())?;
    times.print();
    Ok(())
}

/// So many sessions, opened one after the other.
pub(crate) async fn open_all(target: &Target, connections: u32) -> Result<Vec<crate::stream::Stream>, Failure> {
    let mut streams = Vec::new();
    for number in 0..connections {
        streams.push(open(target, number).await?);
    }
    Ok(streams)
}
