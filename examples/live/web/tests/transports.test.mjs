import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { ANSWER_MS, POLL_MS, POLL_PAUSE_MS, SILENCE_MS, PollTransport, StreamTransport, WebSocketTransport } from "../transports.js";
import { FakeServer, FakeStream, FakeWebSocket, created, json, like, problem, settle } from "./fakes.mjs";

let said;
let server;
const told = Object.fromEntries(["hello", "delta", "resync", "presence", "end"].map((what) => [what, (...args) => said.push([what, ...args])]));
const ends = () => said.filter(([what]) => what === "end").map(([, end]) => end);
const pass = async (ms) => {
  mock.timers.tick(ms);
  await settle();
};
const hello = { node: "n-1", room: "r", seq: 4, presence: 2 };

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  said = [];
  server = new FakeServer();
  FakeWebSocket.all = [];
});
afterEach(() => mock.timers.reset());

test("the times are those of the README", () => {
  assert.deepEqual([SILENCE_MS, ANSWER_MS, POLL_MS, POLL_PAUSE_MS], [15_000, 5000, 35_000, 1000]);
});

// ---- WebSocket

function socket() {
  const link = new WebSocketTransport("http://h/live/ws/r?after=3", told, { WebSocket: FakeWebSocket });
  return [link, FakeWebSocket.last];
}

test("websocket: each message as what it is", () => {
  const [, ws] = socket();
  assert.equal(ws.url, "ws://h/live/ws/r?after=3");
  ws.says({ hello }, like(4), { presence: 0 }, { resync: { seq: 9 } }, { pong: 1 }, { error: { type: "x" } });
  assert.deepEqual(said, [["hello", hello], ["delta", like(4)], ["presence", 0], ["resync", { seq: 9 }]]);
});

test("websocket: after 15 s of silence it asks, and an answer is enough", async () => {
  const [, ws] = socket();
  ws.says({ hello });
  await pass(SILENCE_MS - 1);
  assert.deepEqual(ws.sent, []);
  await pass(1);
  assert.deepEqual(ws.sent, [{ ping: 1 }]);
  await pass(ANSWER_MS - 1);
  ws.says({ pong: 1 });
  await pass(SILENCE_MS);
  assert.deepEqual(ws.sent, [{ ping: 1 }, { ping: 2 }]);
  assert.deepEqual(ends(), []);
});

test("websocket: whatever comes breaks the silence", async () => {
  const [, ws] = socket();
  ws.says({ hello });
  await pass(SILENCE_MS - 1);
  ws.says(like(5));
  await pass(SILENCE_MS - 1);
  assert.deepEqual(ws.sent, []);
});

test("websocket: no answer within 5 s, and it is lost", async () => {
  const [, ws] = socket();
  ws.says({ hello });
  await pass(SILENCE_MS);
  await pass(ANSWER_MS - 1);
  assert.deepEqual(ends(), []);
  await pass(1);
  assert.deepEqual(ends().map(({ why, askedMs }) => [why, askedMs]), [["no answer to a ping", null]]);
  assert.equal(ws.closedWith, 1000);
});

test("websocket: who wakes up asks at once", async () => {
  const [link, ws] = socket();
  ws.says({ hello });
  link.check();
  assert.deepEqual(ws.sent, [{ ping: 1 }]);
  await pass(ANSWER_MS);
  assert.equal(ends().length, 1);
});

test("websocket: 1012 and 1001 mean at once but not together, 1013 later, anything else a loss", () => {
  for (const [code, askedMs, refused] of [[1012, 0, false], [1001, 0, false], [1013, 1000, true], [1006, null, false], [1000, null, false]]) {
    said = [];
    const [, ws] = socket();
    ws.says({ hello });
    ws.ends(code);
    assert.deepEqual(ends(), [{ why: `closed with ${code}`, askedMs, refused, problem: undefined }]);
  }
});

test("websocket: what is no JSON ends it", () => {
  const [, ws] = socket();
  ws.says("<html>");
  assert.equal(ends()[0].why, "a message that is none");
});

test("websocket: after close() nothing is told any more", async () => {
  const [link, ws] = socket();
  ws.says({ hello });
  said = [];
  link.close();
  ws.says(like(5));
  ws.ends(1012);
  await pass(60_000);
  assert.deepEqual(said, []);
});

// ---- event stream

async function stream() {
  const link = new StreamTransport("http://h/live/events/r?after=3", told, server);
  const request = server.next("/live/events/r?after=3");
  assert.equal(request.headers.accept, "text/event-stream");
  const body = new FakeStream(request.signal);
  request.answer(body.response);
  await settle();
  return [link, body, request];
}

test("stream: each event as what it is", async () => {
  const [, body] = await stream();
  body.writes("retry: 1000\n\n");
  body.event("hello", hello);
  body.delta(like(4));
  body.event("presence", 0);
  body.event("resync", { seq: 9 });
  await settle();
  assert.deepEqual(said, [["hello", hello], ["delta", like(4)], ["presence", 0], ["resync", { seq: 9 }]]);
});

test("stream: a character that is cut in two is one", async () => {
  const [, body] = await stream();
  const bytes = new TextEncoder().encode(`data: ${JSON.stringify(created(4, "grüße 🎉"))}\n\n`);
  for (const byte of bytes) body.bytes(new Uint8Array([byte]));
  await settle();
  assert.deepEqual(said, [["delta", created(4, "grüße 🎉")]]);
});

test("stream: the server's comments keep it, silence ends it", async () => {
  const [, body, { signal }] = await stream();
  body.event("hello", hello);
  await settle();
  for (let n = 0; n < 4; n++) {
    await pass(SILENCE_MS);
    body.writes(":\n\n");
    await settle();
  }
  await pass(SILENCE_MS + ANSWER_MS - 1);
  assert.deepEqual(ends(), []);
  await pass(1);
  assert.deepEqual(ends().map(({ why }) => why), ["silence"]);
  assert.equal(signal.aborted, true);
});

test("stream: who wakes up after a long sleep does not wait for the timer", async () => {
  const [link, body] = await stream();
  body.event("hello", hello);
  await settle();
  link.check();
  assert.deepEqual(ends(), []);
  mock.timers.setTime(SILENCE_MS);
  body.writes(":\n\n");
  await settle();
  mock.timers.setTime(2 * SILENCE_MS + ANSWER_MS);
  link.check();
  assert.deepEqual(ends(), []);
  mock.timers.setTime(2 * SILENCE_MS + ANSWER_MS + 1);
  link.check();
  assert.equal(ends().length, 1);
});

test("stream: its end says when to come back, by the last retry", async () => {
  const [, body] = await stream();
  body.writes("retry: 1000\n\n");
  body.event("hello", hello);
  body.writes("retry: 700\n\n");
  body.ends();
  await settle();
  assert.deepEqual(ends(), [{ why: "the stream ended", askedMs: 700, refused: true, problem: undefined }]);
});

test("stream: so does a break, as EventSource has it", async () => {
  const [, body] = await stream();
  body.writes("retry: 1000\n\n");
  await settle();
  body.breaks();
  await settle();
  assert.deepEqual(ends(), [{ why: "the connection broke", askedMs: 1000, refused: false, problem: undefined }]);
});

test("stream: an end without a word is a failure of the transport", async () => {
  const [, body] = await stream();
  body.ends();
  await settle();
  assert.deepEqual(ends()[0], { why: "the stream ended", askedMs: null, refused: false, problem: undefined });
});

test("stream: a refusal says when to come back and is no fault of the transport", async () => {
  new StreamTransport("http://h/live/events/r", told, server);
  server.next().answer(json({ detail: "full" }, 503, { "retry-after": "7" }));
  await settle();
  assert.deepEqual(ends(), [{ why: "full", askedMs: 7000, refused: true, problem: "" }]);
});

test("stream: a problem has its kind; a status that no node gives is a fault", async () => {
  new StreamTransport("http://h/live/events/r", told, server);
  server.next().answer(problem("from-the-future", 400, { detail: "later" }));
  await settle();
  new StreamTransport("http://h/live/events/r", told, server);
  server.next().answer(new Response("forbidden", { status: 403 }));
  await settle();
  assert.deepEqual(ends().map(({ refused, problem }) => [refused, problem]), [[true, "from-the-future"], [false, ""]]);
});

test("stream: close() ends the request", async () => {
  const [link, , { signal }] = await stream();
  link.close();
  await settle();
  assert.equal(signal.aborted, true);
  assert.deepEqual(said, []);
});

// ---- long-poll

const answer = (seq, deltas = [], more = {}) => json({ node: "n-1", seq, presence: 2, deltas, ...more });

async function poll(after = "?after=3") {
  const link = new PollTransport(`http://h/live/poll/r${after}`, told, server);
  server.next("/live/poll/r").answer(answer(4));
  await settle();
  return link;
}

test("poll: the first is without after, so it is answered at once", async () => {
  await poll();
  assert.equal(server.requests[0].path, "/live/poll/r");
  assert.deepEqual(said, [["hello", { node: "n-1", seq: 4, presence: 2 }]]);
  assert.equal(server.requests[1].path, "/live/poll/r?after=3");
});

test("poll: each asks after the last delta that came", async () => {
  await poll();
  server.next("after=3").answer(answer(5, [like(4), like(5)], { node: "n-2" }));
  await settle();
  assert.deepEqual(said.slice(1), [["presence", 2, "n-2"], ["delta", like(4)], ["delta", like(5)]]);
  server.next("after=5");
});

test("poll: without a last delta, it asks after the newest", async () => {
  await poll("");
  server.next("after=4");
});

test("poll: an answer without anything new is no reason to hurry", async () => {
  await poll();
  server.next("after=3").answer(answer(3));
  await settle();
  await pass(POLL_PAUSE_MS - 1);
  assert.equal(server.waiting, 0);
  await pass(1);
  server.next("after=3");
});

test("poll: one that took its time is followed at once", async () => {
  await poll();
  await pass(25_000);
  server.next("after=3").answer(answer(3));
  await settle();
  await pass(0);
  server.next("after=3");
});

test("poll: 410 is a resync, and it goes on from there", async () => {
  await poll();
  server.next("after=3").answer(problem("resync", 410, { seq: 60 }));
  await settle();
  assert.deepEqual(said.at(-1), ["resync", { seq: 60 }]);
  await pass(POLL_PAUSE_MS);
  server.next("after=60");
});

test("poll: one that is not answered in its time is lost", async () => {
  await poll();
  await pass(POLL_MS - 1);
  assert.deepEqual(ends(), []);
  await pass(1);
  assert.deepEqual(ends().map(({ why }) => why), ["silence"]);
  assert.equal(server.requests[1].signal.aborted, true);
});

test("poll: who wakes up after a long sleep does not wait for the timer", async () => {
  const link = await poll();
  link.check();
  assert.deepEqual(ends(), []);
  mock.timers.setTime(POLL_MS + 1);
  link.check();
  assert.equal(ends().length, 1);
});

test("poll: a refusal says when to come back; a break is a loss", async () => {
  await poll();
  server.next("after=3").answer(json({}, 503, { "retry-after": "3" }));
  await settle();
  await poll();
  server.next("after=3").fail();
  await settle();
  assert.deepEqual(ends().map(({ why, askedMs, refused }) => [why, askedMs, refused]), [["status 503", 3000, true], ["the connection broke", null, false]]);
});
