// Drain, undrain and rebalance: shows the plan, then executes it.

import { byId, el, say } from "./dom.js";
import { count, duration, number } from "./words.js";

const dialog = byId("dialog");
const form = byId("form");
const fields = ["over", "rate", "mode"].map(byId);
const confirm = byId("confirm");
const plan = byId("plan");
const problem = byId("problem");

/** The command of the dialog, and the number of its latest request: older responses are ignored. */
let order = null;
let asked = 0;

/** Delay after the last keystroke before a plan is requested. */
const TYPING_MS = 400;

let typing = 0;

/** Called with a message when a command was executed. */
let done = () => {};

const TITLES = {
  drain: (o) => [`Drain ${o.backend}`, `Drain ${o.backend} now`],
  undrain: (o) => [`Undrain ${o.backend}`, `Undrain ${o.backend} now`],
  rebalance: (o) => [`Rebalance ${o.fleet}`, `Rebalance ${o.fleet} now`],
};

export function listen(told) {
  done = told;
  for (const field of fields) field.addEventListener("input", retype);
  byId("cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    clearTimeout(typing);
    asked++;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!confirm.disabled) carryOut();
  });
}

/** Opens the dialog for `{kind, fleet, backend}`. */
export function ask(wanted, status) {
  order = wanted;
  const [title, deed] = TITLES[order.kind](order);
  say(byId("dialog-title"), title);
  say(confirm, deed);
  form.reset();
  byId("fields").hidden = order.kind === "undrain";
  dialog.showModal();
  if (order.kind === "undrain") showUndrain(status);
  else replan();
}

function retype() {
  // The plan shown is for other values, so it cannot be confirmed.
  asked++;
  confirm.disabled = true;
  clearTimeout(typing);
  typing = setTimeout(replan, TYPING_MS);
}

export const close = () => dialog.close();

async function replan() {
  clearTimeout(typing);
  const mine = ++asked;
  confirm.disabled = true;
  say(problem, "");
  const answer = await send("POST", path(), { ...body(), dry_run: true });
  if (mine !== asked) return;
  if (answer.error) {
    plan.replaceChildren();
    say(problem, answer.error);
    return;
  }
  showPlan(answer.body);
  confirm.disabled = order.kind === "rebalance" && answer.body.sessions === 0;
}

async function carryOut() {
  const mine = ++asked;
  confirm.disabled = true;
  const { kind, fleet, backend } = order;
  const answer = kind === "undrain" ? await send("DELETE", path()) : await send("POST", path(), body());
  if (mine !== asked) return;
  confirm.disabled = false;
  if (answer.error) {
    say(problem, answer.error);
    return;
  }
  dialog.close();
  const moves = () => `${count(answer.body.sessions, "session")} over ${duration(answer.body.over_ms)}`;
  done({ drain: () => `Drain of ${backend} started: ${moves()}.`, undrain: () => answer.body.message, rebalance: () => `Rebalance of ${fleet} started: ${moves()}.` }[kind]());
}

const path = () => {
  const fleet = `/v1/fleets/${encodeURIComponent(order.fleet)}`;
  return order.kind === "rebalance" ? `${fleet}/rebalance` : `${fleet}/backends/${encodeURIComponent(order.backend)}/drain`;
};

const body = () => Object.fromEntries(fields.map((f) => [f.name, f.value.trim()]).filter(([, value]) => value));

/** The response body, or the error text (RFC 9457). */
async function send(method, where, json) {
  try {
    const init = json ? { method, body: JSON.stringify(json), headers: { "content-type": "application/json" } } : { method };
    const response = await fetch(where, init);
    const answer = await response.json();
    return response.ok ? { body: answer } : { error: `${answer.title ?? response.status}: ${answer.detail ?? "no reason given"}` };
  } catch (error) {
    return { error: `no answer from Holdline: ${error.message}` };
  }
}

function showPlan(found) {
  const sessions = count(found.sessions, "session");
  const lines = [];
  if (found.sessions === 0) {
    lines.push(el("p", { text: order.kind === "drain" ? "It has no sessions; no new ones will be placed on it." : "The fleet is balanced: no sessions to move." }));
  } else {
    const way = found.mode === "cut" ? "cut" : "closed so that the client reconnects";
    lines.push(el("p", {}, el("b", { text: `${sessions}, over ${duration(found.over_ms)}` }), ` — initially ${number(found.rate)} per second, each ${way}.`));
    lines.push(el("p", { text: `What is left after ${duration(found.deadline_ms)} ${order.kind === "drain" ? "is cut" : "stays where it is"}.` }));
    if (order.kind === "rebalance") lines.push(shares("From", found.from, found.sessions));
    lines.push(found.to.length ? shares("To", found.to, found.sessions) : el("p", { text: "No other backend has free seats." }));
  }
  lines.push(...found.warnings.map((w) => el("p", { class: "warning", text: `▲ ${w}` })));
  plan.replaceChildren(...lines);
}

function shares(title, list, all) {
  const items = list.map(({ backend, sessions }) => {
    const bar = el("span", { class: "share", "aria-hidden": "true" });
    bar.style.setProperty("--share", sessions / Math.max(1, all));
    return el("li", {}, el("span", { class: "cause", text: backend }), el("b", { text: number(sessions) }), bar);
  });
  return el("div", {}, el("h3", { text: title }), el("ul", { class: "causes" }, ...items));
}

function showUndrain(status) {
  asked++;
  say(problem, "");
  const fleet = status.fleets.find((f) => f.name === order.fleet);
  const backend = fleet?.backends.find((b) => b.id === order.backend);
  const move = backend?.draining ?? backend?.drained;
  const lines = [`${order.backend} takes new sessions again.`];
  if (backend?.draining) lines.push(`${count(move.remaining, "session")} of ${number(move.total)} ${move.remaining === 1 ? "is" : "are"} left and stay; moved sessions do not return.`);
  if (backend?.drained) lines.push(`It is empty; ${count(move.total, "session")} moved off.`);
  plan.replaceChildren(...lines.map((text) => el("p", { text })));
  confirm.disabled = !move;
}
