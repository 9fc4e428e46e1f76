//! The event log: what there is, what comes, and readers that take nothing.

use super::*;

#[tokio::test]
async fn events_end_after_the_backlog_when_asked() {
    let api = Api::new();
    api.plane.emit(1, "one");
    api.plane.emit(2, "two");
    let response = api.send(request("GET", "/v1/events?follow=0", None)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let all = text(response).await;
    assert!(all.contains("id: 1\ndata: {\"id\":1,\"at_unix_ms\":1700000000001,\"fleet\":\"chat\",\"backend\":\"b-1\",\"kind\":\"phase\",\"message\":\"one\"}\n\n"), "{all}");
    assert!(all.ends_with("\n\n") && all.contains("id: 2\n"));
    assert_eq!(api.get("/v1/events?follow=2").await.0, 422);
}

#[tokio::test]
async fn events_resume_after_the_last_id_and_own_up_to_gaps() {
    let api = Api::new();
    for id in 5..=7 {
        api.plane.emit(id, "x");
    }
    let after = |id: &'static str| {
        let mut request = request("GET", "/v1/events?follow=0", None);
        request.headers_mut().insert("last-event-id", id.parse().expect("a header value"));
        request
    };
    let resumed = text(api.send(after("6")).await).await;
    assert!(!resumed.contains("id: 6\n") && resumed.contains("id: 7\n") && !resumed.contains("events dropped"));
    let gap = text(api.send(after("2")).await).await;
    assert!(gap.contains(": 2 older events dropped\n\nid: 5\n"), "{gap}");
    let restarted = text(api.send(after("900")).await).await;
    assert!(restarted.contains("id: 5\n"), "{restarted}");
}

#[tokio::test(start_paused = true)]
async fn followers_see_events_as_they_happen_and_comments_in_between() {
    let api = Api::new();
    let mut body = api.send(request("GET", "/v1/events", None)).await.into_body();
    let mut next = async || {
        let frame = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
        String::from_utf8(frame.into()).expect("text")
    };
    assert_eq!(next().await, "retry: 2000\n\n");
    assert_eq!(next().await, ":\n\n");
    api.plane.emit(1, "now");
    assert!(next().await.contains("\"message\":\"now\""));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_let_go_and_its_place_is_free_again() {
    let api = Api::new();
    for id in 1..=10 {
        api.plane.emit(id, "x");
    }
    let mut readers = Vec::new();
    for _ in 0..EVENT_READERS_MAX {
        readers.push(api.send(request("GET", "/v1/events", None)).await);
    }
    assert_eq!(api.get("/v1/events").await.0, 503);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(api.send(request("GET", "/v1/events", None)).await.status(), 200);
    let seen = text(readers.remove(0)).await;
    assert_eq!(seen, "retry: 2000\n\n", "one chunk was in memory, no more");
}
