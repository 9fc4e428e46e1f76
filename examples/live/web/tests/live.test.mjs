// What a room does about what it misses; see connection.test.mjs for how it comes to be live.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { LASTED_MS } from "../connection.js";
import { STALL_MS } from "../live.js";
import { Bench } from "./bench.mjs";
import { comment, created, json, like, problem, roomState, settle } from "./fakes.mjs";

let bench;
beforeEach(() => (bench = new Bench()));
afterEach(() => bench.done());

const deltas = (list, seq = list.at(-1)?.seq ?? 0, more = false) => json({ room: "r", seq, oldest: 1, deltas: list, more });
const says = async (...messages) => {
  bench.socket.says(...messages);
  await settle();
};
const eventual = (seq, comments = [comment(1)]) => roomState(seq, comments, { recovery: "eventual", refetch_s: 30 });

/** The connection breaks and is there again. */
async function comesBack(seq) {
  await bench.pass(LASTED_MS);
  bench.socket.ends();
  await bench.pass(0);
  await bench.hello(seq, "n-2");
}

// ---- strong

test("strong: what was missed comes by the node, and the state says how much", async () => {
  await bench.live();
  await says(like(2));
  await comesBack(5);
  assert.equal(bench.socket.url, "ws://h/live/ws/r?after=2");
  assert.deepEqual(bench.room.state, { is: "catching-up", via: "websocket", node: "n-2", behind: 3 });
  await says(like(3), like(4));
  assert.equal(bench.room.state.behind, 1);
  await says(like(5));
  assert.deepEqual(bench.room.state, { is: "live", via: "websocket", node: "n-2" });
  assert.deepEqual(bench.applied, [2, 3, 4, 5]);
  assert.equal(bench.server.requests.length, 1, "the API is asked for nothing");
});

test("strong: a resync sends it to the API, page by page; what comes meanwhile waits its turn, once", async () => {
  await bench.live();
  await says({ resync: { seq: 5 } }, like(6));
  assert.equal(bench.room.state.behind, 5);
  bench.server.next("/deltas?after=1&limit=1000").answer(deltas([like(2), like(3)], 6, true));
  await settle();
  bench.server.next("/deltas?after=3").answer(deltas([like(4), like(5), like(6)]));
  await settle();
  await says(like(7));
  assert.deepEqual(bench.applied, [2, 3, 4, 5, 6, 7]);
  assert.equal(bench.is, "live");
});

test("strong: a gap sends it to the API at once", async () => {
  await bench.live();
  await says(like(4));
  bench.server.next("/deltas?after=1").answer(deltas([like(2), like(3)], 4));
  await settle();
  assert.deepEqual(bench.applied, [2, 3, 4]);
  assert.equal(bench.is, "live");
});

test("strong: what a node promised and does not send is asked for after 5 s", async () => {
  assert.equal(STALL_MS, 5000);
  await bench.enter();
  await bench.hello(3);
  await bench.pass(STALL_MS - 1);
  assert.equal(bench.server.waiting, 0);
  await bench.pass(1);
  bench.server.next("/deltas?after=1").answer(deltas([like(2), like(3)]));
  await settle();
  assert.equal(bench.is, "live");
});

test("strong: an API in trouble is asked again later and later, not with each delta", async () => {
  await bench.live();
  await says({ resync: { seq: 5 } });
  for (const ms of [1000, 2000, 4000]) {
    bench.server.next("/deltas").answer(problem("database-down", 503));
    await settle();
    await says(like(6 + ms));
    await bench.pass(ms - 1);
    assert.equal(bench.server.waiting, 0);
    await bench.pass(1);
  }
  bench.server.next("/deltas").answer(problem("database-down", 503, {}, { "retry-after": "30" }));
  await settle();
  await bench.pass(30_000);
  assert.equal(bench.server.waiting, 0);
});

test("strong: a window that has passed, and the room is fetched whole", async () => {
  await bench.live();
  await says({ resync: { seq: 90 } }, like(91));
  bench.server.next("/deltas").answer(problem("window-passed", 410, { oldest: 50, refetch: "/api/rooms/r" }));
  await settle();
  bench.server.next("/api/rooms/r?").answer(json(roomState(90, [comment(1, { likes: 4 }), comment(80)])));
  await settle();
  assert.equal(bench.is, "live");
  assert.deepEqual(bench.room.comments.map(({ comment, likes }) => [comment, likes]), [[1, 5], [80, 0]]);
  assert.equal(bench.room.seq, 91);
});

test("strong: a log that ends before what we have is another one, and everything begins anew", async () => {
  await bench.live(roomState(9, [comment(9)]));
  await says({ resync: { seq: 12 } });
  bench.server.next("/deltas").answer(problem("from-the-future", 400, { seq: 2 }));
  await settle();
  bench.server.next("/api/rooms/r?").answer(json(roomState(2, [comment(2)])));
  await settle();
  assert.deepEqual([bench.room.seq, bench.room.comments.length, bench.is], [2, 1, "live"]);
  await says(like(3, 2));
  assert.equal(bench.room.seq, 3);
});

test("strong: so it is if a node says it", async () => {
  await bench.enter(roomState(9, [comment(9)]));
  await bench.pass(5000);
  await bench.pass(1000);
  bench.server.next("/live/events/").answer(problem("from-the-future", 400, { seq: 2 }));
  await settle();
  await bench.pass(2000);
  bench.server.next("/api/rooms/r?").answer(json(roomState(2, [comment(2)])));
  await settle();
  bench.server.next("/live/events/r?after=2");
});

test("a room that is gone when we come back is unknown", async () => {
  await bench.enter();
  await bench.pass(5000);
  await bench.pass(1000);
  bench.server.next("/live/events/").answer(problem("unknown-room", 404));
  await settle();
  assert.equal(bench.is, "unknown-room");
});

// ---- eventual

test("eventual: it takes what comes, and asks for nothing that it missed", async () => {
  await bench.live(eventual(1));
  assert.equal(bench.socket.url, "ws://h/live/ws/r");
  await says(like(2));
  await comesBack(7);
  assert.equal(bench.is, "live");
  await says(like(8));
  assert.deepEqual(bench.applied, [2, 8]);
  assert.equal(bench.server.waiting, 0);
});

test("eventual: a delta about something unknown fetches it", async () => {
  await bench.live(eventual(3));
  await says(like(4, 2));
  bench.server.next("/comments/2?user=ann").answer(json(comment(2, { likes: 6 })));
  await settle();
  assert.deepEqual(bench.room.comments.map(({ comment, likes }) => [comment, likes]), [[1, 0], [2, 6]]);
  await says(like(5, 3));
  bench.server.next("/comments/3").answer(problem("unknown-comment", 404));
  await settle();
  assert.equal(bench.room.comments.length, 2);
});

test("eventual: the whole room again, at the room's interval at the latest and not all at once", async () => {
  await bench.live(eventual(1));
  await says(like(2));
  for (const [random, ms] of [[0.5, 27_000], [0, 27_000], [1, 24_000], [0.5, 30_000]]) {
    bench.random = random;
    await bench.pass(ms - 10_000);
    await says({ pong: 1 });
    await bench.pass(9999);
    assert.equal(bench.server.waiting, 0);
    await bench.pass(1);
    bench.server.next("/api/rooms/r?").answer(json(eventual(2, [comment(1, { likes: 9 })])));
    await settle();
    assert.equal(bench.room.comments[0].likes, 9);
  }
});

test("eventual: a room that could not be fetched is fetched at the next interval", async () => {
  await bench.live(eventual(1));
  await bench.pass(14_000);
  await says({ pong: 1 });
  await bench.pass(13_000);
  bench.server.next("/api/rooms/r?").fail();
  await settle();
  assert.equal(bench.is, "live");
  await bench.pass(1000);
  await says({ pong: 1 });
  await bench.pass(14_000);
  await says({ pong: 1 });
  await bench.pass(12_000);
  bench.server.next("/api/rooms/r?");
});

test("eventual: a resync fetches the room", async () => {
  await bench.live(eventual(1));
  await says({ resync: { seq: 9 } });
  bench.server.next("/api/rooms/r?").answer(json(eventual(9, [comment(1, { likes: 3 })])));
  await settle();
  assert.equal(bench.room.comments[0].likes, 3);
});

test("eventual: a log that ends before what we have is another one", async () => {
  await bench.live(eventual(9));
  await comesBack(2);
  bench.server.next("/api/rooms/r?").answer(json(eventual(2, [comment(2)])));
  await settle();
  await says(like(3, 2));
  assert.deepEqual(bench.room.comments.map(({ comment, likes }) => [comment, likes]), [[2, 1]]);
});

test("whoever leaves is asked for nothing: neither what was missing nor the room", async () => {
  await bench.enter(eventual(1));
  bench.room.close();
  await bench.pass(30_000);
  await bench.enter();
  await bench.hello(3);
  bench.room.close();
  await bench.pass(STALL_MS);
  assert.equal(bench.server.waiting, 0);
});

// ---- mutations

test("one's own mutation is applied with its answer, and once", async () => {
  await bench.live();
  const done = bench.room.write("hi");
  bench.server.next("/comments").answer(json(created(2, "hi", "ann"), 201));
  await done;
  assert.equal(bench.room.comments.length, 2);
  await says(created(2, "hi", "ann"), like(3, 2));
  assert.deepEqual(bench.applied, [2, 3]);
});

test("one whose turn has not come waits for the connection, which brings all of them", async () => {
  await bench.live();
  const done = bench.room.write("hi");
  bench.server.next("/comments").answer(json(created(3, "hi", "ann"), 201));
  await done;
  assert.deepEqual([bench.is, bench.room.seq, bench.server.waiting], ["live", 1, 0]);
  await says(like(2), created(3, "hi", "ann"));
  assert.deepEqual(bench.applied, [2, 3]);
});

test("each mutation as the API wants it", async () => {
  await bench.live();
  bench.room.write("a");
  bench.room.edit(1, "b");
  bench.room.remove(1);
  bench.room.like(1);
  bench.room.like(1, false);
  const sent = bench.server.requests.slice(1).map(({ method, path, body }) => [method, path.replace("/api/rooms/r/comments", ""), body]);
  assert.deepEqual(sent, [
    ["POST", "", { user: "ann", text: "a" }],
    ["PATCH", "/1", { user: "ann", text: "b" }],
    ["DELETE", "/1?user=ann", undefined],
    ["PUT", "/1/likes/ann", undefined],
    ["DELETE", "/1/likes/ann", undefined],
  ]);
  for (const { answer } of sent.map(() => bench.server.next("/comments"))) answer(json(null, 204));
  await settle();
});

test("a like that was there already is known then", async () => {
  await bench.live();
  const done = bench.room.like(1);
  bench.server.next("/likes/ann").answer(json(null, 204));
  await done;
  assert.equal(bench.room.comments[0].liked, true);
});

test("older comments are fetched before the oldest", async () => {
  await bench.live(roomState(9, [comment(5)], { more: true }));
  const done = bench.room.earlier();
  bench.server.next("/api/rooms/r?limit=100&user=ann&before=5").answer(json(roomState(9, [comment(2)])));
  await done;
  assert.deepEqual([bench.room.comments.map(({ comment }) => comment), bench.room.more], [[2, 5], false]);
});

test("presence is told when it changed", async () => {
  const seen = [];
  bench.room.addEventListener("presence", () => seen.push(bench.room.presence));
  await bench.live();
  await says({ presence: 3 }, { presence: 3 }, { presence: 1 });
  assert.deepEqual(seen, [1, 2, 3, 1]);
});
