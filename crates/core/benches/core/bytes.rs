//! Following frames and events: what every read pays.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use holdline_core::wire::guard::Requests;
use holdline_core::wire::sse::Boundary;
use holdline_core::wire::ws::Tracker;

/// What fits the thread's scratch buffer.
const READ: usize = 16 * 1024;

pub(crate) fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame tracker");
    for payload in [16_usize, 128, 4_096] {
        let frame = masked(payload);
        let frames = (READ / frame.len()).max(1);
        let read = frame.repeat(frames);
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(BenchmarkId::new("a read full of frames with bytes of payload", payload), |b| {
            let mut tracker = Tracker::new(true);
            b.iter(|| tracker.feed(black_box(&read)));
        });
    }
    let frame = masked(128);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one frame a read", |b| {
        let mut tracker = Tracker::new(true);
        b.iter(|| tracker.feed(black_box(&frame)));
    });
    group.finish();
}

/// A client's binary message.
fn masked(payload: usize) -> Vec<u8> {
    let mut frame = match payload {
        0..126 => vec![0x82, 0x80 | payload as u8],
        _ => [&[0x82, 0xfe], &(payload as u16).to_be_bytes()[..]].concat(),
    };
    frame.extend(std::iter::repeat_n(0x5a, 4 + payload));
    frame
}

pub(crate) fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("event tracker");
    for data in [16_usize, 128, 4_096] {
        let event = format!("id: 1\ndata: {}\n\n", "x".repeat(data));
        let events = (READ / event.len()).max(1);
        let read = event.repeat(events);
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(BenchmarkId::new("a read full of events with bytes of data", data), |b| {
            let mut boundary = Boundary::default();
            b.iter(|| boundary.feed(black_box(read.as_bytes())));
        });
    }
    group.finish();
}

/// What a browser sends to open a WebSocket.
const HANDSHAKE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
    Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 \
    Safari/537.36\r\nUpgrade: websocket\r\nOrigin: https://chat.example.com\r\nSec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

pub(crate) fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("guard");
    group.throughput(Throughput::Bytes(HANDSHAKE.len() as u64));
    group.bench_function("a browser's handshake", |b| {
        let mut guard = Requests::new(READ);
        b.iter(|| guard.feed(black_box(HANDSHAKE.as_bytes())));
    });
    group.finish();
}
