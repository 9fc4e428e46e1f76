//! What clients send that is no HTTP, or that two readers could read in two ways: rows 1 to 3, 11, 12 and 14.

use tokio::io::AsyncWriteExt;

use super::scripted::Reply;
use super::{Edge, GET, one_answer, to_end};

/// A request behind which another one waits to be smuggled.
fn post(fields: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: h\r\n{fields}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn chunked(body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

async fn all_refused(fields: &[&str], reason: &str) {
    let edge = Edge::start(|_| Reply::ok()).await;
    for fields in fields {
        edge.refused(post(fields), 400).await;
    }
    edge.until_counted("holdline_bad_input_total", &format!("reason=\"{reason}\""), fields.len() as f64).await;
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_01_content_length_with_transfer_encoding() {
    let both = ["Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"];
    all_refused(&both, "framing").await;
}

#[tokio::test]
async fn row_02_lengths_that_are_not_one_decimal_number() {
    let lengths =
        ["", "+5", "-5", "0x5", "5, 5", "5 5", "5;", "18446744073709551616", "5\r\nContent-Length: 5", "5\r\ncontent-length: 6"];
    let fields: Vec<_> = lengths.iter().map(|l| format!("Content-Length: {l}\r\n")).collect();
    all_refused(&fields.iter().map(String::as_str).collect::<Vec<_>>(), "framing").await;
}

#[tokio::test]
async fn row_02_codings_that_are_not_chunked_once() {
    let codings = [
        "",
        "xchunked",
        "chunke",
        "\"chunked\"",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "\x0bchunked",
        "chunked;q=1",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
    ];
    let fields: Vec<_> = codings.iter().map(|c| format!("Transfer-Encoding: {c}\r\n")).collect();
    all_refused(&fields.iter().map(String::as_str).collect::<Vec<_>>(), "framing").await;
}

#[tokio::test]
async fn row_02_transfer_encoding_in_http_1_0() {
    let edge = Edge::start(|_| Reply::ok()).await;
    edge.refused("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400).await;
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_03_line_ends_and_control_bytes_in_a_head() {
    let heads: [&[u8]; 14] = [
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\rHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: \x7f\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    let edge = Edge::start(|_| Reply::ok()).await;
    for head in heads {
        edge.refused(head, 400).await;
    }
    edge.until_counted("holdline_bad_input_total", "reason=\"head\"", heads.len() as f64).await;
    let answer = edge.exchange(format!("\r\n{GET}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "one empty line is passed over: {answer}");
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_03_a_head_that_is_too_large() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let line = |len| format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(len));
    edge.refused(line(16 << 10), 431).await;
    edge.refused(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(16 << 10)), 431).await;
    edge.refused(format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(100)), 431).await;
    // The client goes on, and still reads why.
    edge.refused(line(1 << 20), 431).await;
    let largest = format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat((16 << 10) - 51));
    assert!((edge.exchange(&largest).await).starts_with("HTTP/1.1 200 "), "{} bytes", largest.len());
    edge.until_counted("holdline_bad_input_total", "reason=\"head_too_large\"", 4.0).await;
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_03_a_chunked_body_that_is_broken() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(4 << 10));
    let sum = format!("1;{}\r\na\r\n", "x".repeat(1 << 10)).repeat(5);
    let bodies = [
        "1\na\r\n0\r\n\r\n",
        "1;x\ny\r\na\r\n0\r\n\r\n",
        "1;\0\r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1 1\r\na\r\n0\r\n\r\n",
        "10000000000000001\r\na\r\n0\r\n\r\n",
        "1\r\nab0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n: y\r\n\r\n",
        &long,
        &sum,
    ];
    let edge = Edge::start(|_| Reply::ok()).await;
    for body in bodies {
        edge.refused(chunked(body), 400).await;
    }
    edge.until_counted("holdline_bad_input_total", "reason=\"chunk\"", bodies.len() as f64).await;
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_03_a_body_that_breaks_behind_its_head_is_not_completed() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let mut client = edge.connect().await;
    client.write_all(chunked("5\r\nhello\r\n").as_bytes()).await.unwrap();
    edge.backend.until_received("hello").await;
    client.write_all(b"0\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let answer = to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("application/problem+json"), "{answer}");
    edge.backend.until_over(1, 0).await;
    let received = edge.backend.received().concat();
    assert!(received.ends_with("\r\n\r\n5\r\nhello\r\n"), "{received}");
    edge.until_counted("holdline_bad_input_total", "reason=\"chunk\"", 1.0).await;
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_03_a_refusal_comes_behind_the_answers_before_it() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let good = "GET /one HTTP/1.1\r\nHost: h\r\n\r\nPOST /two HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    let all = [good, &post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")].concat();
    // In two pieces, whose border is inside of the bad head.
    let (first, second) = all.split_at(good.len() + 20);
    let mut client = edge.connect().await;
    client.write_all(first.as_bytes()).await.unwrap();
    edge.backend.until_received("/one").await;
    client.write_all(second.as_bytes()).await.unwrap();
    let answer = to_end(&mut client).await;
    let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answer}");
    let received = edge.backend.received().concat();
    assert!(received.contains("/one") && received.contains("/two") && !received.contains("/first"), "{received}");
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_03_bytes_that_come_one_by_one_are_judged_alike() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let refused = "GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n";
    for (bytes, status) in [
        (chunked("5;a\r\nhello\r\n0\r\nX: y\r\n\r\n").replace("Host", "Connection: close\r\nHost"), 200),
        (refused.to_owned(), 400),
    ] {
        let mut client = edge.connect().await;
        client.set_nodelay(true).unwrap();
        for byte in bytes.as_bytes() {
            // What is refused early may close while the rest is on its way.
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(to_end(&mut client).await.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}");
    }
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_11_nominated_fields_stay_behind_and_holdlines_own_do_not() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let fields = "Connection: close, upgrade, X-Forwarded-User, X-Secret, X-Forwarded-For, Holdline-Session, Host\r\nX-Forwarded-User: root\r\n\
        X-Secret: 1\r\nHoldline-Session: forged\r\nX_Forwarded_For: 6.6.6.6\r\n";
    let answer = edge.exchange(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let received = edge.backend.received().concat().to_ascii_lowercase();
    for gone in ["x-forwarded-user", "x-secret", "forged", "6.6.6.6", "upgrade"] {
        assert!(!received.contains(gone), "{gone}: {received}");
    }
    assert!(received.contains("host: h\r\n") && received.contains("x-forwarded-for: 127.0.0.1\r\n"), "{received}");
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_12_hosts_methods_and_names() {
    let edge = Edge::start(|_| Reply::ok()).await;
    edge.refused("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\x16\x03\x01rest", 405).await;
    for head in [
        "GET http://other/ HTTP/1.1\r\nHost: h\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: other\r\n",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: h, other\r\n",
        "GET / HTTP/1.1\r\nHost: user@h\r\n",
        "GET / HTTP/1.1\r\nHost: h other\r\n",
        "GET h HTTP/1.1\r\nHost: h\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nBad Name: x\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nBad(Name): x\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nName : x\r\n",
        "G(T / HTTP/1.1\r\nHost: h\r\n",
    ] {
        edge.refused(format!("{head}\r\n"), 400).await;
    }
    let same = edge.exchange("GET http://h/path HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert!(same.starts_with("HTTP/1.1 200 "), "{same}");
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_12_options_of_the_server_as_a_whole() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let mut client = edge.connect().await;
    client.write_all(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 204 "));
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(to_end(&mut client).await.starts_with("HTTP/1.1 200 "), "the connection goes on");
    assert_eq!(edge.backend.received().len(), 1, "only the second was a backend's matter");
}

#[tokio::test]
async fn row_14_expectations() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let expecting =
        |expect: &str| format!("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n{expect}\r\n");
    for expect in ["Expect: foo\r\n", "Expect: 100-continue, foo\r\n", "Expect: 100-continue\r\nExpect: foo\r\n", "Expect:\r\n"] {
        edge.refused(expecting(expect), 417).await;
    }
    for expect in ["Expect: 100-continue\r\n", "Expect: 100-Continue\r\n"] {
        let mut client = edge.connect().await;
        client.write_all(expecting(expect).as_bytes()).await.unwrap();
        assert_eq!(one_answer(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n", "{expect}");
        client.write_all(b"hello").await.unwrap();
        assert!(to_end(&mut client).await.starts_with("HTTP/1.1 200 "), "{expect}");
    }
    // HTTP/1.0 knows none, and without a body there is nothing to wait for.
    for bytes in [
        "POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n",
    ] {
        let answer = edge.exchange(bytes).await;
        assert!(answer.contains(" 200 OK\r\n") && !answer.contains(" 100 "), "{answer}");
    }
    assert!(!edge.backend.received().concat().to_ascii_lowercase().contains("expect"), "what is settled here does not cross");
    assert_eq!(edge.bad_input("expect").await, 4.0);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_22_a_head_that_does_not_come_in_time() {
    let edge = Edge::start_with("\nlimits: { head_timeout: 1s }", |_| Reply::ok()).await;
    edge.refused("GET / HTTP/1.1\r\nHos", 408).await;
    // Nobody waits for an answer on a connection that only idles.
    assert_eq!(edge.exchange("").await, "");
    edge.until_counted("holdline_bad_input_total", "reason=\"head_timeout\"", 2.0).await;
    edge.is_unharmed().await;
}
