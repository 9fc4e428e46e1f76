//! What backends answer to plain requests: rows 1 to 3, 7, 13, 15 and 16.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scripted::Reply;
use super::{Driven, Edge, GET, head, one_answer, to_end};
use crate::support::soon;

/// Answers paths that end in a number with that one of `answers`, others with 200.
fn numbered(answers: &'static [&'static str]) -> impl Fn(&str) -> Reply + Send + Sync {
    move |request| {
        let number = request.split(' ').nth(1).and_then(|path| path.trim_start_matches('/').parse::<usize>().ok());
        number.map_or_else(Reply::ok, |n| Reply::bytes(answers[n]))
    }
}

/// Each of `answers` is a 502 for the client, and its connection is closed and never used again.
async fn all_invalid(answers: &'static [&'static str]) {
    let edge = Edge::start(numbered(answers)).await;
    for (i, answer) in answers.iter().enumerate() {
        let mut client = edge.connect().await;
        client.write_all(format!("POST /{i} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi").as_bytes()).await.unwrap();
        let seen = one_answer(&mut client).await;
        assert!(seen.starts_with("HTTP/1.1 502 ") && seen.contains("holdline-cause: backend_invalid"), "{answer:?}: {seen}");
        edge.backend.until_over(i + 1, 0).await;
    }
    assert_eq!(edge.bad_input("backend_answer").await, answers.len() as f64);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_01_an_answer_with_content_length_and_transfer_encoding() {
    all_invalid(&[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn row_02_an_answer_whose_end_is_ambiguous() {
    all_invalid(&[
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn row_03_an_answer_with_bare_line_ends_or_control_bytes() {
    all_invalid(&[
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok",
    ])
    .await;
}

#[tokio::test]
async fn row_03_an_answer_that_breaks_in_its_body_stays_torn() {
    let (driven, holdline) = Driven::start("").await;
    let mut client = TcpStream::connect(holdline.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let (mut backend, _) = driven.request().await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await.unwrap();
    head(&mut client).await;
    backend.write_all(b"0\n\n").await.unwrap();
    let seen = to_end(&mut client).await;
    assert!(seen.starts_with("2\r\nok\r\n") && !seen.contains("0\r\n"), "no last chunk: {seen:?}");
    to_end(&mut backend).await;
}

#[tokio::test]
async fn row_07_a_101_that_no_request_asked_for() {
    all_invalid(&["HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"]).await;
}

#[tokio::test]
async fn row_13_an_answer_before_the_body_ends_the_connection() {
    let (driven, holdline) = Driven::start("").await;
    let mut client = TcpStream::connect(holdline.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf").await.unwrap();
    let (mut backend, request) = driven.request().await;
    assert!(request.starts_with("POST / "), "{request}");
    backend.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n").await.unwrap();
    let answer = one_answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no\n"), "{answer}");
    assert_eq!(to_end(&mut backend).await, "half");
    // The client goes on sending, and its connection ends without a reset.
    client.write_all(&[b'x'; 900]).await.unwrap();
    assert_eq!(to_end(&mut client).await, "");
}

#[tokio::test]
async fn row_15_bytes_on_a_kept_connection_are_no_answer_to_the_next_request() {
    let (driven, holdline) = Driven::start("").await;
    let mut client = TcpStream::connect(holdline.address).await.unwrap();
    client.write_all(b"GET /one HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let (mut backend, _) = driven.request().await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await.unwrap();
    assert!(one_answer(&mut client).await.ends_with("one"));
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await.unwrap();
    // A reset is an end as good: it was not read.
    let _ = soon("an end", backend.read_to_end(&mut Vec::new())).await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let (mut backend, _) = driven.request().await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo").await.unwrap();
    let answer = to_end(&mut client).await;
    assert!(answer.ends_with("\r\n\r\ntwo"), "{answer}");
    assert_eq!(holdline.metric("holdline_bad_input_total", "reason=\"backend_answer\"").await, 1.0);
}

#[tokio::test]
async fn row_16_a_second_answer_is_for_nobody() {
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
    let edge = Edge::start(move |request| match request.contains("/twice") {
        true => Reply::bytes([twice, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"].concat()),
        false => Reply::ok(),
    })
    .await;
    let mut client = edge.connect().await;
    client.write_all(b"GET /twice HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(one_answer(&mut client).await.ends_with("one"));
    edge.backend.until_over(1, 0).await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let second = to_end(&mut client).await;
    assert!(second.ends_with("\r\n\r\nok"), "{second}");
    assert_eq!(edge.bad_input("backend_answer").await, 1.0);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_16_bodies_where_none_may_be() {
    let edge = Edge::start(|request| match request.split(' ').nth(1) {
        Some("/head") => Reply::bytes("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"),
        Some("/204") => Reply::bytes("HTTP/1.1 204 No Content\r\n\r\nforged"),
        Some("/304") => Reply::bytes("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nforged"),
        _ => Reply::ok().close(),
    })
    .await;
    for (i, (method, path, status)) in
        [("HEAD", "/head", 200), ("GET", "/204", 204), ("GET", "/304", 304)].into_iter().enumerate()
    {
        let mut client = edge.connect().await;
        client.write_all(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with(&format!("HTTP/1.1 {status} ")));
        edge.backend.until_over(2 * i + 1, 0).await;
        client.write_all(GET.as_bytes()).await.unwrap();
        let next = to_end(&mut client).await;
        assert!(next.starts_with("HTTP/1.1 200 ") && next.ends_with("\r\n\r\nok"), "{path}: {next}");
        edge.backend.until_over(2 * i + 2, 0).await;
    }
    assert_eq!(edge.bad_input("backend_answer").await, 3.0);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_16_interim_responses_without_end() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let answer = move |count| [interim.repeat(count).as_str(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"].concat();
    let edge = Edge::start(move |request| match request.split(' ').nth(1) {
        Some("/few") => Reply::bytes(answer(8)).close(),
        Some("/many") => Reply::bytes(answer(10_000)),
        _ => Reply::ok(),
    })
    .await;
    let few = edge.exchange("GET /few HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let behind = few.strip_prefix(interim.repeat(8).as_str()).unwrap_or_else(|| panic!("{few}"));
    assert!(behind.starts_with("HTTP/1.1 200 ") && behind.ends_with("ok"), "{few}");
    let many = edge.exchange("GET /many HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    // As many as may be go to the client before it is known that there are more.
    let behind = many.trim_start_matches(interim);
    assert!(many.len() - behind.len() <= 8 * interim.len(), "{many}");
    assert!(behind.starts_with("HTTP/1.1 502 ") && behind.contains("holdline-cause: backend_invalid"), "{many}");
    edge.backend.until_over(2, 0).await;
    assert_eq!(edge.bad_input("backend_answer").await, 1.0);
    edge.is_unharmed().await;
}
