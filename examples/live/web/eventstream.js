// Reads an event stream (HTML standard, 9.2.6) from whatever pieces it arrives in.

/** More than this without the end of an event is no event of ours, and is not kept. */
export const EVENT_MAX = 262_144;

export class EventStreamReader {
  #rest = "";
  #event = "";
  #data = [];
  #size = 0;

  /**
   * @param {string} text the next piece
   * @returns {{event: string, data: string}[] & {retryMs?: number}} the events that are complete with it; `retryMs` if it asked for that
   * @throws {RangeError} an event is longer than EVENT_MAX
   */
  push(text) {
    const events = [];
    // A carriage return at the end may be half of a line's end: the next piece tells.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line, events);
    if (this.#size + this.#rest.length > EVENT_MAX) throw new RangeError(`an event of more than ${EVENT_MAX} characters`);
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length) events.push({ event: this.#event || "message", data: this.#data.join("\n") });
      this.#event = "";
      this.#data = [];
      this.#size = 0;
      return;
    }
    const [, field, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line);
    if (field === "event") this.#event = value;
    if (field === "data") this.#data.push(value);
    if (field === "data") this.#size += value.length;
    if (field === "retry" && /^\d+$/.test(value)) events.retryMs = Number(value);
    // `id` is not needed: a delta carries its seq. A line that begins with a colon is a comment.
  }
}
