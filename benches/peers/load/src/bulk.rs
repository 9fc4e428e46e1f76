//! Large messages there and back.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::now;
use crate::options::Options;
use crate::round_trips::open_all;

/// Prints payload that came back, in MB (10⁶ bytes) a second; as much went the other way.
pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let (target, span, size) = (options.target()?, options.span()?, options.number("size")? as usize);
    let streams = open_all(&target, options.number("connections")?).await?;
    let (cpu, start) = (options.cpu()?, now());
    let mut clients = JoinSet::new();
    for stream in streams {
        clients.spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let message = message(size);
            // A server's header has no mask.
            let mut echo = vec![0; message.len() - 4];
            let mut done = 0_u64;
            while now() - start < span {
                // Both at once, for neither side keeps a whole message.
                let (written, came) = tokio::join!(write.write_all(&message), read.read_exact(&mut echo));
                written?;
                came?;
                done += 1;
            }
            Ok::<_, Failure>(done)
        });
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client??;
    }
    let megabytes = (done * size as u64) as f64 / 1e6;
    println!("mb_per_s {:.1}", megabytes / (now() - start).as_secs_f64());
    cpu.print(done)
}

/// One masked binary frame with the eight-byte length. Its mask is zero, so that neither side has to compute anything.
fn message(size: usize) -> Vec<u8> {
    let mut frame = vec![0x82, 0xff];
    frame.extend((size as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.resize(frame.len() + size, 0x5a);
    frame
}
