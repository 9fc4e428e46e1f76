// One fleet: a summary, its figures, its backends, causes of ends and refusals, and its last scaling decision.

import { Burndown, Spark } from "./charts.js";
import { attr, el, keep, say } from "./dom.js";
import { ENDS, PHASES, REFUSALS, age, count, duration, number, pace, percent, verdict } from "./words.js";

/** Parts of a fleet's section, by the element. */
const parts = new WeakMap();

export function make(fleet, order) {
  const id = `fleet-${fleet.name}`;
  const p = {
    state: el("p", { class: "verdict" }),
    figures: el("dl", { class: "figures" }),
    spark: new Spark(),
    rebalance: el("button", { type: "button", text: "Rebalance…", "aria-label": `Rebalance fleet ${fleet.name}`, onclick: () => order({ kind: "rebalance", fleet: fleet.name }) }),
    move: el("p", { class: "pace" }),
    moveChart: new Burndown(),
    rows: el("tbody", { role: "rowgroup" }),
    reason: el("p", { class: "reason" }),
    wanted: el("p", { class: "wanted" }),
    ends: el("ul", { class: "causes" }),
    refusals: el("ul", { class: "causes" }),
    order,
  };
  p.waits = el("span", { class: "fill" });
  p.queue = el("div", { class: "bar", role: "meter", "aria-label": `Queue of ${fleet.name}`, "aria-valuemin": 0 }, p.waits);
  p.queueText = el("p", { class: "quiet" });
  p.moving = el("div", { class: "moving" }, p.move, p.moveChart.node);
  const heads = ["Backend", "Phase", "Sessions of capacity", "Heartbeat", "Actions"].map((text) => el("th", { scope: "col", role: "columnheader", text }));
  const table = el("table", { role: "table", class: "backends" }, el("caption", { class: "hidden", text: `Backends of ${fleet.name}` }), el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)), p.rows);
  const box = (title, ...children) => el("section", {}, el("h3", { text: title }), ...children);
  const node = el("section", { class: "fleet", "aria-labelledby": id },
    el("div", { class: "title" }, el("h2", { id, text: fleet.name }), p.state, p.rebalance),
    p.figures,
    p.moving,
    table,
    el("div", { class: "boxes" },
      box("Queue", p.queue, p.queueText),
      box("Arrivals, two minutes", p.spark.node),
      box("Scaling", p.wanted, p.reason),
      box("Ended sessions", p.ends),
      box("Refusals", p.refusals)));
  parts.set(node, p);
  return node;
}

export function update(node, fleet, uptimeMs) {
  const p = parts.get(node);
  const [tone, sentence] = verdict(fleet);
  attr(node, "data-tone", tone);
  say(p.state, sentence);
  p.rebalance.hidden = fleet.leaving;
  figures(p.figures, fleet);
  p.spark.add(uptimeMs, fleet.arrivals_per_s, fleet.refused_per_s);
  p.moving.hidden = !fleet.rebalance;
  if (fleet.rebalance) {
    say(p.move, `Rebalance: ${pace(fleet.rebalance)}`);
    p.moveChart.show(fleet.rebalance);
  }
  keep(p.rows, fleet.backends, (b) => b.id, (b) => makeRow(b, fleet, p.order), (row, b) => updateRow(row, b, fleet));
  queue(p, fleet);
  scaling(p, fleet);
  ends(p.ends, fleet);
  refusals(p.refusals, fleet);
}

function figures(list, fleet) {
  const of = fleet.capacity === null ? "no limit" : `of ${number(fleet.capacity)} ready`;
  const ready = fleet.backends.filter((b) => b.phase === "ready").length;
  const rows = [
    ["Sessions", number(fleet.sessions), of, "fine"],
    ["Waiting", number(fleet.queued), `of ${number(fleet.queue_max)}`, fleet.queued ? "busy" : "fine"],
    ["Arrivals", number(fleet.arrivals_per_s), "per second", "fine"],
    ["Refused", number(fleet.refused_per_s), "per second", fleet.refused_per_s ? "bad" : "fine"],
    ["Backends", number(ready), fleet.leaving ? "ready" : `ready, ${number(fleet.desired)} desired`, "fine"],
  ];
  keep(list, rows, ([name]) => name, ([name]) => el("div", {}, el("dt", { text: name }), el("dd", {}, el("b"), " ", el("span"))), (item, [, value, rest, tone]) => {
    attr(item, "data-tone", tone);
    say(item.querySelector("b"), value);
    say(item.querySelector("span"), rest);
  });
}

function queue(p, fleet) {
  meter(p.queue, p.waits, fleet.queued, fleet.queue_max, `${number(fleet.queued)} of ${number(fleet.queue_max)} wait`);
  attr(p.queue, "data-tone", fleet.queued ? "busy" : "fine");
  const first = fleet.queued ? `the oldest has waited ${duration(fleet.oldest_wait_ms)} of ${duration(fleet.queue_timeout_ms)}` : `maximum wait ${duration(fleet.queue_timeout_ms)}`;
  say(p.queueText, fleet.queue_max ? `${number(fleet.queued)} of ${number(fleet.queue_max)} wait; ${first}.` : "No queue: queue.length is 0.");
}

function scaling(p, fleet) {
  const bounds = fleet.scale_to !== null ? "fixed by an operator" : fleet.elastic ? `${number(fleet.min)} to ${number(fleet.max)}` : "advice only: the fleet is static";
  // For a static fleet, "advice only" already says that.
  const held = fleet.limited_by && fleet.limited_by !== "static" ? `; limited by ${fleet.limited_by}` : "";
  say(p.wanted, fleet.leaving ? "No backends desired." : `${count(fleet.desired, "backend")} desired (${bounds}${held}).`);
  say(p.reason, fleet.reason || "No decision yet.");
}

function makeRow(backend, fleet, order) {
  const cell = (...children) => el("td", { role: "cell" }, ...children);
  const p = {
    address: el("span", { class: "quiet" }),
    phase: el("span", { class: "phase" }),
    own: el("span", { class: "fill" }),
    foreign: el("span", { class: "foreign" }),
    limit: el("span", { class: "limit" }),
    numbers: el("span", { class: "numbers" }),
    note: el("p", { class: "pace" }),
    chart: new Burndown(),
    heard: el("span"),
    button: el("button", { type: "button" }),
  };
  p.bar = el("div", { class: "bar", role: "meter", "aria-label": `Sessions on ${backend.id}`, "aria-valuemin": 0 }, p.own, p.foreign, p.limit);
  p.moving = el("div", { class: "moving" }, p.note, p.chart.node);
  p.button.addEventListener("click", () => order({ kind: p.undrain ? "undrain" : "drain", fleet: fleet.name, backend: backend.id }));
  const row = el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader" }, el("b", { text: backend.id }), p.address),
    cell(p.phase), cell(el("div", { class: "level" }, p.bar, p.numbers), p.moving), cell(p.heard), cell(p.button));
  parts.set(row, p);
  return row;
}

function updateRow(row, backend, fleet) {
  const p = parts.get(row);
  const [sign, meaning] = PHASES[backend.phase] ?? ["?", ""];
  attr(row, "data-phase", backend.phase);
  say(p.address, backend.address ?? "not started");
  say(p.phase, `${sign} ${backend.phase}`);
  attr(p.phase, "title", meaning);
  levels(p, backend, fleet);
  say(p.heard, backend.heartbeat_age_ms === null ? "never" : `${age(backend.heartbeat_age_ms)} ago`);
  const move = backend.draining;
  p.moving.hidden = !move && !backend.drained;
  p.chart.node.toggleAttribute("hidden", !move);
  if (move) {
    say(p.note, pace(move));
    attr(p.note, "data-tone", move.due_in_ms === 0 ? "bad" : "busy");
    p.chart.show(move);
  } else if (backend.drained) {
    const { total, cut } = backend.drained;
    say(p.note, cut ? `${count(total, "session")} moved off, ${number(cut)} of them cut` : `${count(total, "session")} moved off`);
    attr(p.note, "data-tone", cut ? "bad" : "fine");
  }
  p.undrain = Boolean(move || backend.drained);
  const order = p.undrain ? "Undrain" : "Drain";
  say(p.button, `${order}…`);
  attr(p.button, "aria-label", `${order} ${backend.id}`);
  p.button.hidden = backend.phase === "dead" || fleet.leaving;
}

function levels(p, backend, fleet) {
  const { sessions, foreign, capacity } = backend;
  const taken = sessions + foreign;
  const others = foreign ? `, ${number(foreign)} by other paths` : "";
  const text = capacity === null ? `${count(sessions, "session")}, no limit${others}` : `${number(sessions)} of ${number(capacity)}${others}`;
  const full = share(taken, capacity);
  meter(p.bar, p.own, sessions, capacity, capacity === null ? text : `${text} sessions, ${percent(full)}`);
  attr(p.bar, "data-tone", full > 1 ? "bad" : full > fleet.fill ? "busy" : "fine");
  p.bar.classList.toggle("unlimited", capacity === null);
  p.foreign.style.setProperty("--share", Math.min(share(foreign, capacity), 1 - Math.min(1, share(sessions, capacity))));
  p.limit.style.setProperty("--share", fleet.fill);
  p.limit.hidden = capacity === null;
  say(p.numbers, capacity === null ? `${number(sessions)} / –` : `${number(sessions)} / ${number(capacity)}`);
}

const share = (n, max) => (max === null ? 0 : max > 0 ? n / max : Math.min(n, 1));

function meter(bar, fill, value, max, text) {
  attr(bar, "aria-valuemax", Math.max(max ?? value, 1));
  attr(bar, "aria-valuenow", Math.min(value, Math.max(max ?? value, 1)));
  attr(bar, "aria-valuetext", text);
  fill.style.setProperty("--share", Math.min(1, share(value, max)));
}

function ends(list, fleet) {
  const found = Object.entries(fleet.ended_total).filter(([, n]) => n > 0);
  causes(list, found, (cause) => ENDS[cause] ?? ["", "fine"], "No session has ended yet.");
}

function refusals(list, fleet) {
  const found = Object.entries(fleet.refused_total).filter(([, n]) => n > 0);
  causes(list, found, (cause) => [REFUSALS[cause] ?? "", "bad"], "No refusals.");
}

function causes(list, found, meaning, none) {
  const most = Math.max(1, ...found.map(([, n]) => n));
  const items = found.length ? found.sort((a, b) => b[1] - a[1]) : [["", 0]];
  keep(list, items, ([cause]) => cause, ([cause]) => (cause ? makeCause(cause, meaning(cause)) : el("li", { class: "quiet", text: none })), (item, [cause, n]) => {
    if (!cause) return;
    item.querySelector(".share").style.setProperty("--share", n / most);
    say(item.querySelector("b"), number(n));
  });
}

function makeCause(cause, [words, tone]) {
  return el("li", { "data-tone": tone, "data-cause": cause }, el("span", { class: "cause", text: cause, title: words }), el("b"), el("span", { class: "share", "aria-hidden": "true" }), el("span", { class: "quiet", text: words }));
}
