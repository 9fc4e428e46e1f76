// The event log, newest first.

import { byId, el } from "./dom.js";
import { clock } from "./words.js";

/** Events kept on the page; `holdline events` has more. */
const LINES_MAX = 200;

const MARKS = {
  scale: "⇅",
  drain_started: "↘",
  drain_ended: "✓",
  undrained: "↗",
  rebalance_started: "⇄",
  rebalance_ended: "✓",
  backend_added: "+",
  backend_removed: "−",
  backend_failed: "✕",
  count_mismatch: "≠",
  config_reloaded: "↻",
  config_rejected: "▲",
};

let last = 0;

export function show(event) {
  const list = byId("events");
  // Ids start again from 1 at startup: the events shown are from before a restart.
  if (event.id <= last) list.replaceChildren();
  last = event.id;
  list.prepend(line(event));
  while (list.children.length > LINES_MAX) list.lastElementChild.remove();
  byId("no-events").hidden = true;
}

function line(event) {
  const time = el("time", { datetime: new Date(event.at_unix_ms).toISOString(), text: clock(event.at_unix_ms) });
  const kind = el("span", { class: "kind" }, el("span", { "aria-hidden": "true", text: `${MARKS[event.kind] ?? "·"} ` }), event.kind.replaceAll("_", " "));
  const where = el("span", { class: "where", text: event.fleet ?? "" });
  return el("li", { "data-kind": event.kind }, el("p", { class: "when" }, time, kind, where), el("p", { text: event.message }));
}
