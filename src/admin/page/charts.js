// Two small charts: arrivals over time, and a move compared with its plan. The same information is in the text.

import { attr, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 40;

/** Seconds of arrivals that are kept. */
const SECONDS = 120;

/** Arrivals (a line) and refusals (bars below it) of the last two minutes. */
export class Spark {
  constructor() {
    this.samples = [];
    this.line = svg("polyline", { class: "line" });
    this.refused = svg("path", { class: "refused" });
    this.node = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.refused, this.line);
  }

  add(uptimeMs, arrivals, refused) {
    const second = Math.floor(uptimeMs / 1000);
    if (this.samples.at(-1)?.second > second) this.samples = [];
    if (this.samples.at(-1)?.second === second) this.samples.pop();
    this.samples.push({ second, arrivals, refused });
    this.samples = this.samples.filter((s) => s.second > second - SECONDS);
    const top = Math.max(1, ...this.samples.map((s) => Math.max(s.arrivals, s.refused)));
    const x = (s) => (WIDTH * (s.second - second + SECONDS)) / SECONDS;
    const y = (n) => HEIGHT - 2 - ((HEIGHT - 4) * n) / top;
    const place = (s, n) => `${x(s).toFixed(1)},${y(n).toFixed(1)}`;
    attr(this.line, "points", this.samples.map((s) => place(s, s.arrivals)).join(" "));
    const bars = this.samples.filter((s) => s.refused > 0).map((s) => `M${x(s).toFixed(1)},${HEIGHT}V${y(s.refused).toFixed(1)}`);
    attr(this.refused, "d", bars.join(""));
  }
}

/** Remaining sessions over time: planned (dashed) and actual (solid). */
export class Burndown {
  constructor() {
    this.seen = [];
    this.plan = svg("polyline", { class: "planned" });
    this.line = svg("polyline", { class: "line" });
    this.now = svg("line", { class: "now", y1: 0, y2: HEIGHT });
    this.node = svg("svg", { class: "burndown", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.plan, this.now, this.line);
  }

  show(move) {
    if (this.seen.at(-1)?.elapsed > move.elapsed_ms) this.seen = [];
    this.seen.push({ elapsed: move.elapsed_ms, left: move.remaining });
    // A drain of hours would be thousands of points.
    if (this.seen.length > 400) this.seen = this.seen.filter((_, n) => n % 2 === 1);
    const due = move.elapsed_ms + move.due_in_ms;
    const end = Math.max(due, move.elapsed_ms) * 1.05 || 1;
    const top = Math.max(move.total, ...this.seen.map((s) => s.left), 1);
    const place = (ms, left) => `${((WIDTH * ms) / end).toFixed(1)},${(HEIGHT - 2 - ((HEIGHT - 4) * left) / top).toFixed(1)}`;
    // `planned` is where the plan is now; with its ends it draws the rest.
    attr(this.plan, "points", [place(0, move.total), place(Math.min(move.elapsed_ms, due), move.planned), place(due, 0)].join(" "));
    attr(this.line, "points", [place(0, move.total), ...this.seen.map((s) => place(s.elapsed, s.left))].join(" "));
    for (const side of ["x1", "x2"]) attr(this.now, side, ((WIDTH * move.elapsed_ms) / end).toFixed(1));
  }
}
