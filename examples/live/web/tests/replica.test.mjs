import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { COMMENTS_MAX, EARLY_MAX, RECENT_MAX, Replica } from "../replica.js";
import { comment, created, like, roomState } from "./fakes.mjs";

// Cases that any client of a room can be held against: see the file's `about`.
const { cases } = JSON.parse(readFileSync(new URL("replica.json", import.meta.url)));

for (const { name, user, steps } of cases) {
  test(name, () => {
    const replica = new Replica(user);
    for (const [at, { then, ...step }] of steps.entries()) {
      const [what, value] = Object.entries(step)[0];
      const applied = [];
      if (what === "hear") for (const delta of value) applied.push(...replica.hear(delta).map(({ seq }) => seq));
      else replica[what](value);
      const { comments, seq, behind, more, gap } = replica;
      const is = { applied, comments, seq, behind, more, gap, unknown: then && "unknown" in then ? replica.takeUnknown() : null };
      for (const [key, wanted] of Object.entries(then ?? {})) assert.deepEqual(is[key], wanted, `step ${at}: ${key}`);
    }
  });
}

test("however deltas come, doubled and out of order, a strong room has the log's state", () => {
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 200; round++) {
    const log = [];
    const model = new Map();
    for (let seq = 1; seq <= 60; seq++) {
      const ids = [...model.keys()];
      const id = ids[random(ids.length || 1)];
      const action = id === undefined || random(3) === 0 ? "create" : ["edit", "like", "unlike", "delete"][random(4)];
      const delta = { ...created(seq), action, comment: action === "create" ? seq : id };
      log.push(delta);
      const { likes = 0 } = model.get(delta.comment) ?? {};
      if (action === "create") model.set(seq, { text: delta.text, likes });
      if (action === "edit") model.get(id).text = delta.text;
      if (action === "like") model.get(id).likes = likes + 1;
      if (action === "unlike") model.get(id).likes = likes - 1;
      if (action === "delete") model.delete(id);
    }
    const replica = new Replica("ann");
    replica.load(roomState(0));
    const heard = [...log, ...log].sort(() => random(3) - 1);
    const applied = heard.flatMap((delta) => replica.hear(delta)).map(({ seq }) => seq);
    assert.deepEqual(applied, log.map(({ seq }) => seq));
    assert.deepEqual(replica.comments.map(({ comment, text, likes }) => [comment, { text, likes }]), [...model].sort(([a], [b]) => a - b));
    assert.equal(replica.behind, 0);
  }
});

test("what is kept is bounded, and what did not fit is still known to be missing", () => {
  const replica = new Replica("ann");
  replica.load(roomState(0, [comment(1)]));
  for (let seq = 2; seq < EARLY_MAX + 100; seq++) assert.deepEqual(replica.hear(like(seq)), []);
  assert.equal(replica.behind, EARLY_MAX + 99);
  assert.equal(replica.hear(like(1)).length, EARLY_MAX + 1);
  assert.equal(replica.behind, 98);
});

test("only the newest comments are kept, and the rest is known to exist", () => {
  const replica = new Replica("ann");
  replica.load(roomState(0));
  for (let seq = 1; seq <= COMMENTS_MAX + 1; seq++) replica.hear(created(seq));
  assert.equal(replica.comments.length, COMMENTS_MAX + 1 - COMMENTS_MAX / 10);
  assert.equal(replica.oldest, replica.comments[0].comment);
  assert.equal(replica.more, true);
});

test("a page of older comments that is older than what is remembered is not taken", () => {
  const replica = new Replica("ann");
  replica.load(roomState(10, [comment(10)], { more: true }));
  for (let seq = 11; seq <= 11 + RECENT_MAX; seq++) replica.hear(like(seq, 10));
  replica.loadEarlier(roomState(10, [comment(3)]));
  assert.equal(replica.more, true);
  replica.loadEarlier(roomState(11, [comment(3)]));
  assert.deepEqual([replica.more, replica.oldest], [false, 3]);
});
