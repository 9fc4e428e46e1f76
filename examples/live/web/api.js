// Queries and mutations, over HTTP only. A mutation carries a key of its own, so that it may be tried again without being done twice.

import { retryAfter, wait } from "./backoff.js";

/** One exchange takes no longer. */
export const ANSWER_MS = 10_000;

/** A mutation is not begun again after so long: the user has turned to something else. */
export const MUTATION_MS = 60_000;

/** What a server in trouble, or a proxy without a server, answers; nothing else is worth another try. */
const TRY_AGAIN = [429, 502, 503, 504];

/** Why the API said no (RFC 9457), or why there is no answer (`status` 0). */
export class Problem extends Error {
  /**
   * @param {object} told `type` (without `urn:live:problem:`), `status`, `detail` and what else the API says
   * @param {?number} askedMs how long it asks to be left alone
   */
  constructor(told, askedMs = null) {
    super(told.detail ?? told.title ?? `status ${told.status}`);
    Object.assign(this, told, { type: (told.type ?? "").replace("urn:live:problem:", ""), askedMs });
  }

  /** Whether another try may succeed. */
  get passes() {
    return this.status === 0 || TRY_AGAIN.includes(this.status);
  }

  /** What an answer that is no success says. */
  static async of(answer) {
    const told = await answer.json().catch(() => ({}));
    return new Problem({ ...told, status: answer.status }, retryAfter(answer.headers.get("retry-after"), Date.now()));
  }
}

export class Api {
  #base;
  #fetch;
  #random;

  /**
   * @param {string} base where the API is, without a slash at the end
   * @param {{fetch: typeof fetch, random: () => number}} world
   */
  constructor(base, { fetch, random }) {
    this.#base = base;
    // A browser's own must not be called as somebody's method.
    this.#fetch = (...args) => fetch(...args);
    this.#random = random;
  }

  /** GET: what is there. One try. @throws {Problem} */
  async get(path) {
    return (await this.#ask("GET", path)).json();
  }

  /**
   * A mutation, tried again with the same key as long as the trouble is the server's.
   *
   * @param {"POST"|"PUT"|"PATCH"|"DELETE"} method
   * @param {string} path
   * @param {object} [body]
   * @returns {Promise<?object>} the answer; null if nothing changed (204)
   * @throws {Problem} the API refuses it, or a minute has passed
   */
  async mutate(method, path, body) {
    const headers = { "idempotency-key": key() };
    const until = Date.now() + MUTATION_MS;
    for (let failures = 1; ; failures++) {
      try {
        const answer = await this.#ask(method, path, headers, body);
        return answer.status === 204 ? null : await answer.json();
      } catch (problem) {
        const ms = wait(failures, this.#random(), problem.askedMs);
        if (!problem.passes || Date.now() + ms > until) throw problem;
        await new Promise((resolve) => setTimeout(resolve, ms));
      }
    }
  }

  async #ask(method, path, headers = {}, body) {
    const abort = new AbortController();
    const late = setTimeout(() => abort.abort(), ANSWER_MS);
    try {
      const init = { method, headers: { ...headers }, signal: abort.signal, cache: "no-store" };
      if (body) {
        init.body = JSON.stringify(body);
        init.headers["content-type"] = "application/json";
      }
      const answer = await this.#fetch(this.#base + path, init);
      if (!answer.ok) throw await Problem.of(answer);
      // Read within its time, too: an answer may stop in its middle.
      const text = await answer.text();
      return { status: answer.status, json: () => JSON.parse(text) };
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Problem({ status: 0, detail: abort.signal.aborted ? "the server does not answer" : "the server cannot be reached" });
    } finally {
      clearTimeout(late);
    }
  }
}

/** Not `crypto.randomUUID`, which a page over plain HTTP does not have. */
function key() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
