//! Timeouts, and clients that do not do as they should.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_told_to_come_back() {
    on_thread(async {
        let body = Reframe::new(CHUNKED, true, true);
        let mut bench = Bench::open_with(body, b"", |t| t.idle = Some(Duration::from_secs(60))).await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        bench.send(b"9\r\ndata: 1\n\n\r\n").await;
        bench.read_until("\n\n\r\n").await;
        assert!(bench.read_all().await.contains("retry: "));
        assert!((Duration::from_secs(110)..Duration::from_secs(111)).contains(&bench.elapsed()), "{:?}", bench.elapsed());
        bench.ends_by(EndCause::IdleTimeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_stalls_does_not_hold_up_a_timeout() {
    on_thread(async {
        let body = Reframe::new(CHUNKED, true, true);
        let mut bench = Bench::open_with(body, b"4\r\ndata\r\n", |t| t.session = Some(Duration::from_secs(60))).await;
        assert_eq!(bench.read_all().await, "4\r\ndata\r\n");
        assert!((Duration::from_secs(65)..Duration::from_secs(66)).contains(&bench.elapsed()), "{:?}", bench.elapsed());
        bench.ends_by(EndCause::SessionTimeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_holds_up_the_backend_and_is_cut() {
    on_thread(async {
        let mut bench = Bench::open(UNTIL_CLOSE).await;
        let event = [b'x'; 64 << 10];
        // The backend is held up by the client: Holdline takes no more than sockets hold.
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_secs(1), bench.backend.write_all(&event)).await.is_ok() {
            sent += event.len();
            assert!(sent < 64 << 20, "no backpressure");
        }
        (&mut bench.relay).await.unwrap();
        assert!((Duration::from_secs(30)..Duration::from_secs(33)).contains(&bench.elapsed()), "{:?}", bench.elapsed());
        assert_eq!(bench.record.ended.lock()[0].0, EndCause::WriteTimeout);
        assert_eq!(bench.seats.used(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_chatters_is_cut() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        bench.client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        bench.send(b"1\r\n:\r\n").await;
        assert_eq!(bench.read_until("\r\n").await, "1\r\n");
        // It may be cut before it has said it all.
        let _ = bench.client.write_all(&vec![b'x'; CHATTER_MAX]).await;
        bench.ends_by(EndCause::ProtocolError).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_dropped_gives_its_seat_back() {
    on_thread(async {
        let bench = Bench::open(CHUNKED).await;
        bench.relay.abort();
        assert!(bench.relay.await.unwrap_err().is_cancelled());
        assert_eq!((bench.record.ended.lock()[0].0, bench.seats.used(), bench.registry.len()), (EndCause::Cut, 0, 0));
    })
    .await;
}
