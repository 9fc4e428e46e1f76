import assert from "node:assert/strict";
import { test } from "node:test";

import { ASKED_MAX_MS, INTERVAL_MAX_MS, retryAfter, wait } from "../backoff.js";

test("after a connection that lasted, at once", () => {
  assert.equal(wait(0, 0.99), 0);
});

test("intervals double up to two minutes, and every moment of them is as likely", () => {
  const intervals = [1, 2, 3, 4, 5, 6, 7, 8, 50, 5000].map((failures) => wait(failures, 1));
  assert.deepEqual(intervals, [2000, 4000, 8000, 16_000, 32_000, 64_000, 120_000, 120_000, 120_000, 120_000]);
  assert.equal(INTERVAL_MAX_MS, 120_000);
  assert.equal(wait(3, 0), 0);
  assert.equal(wait(3, 0.25), 2000);
});

test("who is asked to come back does so within a second, not all at the same moment", () => {
  assert.equal(wait(0, 0, 0), 0);
  assert.equal(wait(0, 0.5, 0), 500);
});

test("never earlier than the server asked, and spread after it", () => {
  assert.equal(wait(0, 0, 5000), 5000);
  assert.equal(wait(0, 0.5, 5000), 5500);
  assert.equal(wait(4, 0.5, 5000), 13_000);
});

test("a server is obeyed for an hour at most", () => {
  assert.equal(wait(0, 0, 1e12), ASKED_MAX_MS);
});

test("Retry-After is seconds or a date", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  assert.equal(retryAfter("120", now), 120_000);
  assert.equal(retryAfter("Thu, 01 Jan 2026 00:00:30 GMT", now), 30_000);
  assert.equal(retryAfter("Wed, 31 Dec 2025 00:00:00 GMT", now), 0);
  assert.equal(retryAfter("soon", now), null);
  assert.equal(retryAfter(null, now), null);
});
