import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { ANSWER_MS, Api, MUTATION_MS } from "../api.js";
import { FakeServer, json, problem, settle } from "./fakes.mjs";

let server;
let api;
const pass = async (ms) => {
  mock.timers.tick(ms);
  await settle();
};

/** What became of a promise, so far. */
function watch(promise) {
  const seen = { is: "pending" };
  promise.then((value) => Object.assign(seen, { is: "done", value }), (error) => Object.assign(seen, { is: "failed", error }));
  return seen;
}

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  server = new FakeServer();
  api = new Api("http://h/api/rooms/r", { fetch: server.fetch, random: () => 0.5 });
});
afterEach(() => mock.timers.reset());

const delta = { seq: 5, at: 1, action: "create", comment: 5, user: "ann", text: "hi" };
const write = () => watch(api.mutate("POST", "/comments", { user: "ann", text: "hi" }));

test("an answer has 10 s, a mutation a minute", () => {
  assert.deepEqual([ANSWER_MS, MUTATION_MS], [10_000, 60_000]);
});

test("a mutation is JSON with a key", async () => {
  const done = write();
  const { path, method, headers, body } = server.next();
  assert.deepEqual([path, method, body], ["/api/rooms/r/comments", "POST", { user: "ann", text: "hi" }]);
  assert.equal(headers["content-type"], "application/json");
  assert.match(headers["idempotency-key"], /^[0-9a-f]{32}$/);
  server.requests[0].answer(json(delta, 201));
  await settle();
  assert.deepEqual(done.value, delta);
});

test("each mutation has a key of its own", () => {
  write();
  write();
  assert.notEqual(server.next().headers["idempotency-key"], server.next().headers["idempotency-key"]);
});

test("no answer, or one of a server in trouble: again, later and later, with the same key", async () => {
  const done = write();
  const troubles = [(r) => r.fail(), (r) => r.answer(problem("queue-down", 503)), (r) => r.answer(json({}, 502)), (r) => r.answer(json({}, 504))];
  for (const [n, trouble] of troubles.entries()) {
    trouble(server.next());
    await settle();
    const ms = 1000 * 2 ** n;
    await pass(ms - 1);
    assert.equal(server.waiting, 0, `after ${n + 1}`);
    await pass(1);
  }
  server.next().answer(json(delta, 201));
  await settle();
  assert.deepEqual(done.value, delta);
  assert.equal(new Set(server.requests.map(({ headers }) => headers["idempotency-key"])).size, 1);
});

test("Retry-After is honoured", async () => {
  write();
  server.next().answer(problem("queue-down", 503, {}, { "retry-after": "9" }));
  await settle();
  await pass(9999);
  assert.equal(server.waiting, 0);
  await pass(1);
  assert.equal(server.waiting, 1);
});

test("a refusal is final, and says what and why", async () => {
  const done = write();
  server.next().answer(problem("too-large", 413, { detail: "2,100 bytes; 2,000 are the most", limit: 2000, size: 2100 }));
  await settle();
  const { type, status, message, limit } = done.error;
  assert.deepEqual([type, status, message, limit], ["too-large", 413, "2,100 bytes; 2,000 are the most", 2000]);
  await pass(MUTATION_MS);
  assert.equal(server.requests.length, 1);
});

test("after a minute it is given up", async () => {
  const done = write();
  while (done.is === "pending") {
    server.next().fail();
    await settle();
    if (done.is === "pending") await pass(32_000);
    assert.ok(Date.now() <= 2 * MUTATION_MS);
  }
  assert.equal(done.error.status, 0);
  assert.ok(server.requests.length > 2);
});

test("an exchange that takes too long is broken off and tried again", async () => {
  const done = write();
  const first = server.next();
  await pass(ANSWER_MS - 1);
  assert.equal(first.signal.aborted, false);
  await pass(1);
  assert.equal(first.signal.aborted, true);
  await pass(1000);
  server.next().answer(json(delta, 201));
  await settle();
  assert.equal(done.is, "done");
});

test("so is one whose answer stops in its midst", async () => {
  const seen = watch(api.get("/deltas?after=1"));
  const { signal, answer } = server.next();
  answer(new Response(new ReadableStream({ start: (c) => signal.addEventListener("abort", () => c.error(new Error("aborted"))) })));
  await settle();
  await pass(ANSWER_MS);
  assert.equal(seen.error.status, 0);
});

test("nothing changed is null; a query is asked once, without a key", async () => {
  const done = watch(api.mutate("PUT", "/comments/5/likes/ann"));
  server.next().answer(json(null, 204));
  const seen = watch(api.get(""));
  const { headers, answer } = server.next();
  assert.equal(headers["idempotency-key"], undefined);
  answer(problem("database-down", 503, {}, { "retry-after": "5" }));
  await settle();
  assert.equal(done.value, null);
  assert.deepEqual([seen.error.type, seen.error.askedMs], ["database-down", 5000]);
  await pass(60_000);
  assert.equal(server.requests.length, 2);
});
