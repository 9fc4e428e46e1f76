// Three ways to the same deltas. Each says hello, then deltas, presence and resyncs, and its end once; each notices when nothing comes any more.

import { Problem } from "./api.js";
import { EventStreamReader } from "./eventstream.js";

/** A WebSocket that was silent for so long is asked whether it is there; an event stream's server says something at least so often. */
export const SILENCE_MS = 15_000;

/** What must come then, comes within this. */
export const ANSWER_MS = 5000;

/** A poll is answered after 25 s at the latest. */
export const POLL_MS = 25_000 + 2 * ANSWER_MS;

/** Two polls without anything new are this far apart, even if a server answers at once. */
export const POLL_PAUSE_MS = 1000;

/** `readyState` of a socket that takes messages. */
const OPEN = 1;

/** Closes that say "come back": the server leaves (1001), or this session is to move to another (1012). */
const COME_BACK = [1001, 1012];

/** Close 1013: no seat now. It names no time, so here is the least. */
const TRY_LATER = 1013;
const LATER_MS = 1000;

/**
 * What a transport tells. After `end`, nothing more; after `close()`, nothing at all.
 *
 * @typedef {object} Told
 * @property {(hello: {node: string, seq: number, presence: number}) => void} hello first; `seq` is the newest delta of the room
 * @property {(delta: import("./replica.js").Delta) => void} delta
 * @property {(resync: {seq: number}) => void} resync deltas up to `seq` will not come this way
 * @property {(presence: number, node?: string) => void} presence how many are in the room, and who says so if that changed
 * @property {(end: End) => void} end
 *
 * @typedef {object} End
 * @property {string} why in words
 * @property {?number} askedMs when to come back at the earliest, if the server said
 * @property {boolean} refused a server said no: nothing is wrong with the transport
 * @property {string} [problem] the kind of the problem, if the server named one
 */

/** @typedef {{fetch: typeof fetch, WebSocket: typeof WebSocket}} World */

/** What all have: told once, and a watch over silence. */
class Transport {
  #told;
  #timer = 0;

  /** @param {Told} told */
  constructor(told) {
    this.#told = told;
  }

  /** Leaves; nothing more is told. */
  close() {
    clearTimeout(this.#timer);
    this.#told = null;
    this.shut();
  }

  tell(what, ...args) {
    this.#told?.[what](...args);
  }

  end(why, { askedMs = null, refused = false, problem } = {}) {
    const told = this.#told;
    this.close();
    told?.end({ why, askedMs, refused, problem });
  }

  /** In `ms`, unless something comes before: `then`. */
  watch(ms, then) {
    clearTimeout(this.#timer);
    if (this.#told) this.#timer = setTimeout(then, ms);
  }

  /** What the server meant by another answer than what was asked for. */
  async refuse(answer) {
    const problem = await Problem.of(answer);
    const refused = problem.passes || problem.type !== "";
    this.end(problem.message, { askedMs: problem.askedMs, refused, problem: problem.type });
  }
}

export class WebSocketTransport extends Transport {
  #socket;
  #pings = 0;

  /**
   * @param {string} url of the room at the node, `?after=` included; `http…`
   * @param {Told} told
   * @param {World} world
   */
  constructor(url, told, { WebSocket }) {
    super(told);
    this.#socket = new WebSocket(url.replace(/^http/, "ws"));
    this.#socket.onmessage = ({ data }) => this.#hear(data);
    this.#socket.onclose = ({ code }) => {
      const refused = code === TRY_LATER;
      this.end(`closed with ${code}`, { refused, askedMs: refused ? LATER_MS : COME_BACK.includes(code) ? 0 : null });
    };
  }

  /** Is it there? Asked when the device wakes up: no timer ran while it slept. */
  check() {
    if (this.#socket.readyState === OPEN) this.#socket.send(JSON.stringify({ ping: ++this.#pings }));
    this.watch(ANSWER_MS, () => this.end("no answer to a ping"));
  }

  #hear(data) {
    this.watch(SILENCE_MS, () => this.check());
    const message = parsed(data);
    if (!message) this.end("a message that is none");
    else if (message.seq) this.tell("delta", message);
    else if (message.hello) this.tell("hello", message.hello);
    else if (message.resync) this.tell("resync", message.resync);
    else if (message.presence !== undefined) this.tell("presence", message.presence);
  }

  shut() {
    this.#socket.onmessage = this.#socket.onclose = null;
    // Without a code it is 1005 there; a browser lets a page say 1000 only.
    this.#socket.close(1000);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * An event stream, read with `fetch`. Not with EventSource, which hides what matters here: the comments by which a silent connection is known from a lost
 * one, the status and `Retry-After` of a refusal, and `retry:`; and it stops for ever at any status but 200.
 */
export class StreamTransport extends Transport {
  #abort = new AbortController();
  #retryMs = null;
  #heardAt = Date.now();

  /**
   * @param {string} url of the room at the node, `?after=` included
   * @param {Told} told
   * @param {World} world
   */
  constructor(url, told, { fetch }) {
    super(told);
    this.#read(url, fetch).catch(() => this.end("the connection broke", { askedMs: this.#retryMs }));
  }

  check() {
    if (Date.now() - this.#heardAt > SILENCE_MS + ANSWER_MS) this.end("silence");
  }

  async #read(url, fetch) {
    const answer = await fetch(url, { headers: { accept: "text/event-stream" }, cache: "no-store", signal: this.#abort.signal });
    if (!answer.ok) return this.refuse(answer);
    const reader = new EventStreamReader();
    const text = new TextDecoder();
    const body = answer.body.getReader();
    for (let piece; !(piece = await body.read()).done; ) {
      this.#heardAt = Date.now();
      this.watch(SILENCE_MS + ANSWER_MS, () => this.end("silence"));
      const events = reader.push(text.decode(piece.value, { stream: true }));
      this.#retryMs = events.retryMs ?? this.#retryMs;
      for (const { event, data } of events) this.#hear(event, JSON.parse(data));
    }
    // A server that has no seat answers with nothing but when to come back.
    this.end("the stream ended", { askedMs: this.#retryMs, refused: this.#retryMs !== null });
  }

  #hear(event, value) {
    if (event === "message") this.tell("delta", value);
    else if (["hello", "resync", "presence"].includes(event)) this.tell(event, value);
  }

  shut() {
    this.#abort.abort();
  }
}

/** One request after the other, each answered when there is something new. */
export class PollTransport extends Transport {
  #abort = new AbortController();
  #askedAt = 0;

  /**
   * @param {string} url of the room at the node, `?after=` included or not
   * @param {Told} told
   * @param {World} world
   */
  constructor(url, told, { fetch }) {
    super(told);
    this.#poll(url, fetch).catch(() => this.end("the connection broke"));
  }

  check() {
    if (Date.now() - this.#askedAt > POLL_MS) this.end("silence");
  }

  async #poll(url, fetch) {
    const room = new URL(url);
    let after = room.searchParams.get("after");
    room.searchParams.delete("after");
    // Without `after` it is answered at once: so much for hello.
    let answer = await this.#ask(room, fetch);
    if (!answer) return;
    this.tell("hello", { node: answer.node, seq: answer.seq, presence: answer.presence });
    after ??= answer.seq;
    for (;;) {
      room.searchParams.set("after", after);
      answer = await this.#ask(room, fetch);
      if (!answer) return;
      if (answer.presence !== undefined) this.tell("presence", answer.presence, answer.node);
      for (const delta of answer.deltas ?? []) this.tell("delta", delta);
      if (answer.resync) this.tell("resync", { seq: answer.seq });
      const last = answer.resync ? answer.seq : answer.deltas.at(-1)?.seq;
      after = last ?? after;
      if (!answer.deltas?.length) await this.#pause();
    }
  }

  /** The answer; nothing if it was the end. */
  async #ask(room, fetch) {
    this.#askedAt = Date.now();
    this.watch(POLL_MS, () => this.end("silence"));
    const answer = await fetch(room.href, { cache: "no-store", signal: this.#abort.signal });
    if (answer.status === 410) return { resync: true, seq: (await answer.json()).seq };
    return answer.ok ? answer.json() : this.refuse(answer);
  }

  #pause() {
    return new Promise((resolve) => this.watch(Math.max(0, this.#askedAt + POLL_PAUSE_MS - Date.now()), resolve));
  }

  shut() {
    this.#abort.abort();
  }
}

export const TRANSPORTS = { websocket: WebSocketTransport, stream: StreamTransport, poll: PollTransport };

/** Where a node has each. */
export const PATHS = { websocket: "ws", stream: "events", poll: "poll" };
