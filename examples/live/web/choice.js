// Which transport to use: the best one that this network lets through. Pure: `now` is an argument, in milliseconds.

/** Best first. */
export const KINDS = ["websocket", "stream", "poll"];

/** A transport that failed so often in a row, each time before its hello, is passed over. */
export const TRIES = 2;

/** After so long it is tried again: networks change, and proxies are mended. */
export const PASSED_OVER_MS = 300_000;

export class Choice {
  /** By kind: failures in a row, and until when it is passed over. */
  #failures = new Map();

  /**
   * The best transport that is not passed over. If all are, it was not their fault: all are forgiven.
   *
   * @param {number} now
   * @returns {string} one of KINDS
   */
  pick(now) {
    const kind = KINDS.find((kind) => this.#opensAt(kind) <= now);
    if (kind) return kind;
    this.forgive();
    return KINDS[0];
  }

  /**
   * When a better transport than `kind` may be tried; null: there is none.
   *
   * @param {string} kind the one in use
   * @returns {?number}
   */
  betterAt(kind) {
    const better = KINDS.slice(0, KINDS.indexOf(kind));
    return better.length ? Math.min(...better.map((kind) => this.#opensAt(kind))) : null;
  }

  /**
   * It failed before its hello.
   *
   * @param {string} kind
   * @param {boolean} late it said nothing at all within its time, as when a proxy holds everything back: a second try would be as long
   * @param {number} now
   */
  failed(kind, late, now) {
    const tries = (this.#failures.get(kind)?.tries ?? 0) + 1;
    this.#failures.set(kind, { tries, until: late || tries >= TRIES ? now + PASSED_OVER_MS : 0 });
  }

  /** It said hello. */
  worked(kind) {
    this.#failures.delete(kind);
  }

  /** Another network, or no network at all for a while: what failed there says nothing. */
  forgive() {
    this.#failures.clear();
  }

  #opensAt(kind) {
    return this.#failures.get(kind)?.until ?? 0;
  }
}
