//! Orders become commands, and what is no order is refused with a reason.

use super::*;

#[tokio::test]
async fn drain_takes_units_and_answers_with_the_plan() {
    let api = Api::new();
    let order = json!({"over": "10s", "rate": "100/s", "mode": "cut", "dry_run": true});
    let (status, plan) = api.order("POST", "/v1/fleets/chat/backends/b-2/drain", order).await;
    assert_eq!((status, &plan["sessions"]), (StatusCode::OK, &json!(40)));
    let request =
        MoveRequest { over: Some(Duration::from_secs(10)), rate_max: Some(100.0), mode: Some(DrainMode::Cut), dry_run: true };
    let expected = Command::Drain { fleet: "chat".into(), backend: "b-2".into(), request };
    assert_eq!(*api.plane.commands.lock(), [expected]);
}

#[tokio::test]
async fn a_drain_without_a_body_is_the_default_drain() {
    let api = Api::new();
    let response = api.send(request("POST", "/v1/fleets/chat/backends/10.0.0.7%3A9001/drain", None)).await;
    assert_eq!(response.status(), 200);
    let expected = Command::Drain { fleet: "chat".into(), backend: "10.0.0.7:9001".into(), request: MoveRequest::default() };
    assert_eq!(*api.plane.commands.lock(), [expected]);
}

#[tokio::test]
async fn undrain_rebalance_and_scale_become_commands() {
    let api = Api::new();
    *api.plane.answer.lock() = Ok(Answer::Done { message: "done".into() });
    assert_eq!(api.order("DELETE", "/v1/fleets/chat/backends/b-2/drain", json!({})).await.1["message"], "done");
    api.order("POST", "/v1/fleets/chat/rebalance", json!({})).await;
    api.order("PUT", "/v1/fleets/chat/scale", json!({"to": 4})).await;
    api.order("PUT", "/v1/fleets/chat/scale", json!({"to": null})).await;
    let expected = [
        Command::Undrain { fleet: "chat".into(), backend: "b-2".into() },
        Command::Rebalance { fleet: "chat".into(), request: MoveRequest::default() },
        Command::Scale { fleet: "chat".into(), to: Some(4) },
        Command::Scale { fleet: "chat".into(), to: None },
    ];
    assert_eq!(*api.plane.commands.lock(), expected);
}

#[tokio::test]
async fn scale_explains_itself_without_figures_that_json_lacks() {
    let api = Api::new();
    let (_, body) = api.get("/v1/fleets/chat/scale").await;
    assert_eq!((&body["desired"], &body["limited_by"], &body["to"]), (&json!(3), &json!("queue"), &Value::Null));
    assert_eq!(body["inputs"], json!({"need": 66.5, "sessions": 62.0}));
    let (status, problem) = api.get("/v1/fleets/nope/scale").await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("urn:holdline:problem:unknown-fleet")));
    assert_eq!(problem["detail"], "no fleet is called `nope`; there are: chat, feed");
}

#[tokio::test]
async fn refused_commands_have_their_status() {
    let api = Api::new();
    let unknown = CommandError::UnknownBackend { fleet: "chat".into(), backend: "x".into(), known: "b-1".into() };
    let phase = CommandError::WrongPhase {
        backend: "b-2".into(),
        phase: holdline_core::cause::Phase::Draining,
        remedy: "undrain it first".into(),
    };
    for (error, status) in [(unknown, 404), (phase, 409), (CommandError::Invalid("over is longer".into()), 422)] {
        let detail = error.to_string();
        *api.plane.answer.lock() = Err(error.into());
        let (got, problem) = api.order("POST", "/v1/fleets/chat/backends/x/drain", json!({})).await;
        assert_eq!((got.as_u16(), problem["detail"].as_str()), (status, Some(detail.as_str())));
    }
    api.plane.stop();
    assert_eq!(api.order("POST", "/v1/fleets/chat/rebalance", json!({})).await.0, 503);
}

#[tokio::test]
async fn bodies_are_small_json_without_surprises() {
    let api = Api::new();
    let drain = "/v1/fleets/chat/backends/b-2/drain";
    let typed = |kind: &'static str, text: &str| {
        let builder = Request::builder().method("POST").uri(drain).header("host", "localhost").header("content-type", kind);
        builder.body(Body::from(text.to_owned())).expect("a request")
    };
    assert_eq!(api.send(typed("application/json; charset=utf-8", "{}")).await.status(), 200);
    for (kind, text, status) in [
        ("text/plain", "{}", 415),
        ("application/x-www-form-urlencoded", "", 415),
        ("application/json", "{", 400),
        ("application/json", "[]", 400),
        ("application/json", " [\"10s\"]", 400),
        ("application/json", "null", 400),
        ("application/json", "\"{}\"", 400),
        ("application/json", "{\"ovre\": \"10s\"}", 422),
        ("application/json", "{\"over\": \"10\"}", 422),
        ("application/json", "{\"over\": 10}", 422),
        ("application/json", "{\"rate\": \"100\"}", 422),
        ("application/json", "{\"mode\": \"handoff\"}", 422),
    ] {
        assert_eq!(read(api.send(typed(kind, text)).await).await.0, status, "{kind} {text}");
    }
    for (method, call) in [("POST", "rebalance"), ("POST", "heartbeats"), ("PUT", "scale")] {
        let (status, problem) = api.order(method, &format!("/v1/fleets/chat/{call}"), json!([])).await;
        assert_eq!((status.as_u16(), &problem["detail"]), (400, &json!("the body is not a JSON object; send one, such as {}")));
    }
    let large = format!("{{\"over\": \"{}\"}}", "9".repeat(70_000));
    assert_eq!(api.send(typed("application/json", &large)).await.status(), 413);
    let untyped = Request::builder().method("POST").uri(drain).header("host", "localhost").body(Body::from("{}"));
    assert_eq!(api.send(untyped.expect("a request")).await.status(), 415);
    assert_eq!(api.order("PUT", "/v1/fleets/chat/scale", json!({})).await.0, 422);
    assert_eq!(api.order("PUT", "/v1/fleets/chat/scale", json!({"to": -1})).await.0, 422);
    assert_eq!(api.plane.commands.lock().len(), 1);
}
