import assert from "node:assert/strict";
import { test } from "node:test";

import { clock, hue, news, recoveryWords, stateLine } from "../words.js";
import { created, like } from "./fakes.mjs";

test("every state in a line", () => {
  const line = (state, presence = 12) => stateLine(state, presence, 10_000);
  const at = { node: "node-20003" };
  assert.equal(line({ is: "live", via: "websocket", ...at }), "live over WebSocket · held by node-20003 · 12 here");
  assert.equal(line({ is: "live", via: "stream", ...at }, null), "live over an event stream · held by node-20003");
  assert.equal(line({ is: "live", via: "poll", ...at }, 1200), "live over long-poll · held by node-20003 · 1,200 here");
  assert.equal(line({ is: "catching-up", via: "websocket", behind: 14, ...at }), "catching up 14 deltas over WebSocket · held by node-20003 · 12 here");
  assert.equal(line({ is: "catching-up", via: "websocket", behind: 1, ...at }, null), "catching up 1 delta over WebSocket · held by node-20003");
  assert.equal(line({ is: "reconnecting", at: 12_001, why: "closed with 1006" }), "reconnecting in 3 s · closed with 1006");
  assert.equal(line({ is: "reconnecting", at: 10_000, why: "closed with 1006" }), "reconnecting now");
  assert.deepEqual(["loading", "unknown-room", "closed"].map((is) => line({ is })), ["coming in", "no such room yet", "closed"]);
});

test("what kind of room it is", () => {
  assert.match(recoveryWords({ recovery: "strong" }), /each delta is applied once and in order/);
  assert.match(recoveryWords({ recovery: "eventual", refetch_s: 30 }), /after 30 seconds at the latest/);
  assert.match(recoveryWords({ recovery: "eventual" }), /opened again/);
});

test("a time of today is a time, another has its day", () => {
  const at = new Date(2026, 0, 2, 12, 34).getTime();
  assert.equal(clock(at / 1000, at + 60_000), "12:34");
  assert.equal(clock(at / 1000, at + 86_400_000), "2 Jan, 12:34");
});

test("a name has one colour", () => {
  assert.equal(hue("ann"), hue("ann"));
  assert.notEqual(hue("ann"), hue("bob"));
  assert.ok(hue("a-very-long-name-of-32-characters") < 360);
});

test("what others wrote is told; likes, and one's own, are not", () => {
  assert.equal(news([like(1), created(2, "mine", "ann")], "ann"), "");
  assert.equal(news([created(1, "hello"), like(2)], "ann"), "bob says: hello");
  assert.equal(news([created(1), created(2)], "ann"), "2 new comments");
});
