//! One simulated user: a WebSocket or an event stream through Holdline, from the outside like any other.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::header::{ACCEPT, HOST, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// How often a user says something.
const SAYS_EVERY: Duration = Duration::from_secs(2);

/// What a user connects with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    WebSocket,
    EventStream,
}

/// How a connection ended, as the user saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It left by itself.
    Left,
    /// It was told properly to connect again.
    Moved,
    /// It never had a session and was told when to come back.
    Refused { retry_after: Duration },
    /// It was thrown out without a word.
    Lost(String),
    /// It never had a session, and was not told why.
    NoAnswer(String),
}

/// Holds a session until `leave`, or until it is ended. `opened` is called once the session is there.
pub(super) async fn connect(kind: Kind, address: SocketAddr, room: u32, leave: Instant, opened: impl FnOnce()) -> End {
    let mut had_session = false;
    let has_session = || {
        had_session = true;
        opened();
    };
    let ended = match kind {
        Kind::WebSocket => websocket(address, room, leave, has_session).await,
        Kind::EventStream => event_stream(address, room, leave, has_session).await,
    };
    match ended {
        Ok(end) => end,
        Err(error) if had_session => End::Lost(error.to_string()),
        Err(error) => End::NoAnswer(error.to_string()),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn websocket(address: SocketAddr, room: u32, leave: Instant, opened: impl FnOnce()) -> Result<End, Failure> {
    let stream = TcpStream::connect(address).await?;
    let url = format!("ws://{address}/ws?room={room}");
    let mut socket = match tokio_tungstenite::client_async(url, stream).await {
        Ok((socket, _)) => socket,
        Err(WsError::Http(response)) => return refusal(response.status(), response.headers().get(RETRY_AFTER)),
        Err(error) => return Err(error.into()),
    };
    opened();
    let mut says = tokio::time::interval(SAYS_EVERY);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(leave) => {
                // The answer to the Close is awaited, as a browser does.
                socket.close(None).await?;
                while let Some(Ok(_)) = socket.next().await {}
                return Ok(End::Left);
            }
            _ = says.tick() => socket.send(Message::text("hello")).await?,
            heard = socket.next() => match heard {
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.as_ref().map(|f| f.code);
                    while let Some(Ok(_)) = socket.next().await {}
                    return Ok(match code {
                        Some(CloseCode::Restart | CloseCode::Away) => End::Moved,
                        Some(CloseCode::Again) => End::Refused { retry_after: Duration::from_secs(1) },
                        other => End::Lost(format!("closed with {other:?}")),
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(End::Lost("the connection ended without a Close".to_owned())),
            },
        }
    }
}

async fn event_stream(address: SocketAddr, room: u32, leave: Instant, opened: impl FnOnce()) -> Result<End, Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(format!("/events?room={room}"))
        .header(HOST, address.to_string())
        .header(ACCEPT, "text/event-stream")
        .body(Empty::<Bytes>::new())?;
    let response = send.send_request(request).await?;
    if !response.status().is_success() {
        return refusal(response.status(), response.headers().get(RETRY_AFTER));
    }
    opened();
    let mut body = response.into_body();
    let ended = loop {
        tokio::select! {
            () = tokio::time::sleep_until(leave) => break End::Left,
            frame = body.frame() => match frame {
                Some(Ok(_)) => {}
                Some(Err(error)) => break End::Lost(error.to_string()),
                // A proper end of the response: EventSource connects again by itself.
                None => break End::Moved,
            },
        }
    };
    drop(body);
    connection.abort();
    Ok(ended)
}

fn refusal(status: hyper::StatusCode, retry_after: Option<&hyper::header::HeaderValue>) -> Result<End, Failure> {
    if status != hyper::StatusCode::SERVICE_UNAVAILABLE {
        return Err(format!("Holdline answered {status}").into());
    }
    let seconds = retry_after.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(1);
    Ok(End::Refused { retry_after: Duration::from_secs(seconds) })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What an event-stream user sees of a server that answers with `answer` and ends the connection; and whether it had a session.
    async fn sees(answer: &'static str) -> (End, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let mut had_session = false;
        let end = connect(Kind::EventStream, address, 0, far_off(), || had_session = true).await;
        server.await.unwrap();
        (end, had_session)
    }

    fn far_off() -> Instant {
        let clock = crate::clock::Clock::start();
        clock.instant(clock.now()) + Duration::from_secs(3600)
    }

    #[tokio::test]
    async fn ends_are_told_apart() {
        let stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n";
        assert!(matches!(sees(stream).await, (End::Lost(_), true)), "no last chunk: thrown out");
        let ended = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(sees(ended).await, (End::Moved, true));
        let refused = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(sees(refused).await, (End::Refused { retry_after: Duration::from_secs(7) }, false));
        assert!(matches!(sees("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await, (End::NoAnswer(_), false)));
        assert!(matches!(sees("").await, (End::NoAnswer(_), false)));
    }

    #[tokio::test]
    async fn nobody_there_is_no_session_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        for kind in [Kind::WebSocket, Kind::EventStream] {
            assert!(matches!(connect(kind, address, 0, far_off(), || panic!("no session")).await, End::NoAnswer(_)));
        }
    }
}
