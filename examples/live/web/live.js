// The reference client of a live room: connects, notices when the connection is lost, comes back, recovers what it missed, and says how it stands.
//
//   const room = new LiveRoom("lobby", "ann");
//   room.addEventListener("state", () => console.log(room.state));
//   room.addEventListener("change", () => draw(room.comments));
//   room.open();
//   await room.write("Hello");

import { Api } from "./api.js";
import { wait } from "./backoff.js";
import { Connection } from "./connection.js";
import { Replica } from "./replica.js";
import { PATHS } from "./transports.js";

export { Problem } from "./api.js";

/** Deltas that a node said there are, and that have not come after this, are asked for. */
export const STALL_MS = 5000;

/** Comments, and deltas, that are asked for at once. */
const COMMENTS = 100;
const DELTAS = 1000;

/**
 * How it stands.
 *
 * - `closed`: before `open()`, and after `close()`.
 * - `loading`: the room is fetched for the first time, and a connection is made.
 * - `unknown-room`: there is no such room; `make()` makes it.
 * - `reconnecting`: `at` is when the next try begins, in milliseconds since 1970; if that has passed, it is under way.
 * - `catching-up`: connected, and `behind` deltas are still to come.
 * - `live`: connected, and nothing is missing. `via` is "websocket", "stream" or "poll", `node` the name of the server that holds the connection.
 *
 * @typedef {{is: "closed"|"loading"|"unknown-room"} | {is: "reconnecting", at: number, why: string}
 *   | {is: "catching-up", via: string, node: string, behind: number} | {is: "live", via: string, node: string}} State
 */

/**
 * One room. Events: `state` when `state` changed; `presence` when `presence` did; `change` when `comments` did, and `detail.deltas` is what was applied, or
 * null if the room was fetched.
 */
export class LiveRoom extends EventTarget {
  /** @type {State} */
  state = { is: "closed" };
  /** How many are in the room, this one included; null: not known. */
  presence = null;
  /** `{recovery, refetch_s}` of the room; null: not known. */
  settings = null;

  #room;
  #user;
  #url;
  #random;
  #api;
  #replica;
  #connection;
  /** The room was fetched, and nothing says that it is another one by now. */
  #isLoaded = false;
  #isCatchingUp = false;
  /** Times that the API could not be asked for what is missing. */
  #failures = 0;
  #refetchTimer = 0;
  #catchUpTimer = null;

  /**
   * @param {string} room
   * @param {string} user
   * @param {object} [options]
   * @param {string} [options.url] where `/api` and `/live` are; left out: where the page is from
   * @param {() => number} [options.random] from 0 up to 1
   * @param {typeof fetch} [options.fetch]
   * @param {typeof WebSocket} [options.WebSocket]
   * @param {EventTarget[]} [options.wakers] who says `online`, and `visibilitychange`
   */
  constructor(room, user, options = {}) {
    super();
    const { url = location.origin, random = Math.random, wakers = [globalThis.window, globalThis.document] } = options;
    const { fetch = globalThis.fetch.bind(globalThis), WebSocket = globalThis.WebSocket } = options;
    const world = { fetch, WebSocket, random, wakers };
    [this.#room, this.#user, this.#url, this.#random] = [room, user, url, random];
    this.#api = new Api(`${url}/api/rooms/${room}`, world);
    this.#replica = new Replica(user);
    this.#connection = new Connection({
      ready: () => this.#ready(),
      url: (kind) => this.#at(kind),
      hello: (hello) => this.#hello(hello),
      delta: (delta) => this.#hear(delta),
      resync: ({ seq }) => this.#resync(seq),
      presence: (presence) => this.#present(presence),
      lost: (problem) => this.#lost(problem),
      changed: () => this.#show(),
    }, world);
  }

  /** The comments, newest last. */
  get comments() {
    return this.#replica.comments;
  }

  /** The last delta that is in them. */
  get seq() {
    return this.#replica.seq;
  }

  /** Whether there are older comments, for `earlier()`. */
  get more() {
    return this.#replica.more;
  }

  /** Fetches the room, connects, and stays. */
  open() {
    this.#turn({ is: "loading" });
    this.#connection.start();
  }

  /** Leaves. */
  close() {
    this.#rest({ is: "closed" });
  }

  /** Makes the room, which was unknown, and enters. @throws {Problem} */
  async make(settings = { recovery: "strong" }) {
    await this.#api.mutate("PUT", "", settings);
    this.open();
  }

  /** Fetches older comments. @throws {Problem} */
  async earlier() {
    this.#replica.loadEarlier(await this.#api.get(`?limit=${COMMENTS}&user=${this.#user}&before=${this.#replica.oldest}`));
    this.#tell("change", { deltas: null });
  }

  /** @param {string} text @throws {Problem} */
  async write(text) {
    await this.#mutate("POST", "/comments", { user: this.#user, text });
  }

  /** Changes one's own comment. @param {number} id @param {string} text @throws {Problem} */
  async edit(id, text) {
    await this.#mutate("PATCH", `/comments/${id}`, { user: this.#user, text });
  }

  /** Takes one's own comment away. @param {number} id @throws {Problem} */
  async remove(id) {
    await this.#mutate("DELETE", `/comments/${id}?user=${this.#user}`);
  }

  /** @param {number} id @param {boolean} likes false: not any more @throws {Problem} */
  async like(id, likes = true) {
    const delta = await this.#mutate(likes ? "PUT" : "DELETE", `/comments/${id}/likes/${this.#user}`);
    if (delta) return;
    this.#replica.learnLiked(id, likes);
    this.#tell("change", { deltas: [] });
  }

  /** The answer is a delta like any other. One that is not the next comes again in its turn, by the connection. */
  async #mutate(method, path, body) {
    const delta = await this.#api.mutate(method, path, body);
    if (delta?.seq === this.seq + 1) this.#hear(delta);
    return delta;
  }

  // ---- what the connection asks and tells

  async #ready() {
    if (!this.#isLoaded) await this.#load();
  }

  /** Who must have every delta says which it has; who looks at the whole room now and then takes what comes. */
  #at(kind) {
    const after = this.#replica.recovery === "strong" ? `?after=${this.seq}` : "";
    return `${this.#url}/live/${PATHS[kind]}/${this.#room}${after}`;
  }

  #hello({ seq, presence }) {
    if (seq < this.seq) this.#startAnew();
    this.#replica.expect(seq);
    this.#failures = 0;
    this.#catchUpIn(STALL_MS);
    this.#present(presence);
  }

  #hear(delta) {
    const deltas = this.#replica.hear(delta);
    if (deltas.length) this.#tell("change", { deltas });
    // Nobody sends what is missing in between unless asked, and after a failure that is waited with.
    if (this.#replica.gap && this.#failures === 0) this.#catchUp();
    for (const id of this.#replica.takeUnknown()) this.#learn(id);
    this.#show();
  }

  #resync(seq) {
    this.#replica.expect(seq);
    if (this.#replica.recovery === "strong") this.#catchUp();
    else this.#refetch();
  }

  #present(presence) {
    if (presence === this.presence) return;
    this.presence = presence;
    this.#tell("presence");
  }

  #lost(problem) {
    clearTimeout(this.#catchUpTimer);
    // Then the log there is not the one that we know: everything anew.
    if (problem === "from-the-future" || problem === "unknown-room") this.#isLoaded = false;
    if (problem === "unknown-room") this.#rest({ is: "unknown-room" });
  }

  // ---- recovery

  /** The room as it is now. @throws {Problem} */
  async #load() {
    const state = await this.#api.get(`?limit=${COMMENTS}&user=${this.#user}`);
    if (!this.#isLoaded) this.#replica.forget();
    this.#replica.load(state);
    this.#isLoaded = true;
    this.settings = { recovery: state.recovery, refetch_s: state.refetch_s };
    this.#refetchIn(state.refetch_s);
    this.#present(this.presence ?? state.presence);
    this.#tell("change", { deltas: null });
  }

  /** The deltas after the last one, from the API, until none is missing. */
  async #catchUp() {
    if (this.#isCatchingUp) return;
    this.#isCatchingUp = true;
    let again = STALL_MS;
    try {
      await this.#fetchDeltas();
      this.#failures = 0;
    } catch (problem) {
      again = wait(++this.#failures, this.#random(), problem.askedMs);
    }
    this.#isCatchingUp = false;
    this.#catchUpIn(again);
    this.#show();
  }

  async #fetchDeltas() {
    try {
      let page;
      do {
        page = await this.#api.get(`/deltas?after=${this.seq}&limit=${DELTAS}`);
        for (const delta of page.deltas) this.#hear(delta);
      } while (page.deltas.length && this.#replica.behind);
    } catch (problem) {
      if (problem.type === "from-the-future") this.#isLoaded = false;
      else if (problem.type !== "window-passed") throw problem;
      await this.#load();
    }
  }

  /** If something is missing then. */
  #catchUpIn(ms) {
    clearTimeout(this.#catchUpTimer);
    if (this.#connection.current && this.#replica.behind) this.#catchUpTimer = setTimeout(() => this.#catchUp(), ms);
  }

  /** The log ends before what we have: it may be another one. */
  #startAnew() {
    this.#isLoaded = false;
    this.#refetch();
  }

  async #refetch() {
    await this.#load().catch(() => this.#refetchIn(this.settings.refetch_s));
    this.#show();
  }

  /** Never later than the room says, and not everybody at once. */
  #refetchIn(seconds) {
    clearTimeout(this.#refetchTimer);
    if (seconds) this.#refetchTimer = setTimeout(() => this.#refetch(), seconds * 1000 * (0.8 + 0.2 * this.#random()));
  }

  async #learn(id) {
    try {
      this.#replica.learn(await this.#api.get(`/comments/${id}?user=${this.#user}`));
      this.#tell("change", { deltas: [] });
    } catch {
      // It is gone by now, or the next look at the whole room brings it.
    }
  }

  // ---- how it stands

  #rest(state) {
    this.#connection.stop();
    clearTimeout(this.#refetchTimer);
    clearTimeout(this.#catchUpTimer);
    this.#isLoaded = false;
    this.#turn(state);
  }

  #show() {
    const { current, waiting } = this.#connection;
    const { behind } = this.#replica;
    if (current) {
      const { kind: via, node } = current;
      this.#turn(behind ? { is: "catching-up", via, node, behind } : { is: "live", via, node });
    } else if (waiting) {
      this.#turn({ is: "reconnecting", at: waiting.at, why: waiting.why });
    }
    // With neither, a try is under way, and what was said before holds.
  }

  #turn(state) {
    if (JSON.stringify(state) === JSON.stringify(this.state)) return;
    this.state = state;
    this.#tell("state");
  }

  #tell(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }
}
