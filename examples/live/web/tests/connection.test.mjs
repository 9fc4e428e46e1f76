// When a connection is begun, given up, and begun again; see transports.test.mjs for how each notices its end.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { PASSED_OVER_MS } from "../choice.js";
import { HELLO_MS, LASTED_MS } from "../connection.js";
import { Bench } from "./bench.mjs";
import { json, problem, settle } from "./fakes.mjs";

let bench;
beforeEach(() => (bench = new Bench()));
afterEach(() => bench.done());

const hello = { node: "n-2", room: "r", seq: 1, presence: 3 };

test("the times are those of the README", () => {
  assert.deepEqual([HELLO_MS, LASTED_MS, PASSED_OVER_MS], [5000, 10_000, 300_000]);
});

test("the room is fetched, then a WebSocket asks for what comes after it", async () => {
  await bench.enter();
  assert.equal(bench.socket.url, "ws://h/live/ws/r?after=1");
  assert.equal(bench.is, "loading");
  await bench.hello();
  assert.deepEqual(bench.room.state, { is: "live", via: "websocket", node: "n-1" });
  assert.equal(bench.room.presence, 2);
});

test("one that lasted is followed at once", async () => {
  await bench.live();
  await bench.pass(LASTED_MS);
  bench.socket.ends();
  assert.equal(bench.is, "reconnecting");
  await bench.pass(0);
  assert.equal(bench.sockets, 2);
  await bench.hello(1, "n-2");
  assert.equal(bench.room.state.node, "n-2");
});

test("one that did not last counts as a failure: no server is asked in a tight circle", async () => {
  await bench.live();
  await bench.pass(LASTED_MS - 1);
  await bench.fails();
  await bench.pass(999);
  assert.equal(bench.sockets, 1);
  await bench.pass(1);
  assert.equal(bench.sockets, 2);
});

test("1012: within a second, spread, however often it moves", async () => {
  await bench.live();
  for (let sockets = 1; sockets < 5; sockets++) {
    await bench.fails(1012);
    assert.equal(bench.room.state.at, Date.now() + 500);
    await bench.pass(499);
    assert.equal(bench.sockets, sockets);
    await bench.pass(1);
    assert.equal(bench.sockets, sockets + 1);
    await bench.hello();
  }
});

test("1012 before a hello is a failure like any other", async () => {
  await bench.enter();
  for (const ms of [1000, 2000]) {
    await bench.fails(1012);
    assert.equal(bench.room.state.at, Date.now() + ms);
    await bench.pass(ms);
  }
});

test("1013: a second at least, and it is no fault of the transport", async () => {
  await bench.enter();
  for (const ms of [2000, 3000, 5000]) {
    await bench.fails(1013);
    assert.equal(bench.room.state.at, Date.now() + ms);
    await bench.pass(ms);
  }
  assert.equal(bench.sockets, 4);
});

test("a WebSocket that fails twice before its hello is passed over for a stream, and that for long-poll", async () => {
  await bench.enter();
  await bench.fails();
  await bench.pass(1000);
  await bench.fails();
  await bench.pass(2000);
  assert.equal(bench.sockets, 2);
  for (const ms of [4000, 8000]) {
    bench.server.next("/live/events/r?after=1").answer(new Response("", { status: 403 }));
    await settle();
    await bench.pass(ms);
  }
  bench.server.next("/live/poll/r").answer(json({ node: "n-3", seq: 1, presence: 1, deltas: [] }));
  await settle();
  assert.deepEqual(bench.room.state, { is: "live", via: "poll", node: "n-3" });
});

test("no hello within 5 s: passed over at once", async () => {
  await bench.enter();
  await bench.pass(HELLO_MS - 1);
  assert.equal(bench.is, "loading");
  await bench.pass(1);
  assert.equal(bench.room.state.why, "no hello");
  assert.equal(bench.socket.closedWith, 1000);
  await bench.pass(1000);
  await bench.stream();
});

for (const [proxy, passes] of [["holds the whole stream back", null], ["lets the stream begin and holds its events back", "retry: 1000\n\n"]]) {
  test(`behind a proxy that ${proxy}: long-poll`, async () => {
    await bench.enter();
    await bench.pass(HELLO_MS);
    await bench.pass(1000);
    const { signal } = bench.server.requests.at(-1);
    if (passes) {
      const stream = await bench.stream();
      stream.writes(passes);
      await settle();
    }
    await bench.pass(HELLO_MS);
    assert.equal(signal.aborted, true);
    await bench.pass(2000);
    bench.server.next("/live/poll/r").answer(json({ node: "n-3", seq: 1, presence: 1, deltas: [] }));
    await settle();
    assert.equal(bench.room.state.via, "poll");
  });
}

test("a hello between two failures, and nothing is passed over", async () => {
  await bench.enter();
  for (let sockets = 1; sockets < 4; sockets++) {
    await bench.fails();
    await bench.pass(1000);
    assert.equal(bench.sockets, 2 * sockets);
    await bench.hello();
    await bench.fails(1012);
    await bench.pass(500);
  }
});

test("a hello in time, and the 5 s are forgotten", async () => {
  await bench.enter();
  await bench.pass(HELLO_MS - 1);
  await bench.hello();
  await bench.pass(HELLO_MS);
  assert.equal(bench.is, "live");
});

/** A stream, because the WebSocket said nothing. */
async function onStream() {
  await bench.enter();
  await bench.pass(HELLO_MS);
  await bench.pass(1000);
  const stream = await bench.stream();
  stream.event("hello", { ...hello, node: "n-1" });
  await settle();
  assert.deepEqual(bench.room.state, { is: "live", via: "stream", node: "n-1" });
  return stream;
}

/** Time passes, and the stream is not silent meanwhile. */
async function minutes(stream, ms) {
  for (; ms > 0; ms -= 10_000) {
    stream.writes(":\n\n");
    await settle();
    await bench.pass(Math.min(ms, 10_000));
  }
}

test("after some minutes a WebSocket is tried beside the stream, and takes over with its hello", async () => {
  const stream = await onStream();
  await minutes(stream, PASSED_OVER_MS - 1001);
  assert.equal(bench.sockets, 1);
  await bench.pass(1);
  assert.equal(bench.sockets, 2);
  assert.equal(bench.room.state.via, "stream");
  await bench.hello(1, "n-2");
  assert.deepEqual(bench.room.state, { is: "live", via: "websocket", node: "n-2" });
  assert.equal(bench.server.requests.at(-1).signal.aborted, true);
});

test("if it fails, nothing has happened, and it has its next chance after as long", async () => {
  const stream = await onStream();
  await minutes(stream, PASSED_OVER_MS - 1000);
  for (const code of [1006, 1013]) {
    await bench.fails(code);
    assert.equal(bench.room.state.via, "stream");
    const { sockets } = bench;
    await minutes(stream, PASSED_OVER_MS - 1);
    assert.equal(bench.sockets, sockets);
    await minutes(stream, 1);
    assert.equal(bench.sockets, sockets + 1);
  }
});

test("if the stream ends meanwhile, the one under way is waited for", async () => {
  const stream = await onStream();
  await minutes(stream, PASSED_OVER_MS - 1000);
  stream.ends();
  await settle();
  assert.equal(bench.is, "reconnecting");
  await bench.hello(1, "n-2");
  assert.equal(bench.room.state.via, "websocket");
  assert.equal(bench.sockets, 2);
});

test("a refused stream says when to come back", async () => {
  await bench.enter();
  await bench.pass(HELLO_MS);
  await bench.pass(1000);
  bench.server.next("/live/events/").answer(json({ detail: "every seat is taken" }, 503, { "retry-after": "20" }));
  await settle();
  assert.deepEqual(bench.room.state, { is: "reconnecting", at: Date.now() + 22_000, why: "every seat is taken" });
  bench.document.show();
  bench.window.dispatchEvent(new Event("online"));
  await bench.pass(21_999);
  assert.deepEqual([bench.server.waiting, bench.sockets], [0, 1], "whoever looks does not change that");
  await bench.pass(1);
  // Another network is there, so the best is tried anew.
  assert.equal(bench.sockets, 2);
  await bench.pass(HELLO_MS);
  await bench.pass(8000);
  await bench.stream();
});

for (const [who, wake] of [["online", () => bench.window.dispatchEvent(new Event("online"))], ["somebody who looks", () => bench.document.show()]]) {
  test(`${who}: the wait is over`, async () => {
    await bench.live();
    await bench.fails();
    wake();
    await settle();
    assert.equal(bench.sockets, 2);
    await bench.pass(1000);
    assert.equal(bench.sockets, 2, "and its timer, too");
  });
}

test("a page that is hidden wakes nothing", async () => {
  await bench.live();
  await bench.fails();
  bench.document.hidden = true;
  bench.document.dispatchEvent(new Event("visibilitychange"));
  await settle();
  assert.equal(bench.sockets, 1);
});

test("online forgives: a WebSocket is tried at once, beside the stream", async () => {
  await onStream();
  bench.window.dispatchEvent(new Event("online"));
  await bench.pass(0);
  assert.equal(bench.sockets, 2);
  await bench.fails();
  await bench.pass(1000);
  assert.equal(bench.sockets, 2, "once");
});

test("somebody who looks at a live room has its connection asked", async () => {
  await bench.live();
  bench.document.show();
  assert.deepEqual(bench.socket.sent, [{ ping: 1 }]);
});

test("intervals grow to two minutes while nothing answers", async () => {
  bench.random = 1;
  bench.room.open();
  const waits = [];
  for (let n = 0; n < 9; n++) {
    bench.server.next("/api/rooms/r?").fail();
    await settle();
    waits.push(bench.room.state.at - Date.now());
    await bench.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [2000, 4000, 8000, 16_000, 32_000, 64_000, 120_000, 120_000, 120_000]);
});

test("an unknown room is said, and made, and entered", async () => {
  bench.room.open();
  bench.server.next().answer(problem("unknown-room", 404));
  await settle();
  assert.equal(bench.is, "unknown-room");
  await bench.pass(600_000);
  assert.equal(bench.server.requests.length, 1);
  bench.room.make();
  const { method, path, body, answer } = bench.server.next();
  assert.deepEqual([method, path, body], ["PUT", "/api/rooms/r", { recovery: "strong" }]);
  answer(json({}, 201));
  await settle();
  await bench.server.next("/api/rooms/r?");
  assert.equal(bench.is, "loading");
});

test("whoever leaves, leaves: no timer, no listener, no connection", async () => {
  await bench.live();
  bench.room.close();
  assert.equal(bench.is, "closed");
  assert.equal(bench.socket.closedWith, 1000);
  bench.window.dispatchEvent(new Event("online"));
  bench.document.show();
  await bench.pass(3_600_000);
  assert.deepEqual([bench.sockets, bench.server.requests.length], [1, 1]);
});

test("nor does whoever leaves a stream come back over a better transport", async () => {
  await onStream();
  bench.room.close();
  await bench.pass(PASSED_OVER_MS);
  assert.equal(bench.sockets, 1);
});

test("whoever leaves while the room is fetched does not connect, and may come back", async () => {
  bench.room.open();
  const { answer } = bench.server.next();
  bench.room.close();
  answer(json({}));
  await settle();
  assert.equal(bench.sockets, 0);
  await bench.live();
  assert.equal(bench.is, "live");
  bench.document.show();
  assert.equal(bench.socket.sent.length, 1, "woken once");
});
