import assert from "node:assert/strict";
import { test } from "node:test";

import { EVENT_MAX, EventStreamReader } from "../eventstream.js";

const stream = ': hello\nretry: 1000\r\n\r\nevent: hello\ndata: {"seq":1}\n\nid: 2\rdata: a\r\rdata:b\ndata: c\n\nunknown: x\nevent: empty\n\ndata: d\n\n';
const expected = [
  { event: "hello", data: '{"seq":1}' },
  { event: "message", data: "a" },
  { event: "message", data: "b\nc" },
  { event: "message", data: "d" },
];

test("events, comments, retry and all three line ends, however they are cut", () => {
  for (let size = 1; size <= stream.length; size++) {
    const reader = new EventStreamReader();
    const events = [];
    let retryMs;
    for (let at = 0; at < stream.length; at += size) {
      const some = reader.push(stream.slice(at, at + size));
      events.push(...some);
      retryMs = some.retryMs ?? retryMs;
    }
    assert.deepEqual(events, expected, `in pieces of ${size}`);
    assert.equal(retryMs, 1000);
  }
});

test("a retry that is no number asks for nothing", () => {
  assert.equal(new EventStreamReader().push("retry: soon\n\n").retryMs, undefined);
});

test("an event without an end is not kept for ever", () => {
  const reader = new EventStreamReader();
  reader.push(`data: ${"x".repeat(EVENT_MAX - 10)}\n`);
  assert.throws(() => reader.push(`data: ${"y".repeat(20)}\n`), RangeError);
  assert.throws(() => new EventStreamReader().push("z".repeat(EVENT_MAX + 1)), RangeError);
});
