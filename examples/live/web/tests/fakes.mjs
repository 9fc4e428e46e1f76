// Doubles of what a browser gives: a WebSocket and a server's answers, each driven by the test.

/** Lets everything run that waits for nothing but its turn. `setImmediate` is never mocked here. */
export const settle = async () => {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
};

export class FakeWebSocket {
  static all = [];
  static get last() {
    return this.all.at(-1);
  }

  readyState = 0;
  sent = [];

  constructor(url) {
    this.url = url;
    FakeWebSocket.all.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  /** By the page. */
  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }

  // What the server does.
  says(...messages) {
    this.readyState = 1;
    for (const message of messages) this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }

  ends(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

/** Answers requests as the test says, in the order of `plan` or by `answer(request)`; remembers them. */
export class FakeServer {
  requests = [];
  #waiting = [];

  fetch = (url, init = {}) => {
    const { method = "GET", headers = {}, body, signal } = init;
    const request = { url: String(url), path: new URL(url).pathname + new URL(url).search, method, headers, body: body && JSON.parse(body), signal };
    this.requests.push(request);
    return new Promise((resolve, reject) => {
      request.answer = resolve;
      request.fail = () => reject(new TypeError("Failed to fetch"));
      signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
      if (this.byItself?.(request) === undefined) this.#waiting.push(request);
    });
  };

  /** The oldest request that has no answer yet and whose path contains `part`. */
  next(part = "") {
    const at = this.#waiting.findIndex(({ path }) => path.includes(part));
    if (at < 0) throw new Error(`nobody asked for ${part}; asked: ${this.requests.map((r) => `${r.method} ${r.path}`).join(", ")}`);
    return this.#waiting.splice(at, 1)[0];
  }

  /** How many wait for an answer. */
  get waiting() {
    return this.#waiting.length;
  }
}

export const json = (value, status = 200, headers = {}) => new Response(status === 204 ? null : JSON.stringify(value), { status, headers });

export const problem = (kind, status, more = {}, headers = {}) =>
  json({ type: `urn:live:problem:${kind}`, title: kind, status, ...more }, status, { "content-type": "application/problem+json", ...headers });

/** An event stream that the test writes. */
export class FakeStream {
  response;
  #controller;

  constructor(signal) {
    const body = new ReadableStream({ start: (controller) => (this.#controller = controller) });
    signal?.addEventListener("abort", () => this.breaks());
    this.response = new Response(body, { headers: { "content-type": "text/event-stream" } });
  }

  writes(text) {
    this.bytes(new TextEncoder().encode(text));
  }

  bytes(bytes) {
    this.#controller.enqueue(bytes);
  }

  event(event, value) {
    this.writes(`event: ${event}\ndata: ${JSON.stringify(value)}\n\n`);
  }

  delta(delta) {
    this.writes(`id: ${delta.seq}\ndata: ${JSON.stringify(delta)}\n\n`);
  }

  ends() {
    this.#controller.close();
  }

  breaks() {
    try {
      this.#controller.error(new TypeError("network error"));
    } catch {
      // It has ended.
    }
  }
}

/** A document that can be hidden and seen. */
export class FakeDocument extends EventTarget {
  hidden = false;
  show() {
    this.hidden = false;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

export const comment = (id, more = {}) => ({ comment: id, user: "bob", text: `text ${id}`, at: 1764000000 + id, edited: false, likes: 0, liked: false, ...more });

export const like = (seq, id = 1, user = "bob") => ({ seq, at: 1764000000 + seq, action: "like", comment: id, user });

export const created = (seq, text = `text ${seq}`, user = "bob") => ({ seq, at: 1764000000 + seq, action: "create", comment: seq, user, text });

export const roomState = (seq, comments = [], more = {}) => ({ room: "r", recovery: "strong", seq, oldest: 1, presence: 1, comments, more: false, ...more });
