//! Plain clients of the tests.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Longer than anything should take; a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A WebSocket handshake at `address`.
pub(crate) async fn websocket(address: SocketAddr, path: &str) -> Result<Socket, Error> {
    websocket_with(address, path, &[]).await
}

/// The same with more headers.
pub(crate) async fn websocket_with(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
    let stream = TcpStream::connect(address).await?;
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    websocket_over(stream, request).await
}

async fn websocket_over(stream: TcpStream, request: Request) -> Result<Socket, Error> {
    let handshake = tokio_tungstenite::client_async(request, stream);
    let (socket, _) = tokio::time::timeout(PATIENCE, handshake).await.expect("a handshake is answered")?;
    Ok(socket)
}

/// A connection from another of loopback's addresses.
pub(crate) async fn connect_from(source: &str, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(address).await
}

/// A WebSocket handshake from another of loopback's addresses.
pub(crate) async fn websocket_from(source: &str, address: SocketAddr) -> Result<Socket, Error> {
    websocket_over(connect_from(source, address).await?, format!("ws://{address}/").into_client_request()?).await
}

/// Status and `Holdline-Cause` of a refused handshake.
pub(crate) fn refusal(error: &Error) -> (u16, String) {
    let Error::Http(response) = error else { panic!("not an HTTP refusal: {error:?}") };
    let cause = response.headers().get("holdline-cause").map(|v| v.to_str().unwrap().to_owned());
    (response.status().as_u16(), cause.unwrap_or_default())
}

/// Says `text` and hears it again.
pub(crate) async fn echo(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an echo").expect("an open session").unwrap();
    assert_eq!(heard, Message::text(text));
}

/// Has a node of the reference application answer.
#[cfg(feature = "demo")]
pub(crate) async fn ping(socket: &mut Socket) {
    socket.send(Message::text(r#"{"ping":7}"#)).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a pong").expect("an open session").unwrap();
    assert_eq!(heard, Message::text(r#"{"pong":7}"#));
}

/// Leaves with a proper Close and awaits the end.
pub(crate) async fn leave(mut socket: Socket) {
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

/// The code of the Close that ends the session; data before it is passed over. `None`: it ended without one.
pub(crate) async fn close_code(socket: &mut Socket) -> Option<u16> {
    let mut code = None;
    let end = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                code = frame.map(|f| f.code.into());
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("the session ends");
    code
}

/// One HTTP exchange; the body is read as JSON if it is, else `Null`.
pub(crate) async fn http(method: &str, address: SocketAddr, path: &str, body: Option<Value>) -> (u16, Value) {
    let (status, text) = http_text(method, address, path, body).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// One HTTP exchange.
pub(crate) async fn http_text(method: &str, address: SocketAddr, path: &str, body: Option<Value>) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut request = hyper::Request::builder().method(method).uri(format!("http://{address}{path}"));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
    let exchange = async {
        let response = client.request(request.body(Full::new(bytes)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an answer")
}
