// The page: renders the status and event streams of Holdline.

import { attr, byId, el, keep, say } from "./dom.js";
import * as events from "./events.js";
import * as fleets from "./fleet.js";
import * as moves from "./moves.js";
import { clock, count, duration, number, verdict } from "./words.js";

/** A status arrives at least every second; after this time without one the connection counts as lost. */
const SILENCE_MS = 5000;

/** Interval of reconnects. */
const RETRY_MS = 1000;

/** A state must last this long before a screen reader announces it. */
const SETTLE_MS = 3000;

let status = null;
let heardAt = null;
let lost = false;
let streams = [];
let silence = 0;
let retry = 0;

function connect() {
  disconnect();
  const states = new EventSource("/v1/status?follow=1");
  const log = new EventSource("/v1/events");
  streams = [states, log];
  states.onmessage = ({ data }) => show(JSON.parse(data));
  log.onmessage = ({ data }) => events.show(JSON.parse(data));
  states.onerror = lose;
  // The event stream may reconnect by itself; if it cannot, both streams are reopened.
  log.onerror = () => log.readyState === EventSource.CLOSED && lose();
  clearTimeout(silence);
  silence = setTimeout(lose, SILENCE_MS);
}

function disconnect() {
  for (const stream of streams) stream.close();
  streams = [];
  clearTimeout(silence);
  clearTimeout(retry);
}

function lose() {
  disconnect();
  retry = setTimeout(connect, RETRY_MS);
  if (lost) return;
  lost = true;
  const when = heardAt ? ` since ${clock(heardAt)}. The data shown is from then` : "";
  const text = `No connection to Holdline at ${location.host}${when}; reconnecting.`;
  say(byId("lost"), text);
  byId("lost").hidden = false;
  attr(byId("link"), "data-state", "lost");
  say(byId("link-text"), "Lost");
  stale(true);
  document.title = "Lost · Holdline";
  moves.close();
  announce(text);
}

function show(next) {
  // Another version of Holdline has another page.
  if (status && status.version !== next.version) location.reload();
  status = next;
  heardAt = Date.now();
  clearTimeout(silence);
  silence = setTimeout(lose, SILENCE_MS);
  if (lost) found();
  const stopping = next.shutting_down;
  attr(byId("link"), "data-state", stopping ? "stopping" : "live");
  say(byId("link-text"), stopping ? "Holdline is stopping" : "Live");
  gateway(next);
  byId("empty")?.remove();
  keep(byId("fleets"), next.fleets, (f) => f.name, (f) => fleets.make(f, (wanted) => moves.ask(wanted, status)), (node, f) => fleets.update(node, f, next.uptime_ms));
  summary(next);
}

function found() {
  lost = false;
  byId("lost").hidden = true;
  stale(false);
  announce("Connected to Holdline again.");
}

/** Old data stays readable, but commands are disabled. */
function stale(is) {
  document.body.classList.toggle("stale", is);
  for (const button of byId("picture").querySelectorAll("button")) button.disabled = is;
}

function gateway(next) {
  const [own] = next.gateways;
  const rows = [
    ["Gateway", own?.id ?? "none"],
    ["Sessions", number(own?.sessions ?? 0)],
    ["Up", duration(next.uptime_ms)],
    ["Version", next.version],
  ];
  keep(byId("gateway"), rows, ([name]) => name, ([name]) => el("div", {}, el("dt", { text: name }), el("dd")), (row, [, value]) => say(row.lastChild, value));
}

let spoken = "";
let pending = "";
let speaking = 0;

/** The state of all fleets in the title and, when it lasts, announced to screen readers. */
function summary(next) {
  const worst = next.fleets.map((f) => [f.name, ...verdict(f)]).find(([, tone]) => tone !== "fine");
  const waiting = next.fleets.reduce((n, f) => n + f.queued, 0);
  document.title = `${waiting ? `${count(waiting, "client")} waiting · ` : worst ? "! " : ""}Holdline`;
  const words = worst ? `${worst[0]}: ${worst[2]}` : "All clients are served; the queue is empty.";
  const state = worst ? `${worst[0]} ${worst[1]}` : "fine";
  if (state === pending) return;
  pending = state;
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    if (pending !== spoken) announce(words);
    spoken = pending;
  }, SETTLE_MS);
}

function announce(text) {
  say(byId("announce"), text);
}

let fading = 0;

moves.listen((text) => {
  const said = byId("said");
  say(said, text);
  said.hidden = false;
  announce(text);
  clearTimeout(fading);
  fading = setTimeout(() => (said.hidden = true), 8000);
});

// A hidden page disconnects, since browsers limit connections per host.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
connect();
