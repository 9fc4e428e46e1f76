//! The admin API on a socket.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connections::{Answering, Connection, Connections};

/// For a whole head to arrive; also the idle time of a kept-alive connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// For answers under way when the API stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// After an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` until `stop` resolves, then lets answers under way end.
pub async fn serve(listener: TcpListener, app: Router, stop: impl Future<Output = ()>) {
    let open = Connections::default();
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, app.clone(), open.open(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin API could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    drop(stopping);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, all_ended).await.is_err() {
        tracing::debug!("admin connections were still open when the API stopped");
    }
}

async fn connection(stream: TcpStream, app: Router, mut place: Connection, mut stopped: watch::Receiver<()>) {
    let answers = place.answers();
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = answers.begin();
        let answer = app.call(request);
        async move { answer.await.map(|response| noted(response, answering)) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    // An error here is the peer's: it went, or sent no HTTP. hyper has answered what can be answered.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = place.closed() => {}
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// The answer is under way until its body has been sent.
fn noted(response: Response, answering: Answering) -> Response {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _until_the_end = &answering;
            frame
        }))
    })
}
