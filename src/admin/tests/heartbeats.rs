//! Heartbeats that backends push.

use super::*;

#[tokio::test]
async fn heartbeats_are_taken_with_the_right_token_only() {
    let mut api = Api::new();
    let path = "/v1/fleets/chat/heartbeats";
    let beat = json!({"id": "b-1", "seq": 7, "sessions": 41, "capacity": 50, "state": "draining", "later": true});
    assert_eq!(api.order("POST", path, beat.clone()).await.0, 204);
    assert_eq!(api.order("POST", path, json!({"id": "b-9", "seq": 1})).await.0, 202);
    {
        let taken = api.plane.heartbeats.lock();
        let (fleet, backend, heartbeat) = &taken[0];
        assert_eq!((fleet.as_str(), backend.as_str(), heartbeat.seq), ("chat", "b-1", Some(7)));
        assert_eq!((heartbeat.sessions, heartbeat.capacity, heartbeat.draining), (Some(41), Some(50), true));
    }
    for bad in [json!({"id": "b-1"}), json!({"id": "b-1", "seq": 1, "sessions": -4}), json!({"seq": 1, "id": 4})] {
        assert_eq!(api.order("POST", path, bad).await.0, 422);
    }
    assert_eq!(api.order("POST", "/v1/fleets/nope/heartbeats", beat.clone()).await.0, 404);

    let state = Arc::get_mut(&mut api.state).expect("nobody else has it");
    state.heartbeat_tokens.store(Arc::new([("chat".into(), "secret".into())].into()));
    let with = |authorization: Option<&'static str>| {
        let mut request = request("POST", path, Some(&beat.to_string()));
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", value.parse().expect("a header value"));
        }
        request
    };
    for wrong in [None, Some("Bearer secreT"), Some("Bearer secret2"), Some("Basic secret"), Some("Bearer")] {
        let response = api.send(with(wrong)).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.status(), 401, "{wrong:?}");
    }
    assert_eq!(api.send(with(Some("bearer secret"))).await.status(), 204);
    assert_eq!(api.plane.heartbeats.lock().len(), 3);
}
