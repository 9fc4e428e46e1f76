import assert from "node:assert/strict";
import { test } from "node:test";

import { Choice, PASSED_OVER_MS } from "../choice.js";

test("the best first, and one failure is none", () => {
  const choice = new Choice();
  assert.equal(choice.pick(0), "websocket");
  choice.failed("websocket", false, 0);
  assert.equal(choice.pick(0), "websocket");
});

test("two failures in a row, and it is passed over", () => {
  const choice = new Choice();
  choice.failed("websocket", false, 0);
  choice.failed("websocket", false, 0);
  assert.equal(choice.pick(0), "stream");
  choice.failed("stream", false, 0);
  choice.failed("stream", false, 0);
  assert.equal(choice.pick(0), "poll");
});

test("a hello in between, and they are not in a row", () => {
  const choice = new Choice();
  choice.failed("websocket", false, 0);
  choice.worked("websocket");
  choice.failed("websocket", false, 0);
  assert.equal(choice.pick(0), "websocket");
});

test("one that says nothing is passed over at once", () => {
  const choice = new Choice();
  choice.failed("websocket", true, 0);
  assert.equal(choice.pick(0), "stream");
});

test("after some minutes it is tried again, once", () => {
  const choice = new Choice();
  choice.failed("websocket", true, 0);
  assert.equal(choice.betterAt("stream"), PASSED_OVER_MS);
  assert.equal(choice.pick(PASSED_OVER_MS - 1), "stream");
  assert.equal(choice.pick(PASSED_OVER_MS), "websocket");
  choice.failed("websocket", false, PASSED_OVER_MS);
  assert.equal(choice.pick(PASSED_OVER_MS), "stream");
});

test("there is nothing better than the best; for the last, whichever may be tried first", () => {
  const choice = new Choice();
  assert.equal(choice.betterAt("websocket"), null);
  choice.failed("websocket", true, 1000);
  choice.failed("stream", true, 0);
  assert.equal(choice.betterAt("poll"), PASSED_OVER_MS);
});

test("if none passes, it is not the transports: all are forgiven", () => {
  const choice = new Choice();
  for (const kind of ["websocket", "stream", "poll"]) choice.failed(kind, true, 0);
  assert.equal(choice.pick(0), "websocket");
  choice.failed("websocket", false, 0);
  assert.equal(choice.pick(0), "websocket");
  choice.failed("websocket", false, 0);
  assert.equal(choice.pick(0), "stream");
});

test("another network forgives", () => {
  const choice = new Choice();
  choice.failed("websocket", true, 0);
  choice.forgive();
  assert.equal(choice.pick(0), "websocket");
});
