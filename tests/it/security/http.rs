//! Heads and framing of requests: rows 1 to 3, 5, 9, 12, 14.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::raw::{Recorder, guarded, last_words, read_to_end, statuses};
use crate::support::holdline::Holdline;

/// Each of `requests` is answered with one of `expected` and the end, reaches no backend, and harms nobody who comes next.
async fn all_refused(requests: &[&str], expected: &[u16]) {
    let (holdline, recorder) = guarded().await;
    for request in requests {
        let shown = request.escape_debug().to_string();
        // What is smuggled behind it must not be answered either.
        let answer = last_words(&holdline, format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        let statuses = statuses(&answer);
        assert!(matches!(&statuses[..], [one] if expected.contains(one)), "{shown}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{shown}: {answer}");
    }
    assert_eq!(recorder.seen(), "", "nothing of it may reach a backend");
    is_well(&holdline, &recorder).await;
}

/// The next client is served, and no seat is taken.
async fn is_well(holdline: &Holdline, recorder: &Recorder) {
    let request = b"GET /well HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(statuses(&last_words(holdline, request).await), [204]);
    assert!(recorder.seen().starts_with("GET /well "));
    holdline.until("no seat is taken", |fleet| fleet["sessions"] == 0).await;
}

#[tokio::test]
async fn row_01_content_length_with_transfer_encoding() {
    all_refused(
        &[
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ],
        &[400],
    )
    .await;
}

#[tokio::test]
async fn row_02_lengths_and_codings_that_two_readers_read_differently() {
    let bad = [
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 7",
        "Content-Length: 0, 0",
        "Content-Length: ",
        "Content-Length: +0",
        "Content-Length: -0",
        "Content-Length: 0x0",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: gzip, chunked",
    ];
    let requests: Vec<_> = bad.iter().map(|field| format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n0\r\n\r\n")).collect();
    let requests: Vec<_> = requests.iter().map(String::as_str).collect();
    all_refused(&requests, &[400, 501]).await;
    all_refused(&["POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], &[400]).await;
}

#[tokio::test]
async fn row_03_line_ends_and_bytes_that_no_head_may_hold() {
    all_refused(
        &[
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: z\r\n\r\n",
        ],
        &[400],
    )
    .await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    all_refused(&[&long], &[431]).await;
}

#[tokio::test]
async fn row_03_chunks_that_two_readers_read_differently() {
    let (holdline, recorder) = guarded().await;
    let extension = format!("1;{}\r\nx\r\n0\r\n\r\n", "y".repeat(5_000));
    let bodies = [
        "1\nx\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
        "1;\0\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx",
        "+1\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        extension.as_str(),
    ];
    for body in bodies {
        let request = format!("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let answer = last_words(&holdline, format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        // The head was fine, so a backend may have answered it before the body came to be judged.
        let statuses = statuses(&answer);
        assert!(statuses.len() <= 1 && statuses.iter().all(|s| [204, 400, 431].contains(s)), "{body:?}: {answer}");
    }
    assert!(!recorder.seen().contains("smuggled"), "{}", recorder.seen());
    let well = b"GET /well HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(statuses(&last_words(&holdline, well).await), [204]);
}

#[tokio::test]
async fn row_05_an_upgrade_with_a_body() {
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let requests =
        [format!("{upgrade}Content-Length: 4\r\n\r\nbody"), format!("{upgrade}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")];
    all_refused(&requests.each_ref().map(String::as_str), &[400]).await;
}

#[tokio::test]
async fn row_09_a_handshake_without_one_key_of_16_bytes() {
    let request = |key: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}\r\n"
        )
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let post = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}\r\n"
    );
    let requests = [
        request(""),
        request(&format!("{key}{key}")),
        request("Sec-WebSocket-Key: c2hvcnQ=\r\n"),
        request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ==\r\n"),
        post,
    ];
    all_refused(&requests.each_ref().map(String::as_str), &[400]).await;
}

#[tokio::test]
async fn row_12_targets_and_hosts() {
    all_refused(
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        ],
        &[400],
    )
    .await;
    all_refused(&["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"], &[405]).await;
}

#[tokio::test]
async fn row_14_an_expectation_that_nobody_knows() {
    all_refused(&["POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 0\r\n\r\n"], &[417]).await;
}

#[tokio::test]
async fn row_01_a_refusal_comes_behind_the_answers_to_earlier_requests() {
    let (holdline, recorder) = guarded().await;
    let mut client = TcpStream::connect(holdline.address).await.unwrap();
    let pipeline = "GET /one HTTP/1.1\r\nHost: a\r\n\r\nPOST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    // In two pieces, the border being inside of the bad head.
    let (first, second) = pipeline.split_at(60);
    client.write_all(first.as_bytes()).await.unwrap();
    client.write_all(second.as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut client).await), [204, 400]);
    assert!(recorder.seen().contains("/one") && !recorder.seen().contains("/two"));
}
