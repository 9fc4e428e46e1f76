// Keeps one connection: over the best transport that the network lets through, back after each loss, without storming the servers.

import { wait } from "./backoff.js";
import { Choice } from "./choice.js";
import { TRANSPORTS } from "./transports.js";

/** A connection says hello within this, or its transport is passed over. */
export const HELLO_MS = 5000;

/** A connection that lasted so long was a good one: the next try comes at once. So it does, or when it is asked for, after one that was told to come back. */
export const LASTED_MS = 10_000;

/**
 * Who keeps a connection. `hello`, `delta`, `resync` and `presence` are told as transports tell them.
 *
 * @typedef {object} Owner
 * @property {() => Promise<void>} ready before each connection; a Problem that it throws is a failed try
 * @property {(kind: string) => string} url where to connect to
 * @property {(problem: ?string) => void} lost the connection, or a try; `problem` is its kind, if a server named one. It may `stop()`
 * @property {() => void} changed `current` or `waiting` did
 */

export class Connection {
  /** The connection in use: `{kind, node}`; null: none. */
  current = null;
  /** The next try: `{at, why}`, `at` in milliseconds since 1970; null: none is waited for. */
  waiting = null;

  #owner;
  #world;
  #choice = new Choice();
  /** The one that has not said hello yet. */
  #opening = null;
  #failures = 0;
  #better = 0;
  /** Counts stops: what was begun before one is not gone on with. */
  #turn = 0;
  #listening = null;

  /**
   * @param {Owner} owner
   * @param {{fetch: typeof fetch, WebSocket: typeof WebSocket, random: () => number, wakers: EventTarget[]}} world `wakers` are window and document
   */
  constructor(owner, world) {
    this.#owner = owner;
    this.#world = world;
  }

  start() {
    this.#listening = new AbortController();
    const [window, document] = this.#world.wakers;
    const { signal } = this.#listening;
    window.addEventListener("online", () => this.#online(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake(), { signal });
    this.#go();
  }

  stop() {
    this.#turn++;
    this.#listening?.abort();
    clearTimeout(this.waiting?.timer);
    clearTimeout(this.#better);
    for (const connection of [this.current, this.#opening]) this.#leave(connection);
    this.waiting = this.current = this.#opening = null;
  }

  async #go() {
    this.waiting = null;
    const turn = this.#turn;
    try {
      await this.#owner.ready();
    } catch (problem) {
      if (turn === this.#turn) this.#lost(problem.message, problem.askedMs, problem.type, true);
      return;
    }
    if (turn === this.#turn) this.#connect();
  }

  #connect() {
    const kind = this.#choice.pick(Date.now());
    const connection = { kind, node: null, link: null, helloAt: null };
    this.#opening = connection;
    connection.timer = setTimeout(() => this.#end(connection, { why: "no hello", askedMs: null, refused: false, late: true }), HELLO_MS);
    const { delta, resync } = this.#owner;
    connection.link = new TRANSPORTS[kind](this.#owner.url(kind), {
      hello: (hello) => this.#hello(connection, hello),
      delta,
      resync,
      presence: (presence, node) => this.#present(connection, presence, node),
      end: (end) => this.#end(connection, end),
    }, this.#world);
  }

  #hello(connection, hello) {
    clearTimeout(connection.timer);
    this.#choice.worked(connection.kind);
    this.#leave(this.current);
    [this.current, this.#opening, this.waiting] = [connection, null, null];
    connection.node = hello.node;
    connection.helloAt = Date.now();
    this.#owner.hello(hello);
    this.#owner.changed();
    this.#tryBetter();
  }

  #present(connection, presence, node = connection.node) {
    connection.node = node;
    this.#owner.presence(presence);
    this.#owner.changed();
  }

  #end(connection, { why, askedMs, refused, late = false, problem = null }) {
    this.#leave(connection);
    const { helloAt } = connection;
    const wasBetter = this.current !== null && connection === this.#opening;
    // One that was only tried beside a good one has had its chance, whatever it says.
    if (helloAt === null && (wasBetter || !refused)) this.#choice.failed(connection.kind, late || wasBetter, Date.now());
    if (connection === this.#opening) this.#opening = null;
    else this.current = null;
    if (wasBetter) return this.#tryBetter();
    const wasGood = helloAt !== null && (askedMs !== null || Date.now() - helloAt >= LASTED_MS);
    if (!this.#opening) return this.#lost(why, askedMs, problem, !wasGood);
    // A better one is under way already.
    this.waiting = { at: Date.now(), why, isAsked: true };
    this.#owner.changed();
  }

  #lost(why, askedMs, problem, isFailure) {
    clearTimeout(this.#better);
    this.#failures = isFailure ? this.#failures + 1 : 0;
    const ms = wait(this.#failures, this.#world.random(), askedMs);
    this.waiting = { at: Date.now() + ms, why, isAsked: askedMs !== null, timer: setTimeout(() => this.#go(), ms) };
    this.#owner.lost(problem);
    this.#owner.changed();
  }

  #leave(connection) {
    clearTimeout(connection?.timer);
    connection?.link.close();
  }

  /** On a lesser transport: when a better one may be tried, it is tried beside it, so that nothing is lost if it fails. */
  #tryBetter() {
    clearTimeout(this.#better);
    const at = this.#choice.betterAt(this.current.kind);
    if (at !== null) this.#better = setTimeout(() => this.#connect(), at - Date.now());
  }

  /** Another network: what did not pass through the last one may pass through this. */
  #online() {
    this.#choice.forgive();
    this.#wake();
    if (this.current && !this.#opening) this.#tryBetter();
  }

  /** Somebody looks: do not let them wait, unless the server asked for it. */
  #wake() {
    this.current?.link.check();
    if (!this.waiting || this.waiting.isAsked) return;
    clearTimeout(this.waiting.timer);
    this.#go();
  }
}
