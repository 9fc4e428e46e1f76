// Orders: the plan first, then the deed.

import { byId, el, say } from "./dom.js";
import { count, duration, number } from "./words.js";

const dialog = byId("dialog");
const form = byId("form");
const fields = ["over", "rate", "mode"].map(byId);
const confirm = byId("confirm");
const plan = byId("plan");
const problem = byId("problem");

/** What the dialog is about, and the number of its newest question: an older answer says nothing. */
let order = null;
let asked = 0;

/** A field is left alone for so long before the plan is asked for: half a number is no order. */
const TYPING_MS = 400;

let typing = 0;

/** Told in words when something was done. */
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

/** Opens the dialog for `{kind, fleet, backend}`; `status` is what the page knows. */
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
  // No plan, no deed: what is shown is of other figures.
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
  done({ drain: () => `Drain of ${backend} begins: ${moves()}.`, undrain: () => answer.body.message, rebalance: () => `Rebalance of ${fleet} begins: ${moves()}.` }[kind]());
}

const path = () => {
  const fleet = `/v1/fleets/${encodeURIComponent(order.fleet)}`;
  return order.kind === "rebalance" ? `${fleet}/rebalance` : `${fleet}/backends/${encodeURIComponent(order.backend)}/drain`;
};

const body = () => Object.fromEntries(fields.map((f) => [f.name, f.value.trim()]).filter(([, value]) => value));

/** The answer's body, or its error in words (RFC 9457). */
async function send(method, where, json) {
  try {
    const init = json ? { method, body: JSON.stringify(json), headers: { "content-type": "application/json" } } : { method };
    const response = await fetch(where, init);
    const answer = await response.json();
    return response.ok ? { body: answer } : { error: `${answer.title ?? response.status}: ${answer.detail ?? "no reason given"}` };
  } catch (error) {
    return { error: `Holdline did not answer: ${error.message}` };
  }
}

function showPlan(found) {
  const sessions = count(found.sessions, "session");
  const lines = [];
  if (found.sessions === 0) {
    lines.push(el("p", { text: order.kind === "drain" ? "It holds no session: nobody is moved, and no new one is placed there." : "The fleet is even: there is nobody to move." }));
  } else {
    const way = found.mode === "cut" ? "broken off" : "asked to come back";
    lines.push(el("p", {}, el("b", { text: `${sessions}, over ${duration(found.over_ms)}` }), ` — ${number(found.rate)} a second at first, each ${way}.`));
    lines.push(el("p", { text: `What is left after ${duration(found.deadline_ms)} ${order.kind === "drain" ? "is cut" : "stays where it is"}.` }));
    if (order.kind === "rebalance") lines.push(shares("They leave", found.from, found.sessions));
    lines.push(found.to.length ? shares("They land on", found.to, found.sessions) : el("p", { text: "No other backend has a free seat for them." }));
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
  const lines = [`${order.backend} takes sessions again at once.`];
  if (backend?.draining) lines.push(`${count(move.remaining, "session")} of ${number(move.total)} ${move.remaining === 1 ? "is" : "are"} still there and stay; who has moved does not come back.`);
  if (backend?.drained) lines.push(`It is empty; ${count(move.total, "session")} left it.`);
  plan.replaceChildren(...lines.map((text) => el("p", { text })));
  confirm.disabled = !move;
}
