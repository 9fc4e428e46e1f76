// The page: one room, read and written. All that it knows of connections is what `LiveRoom` says.

import * as comments from "./comment.js";
import { attr, byId, el, keep, say } from "./dom.js";
import { LiveRoom, Problem } from "./live.js";
import { news, number, recoveryWords, stateLine } from "./words.js";

/** Deltas that are shown as they came. */
const WIRE_MAX = 20;

/** What is new is said to who listens at most this often: nobody is to be talked over. */
const SAY_MS = 4000;

/** A problem is shown for so long. */
const PROBLEM_MS = 8000;

const NAME = /^[a-zA-Z0-9_-]{1,32}$/;

const asked = new URLSearchParams(location.search);
const [name, user] = [asked.get("room") ?? "", asked.get("user") ?? ""];

/** Which room, and who? */
async function ask() {
  byId("join").hidden = false;
  byId("join-room").value = name || "lobby";
  byId("join-user").value = user || localStorage.getItem("live-user") || `guest-${1000 + Math.floor(Math.random() * 9000)}`;
  const answer = await fetch("/api/rooms").catch(() => null);
  if (!answer?.ok) return;
  for (const { room } of (await answer.json()).rooms.slice(0, 100)) byId("rooms").append(el("option", { value: room }));
}

function enter() {
  localStorage.setItem("live-user", user);
  say(byId("title"), name);
  say(byId("user"), user);
  say(byId("unknown-title"), `There is no room “${name}” yet`);
  document.title = `${name} · Live wall`;
  byId("who").hidden = byId("state").hidden = false;

  const room = new LiveRoom(name, user);
  const wall = { room, user, does };
  room.addEventListener("state", () => showState(room));
  room.addEventListener("presence", () => showState(room));
  room.addEventListener("change", ({ detail }) => showComments(wall, detail.deltas));
  byId("make").addEventListener("click", () => does(byId("make"), () => room.make()));
  byId("earlier").addEventListener("click", () => does(byId("earlier"), () => room.earlier()));
  byId("write").addEventListener("submit", (event) => {
    event.preventDefault();
    write(room);
  });
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("write").requestSubmit();
  });
  room.open();
}

async function write(room) {
  const text = byId("text").value;
  // What could not be sent stays where it was written.
  if (await does(byId("send"), () => room.write(text))) {
    byId("text").value = "";
    byId("text").focus();
  }
}

/** Does what a button is for, once at a time; whether it was done. */
async function does(button, deed) {
  if (button.getAttribute("aria-busy") === "true") return false;
  attr(button, "aria-busy", true);
  try {
    await deed();
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    complain(error.message);
    return false;
  } finally {
    attr(button, "aria-busy", false);
  }
}

// ---- what is seen

let ticking = 0;

function showState(room) {
  clearTimeout(ticking);
  const { state, presence } = room;
  attr(byId("state"), "data-is", state.is);
  say(byId("state-text"), stateLine(state, presence, Date.now()));
  byId("unknown").hidden = state.is !== "unknown-room";
  byId("room").hidden = room.settings === null || state.is === "unknown-room";
  // The seconds are counted down.
  if (state.is === "reconnecting" && state.at > Date.now()) ticking = setTimeout(() => showState(room), (state.at - Date.now()) % 1000 || 1000);
  announceState(state);
}

function showComments(wall, deltas) {
  const { room, user } = wall;
  const all = room.comments.reverse();
  const isNew = new Set((deltas ?? []).filter(({ action }) => action === "create").map(({ comment }) => comment));
  const make = (comment) => {
    const item = comments.make(comment, wall);
    item.classList.toggle("new", isNew.has(comment.comment));
    return item;
  };
  keep(byId("comments"), all, ({ comment }) => comment, make, comments.update);
  for (const { action, comment } of deltas ?? []) {
    const item = action === "like" && byId("comments").querySelector(`[data-key="${comment}"]`);
    if (item) comments.beat(item);
  }
  byId("empty").hidden = all.length > 0;
  byId("earlier").hidden = !room.more;
  byId("room").hidden = false;
  if (room.settings) say(byId("recovery"), recoveryWords(room.settings));
  say(byId("seq"), number(room.seq));
  for (const delta of deltas ?? []) showWire(delta);
  announceLater(deltas ?? [], user);
}

function showWire(delta) {
  const text = JSON.stringify(delta);
  byId("wire").prepend(el("li", { text: `${number(new TextEncoder().encode(text).length)} bytes  ${text}` }));
  while (byId("wire").children.length > WIRE_MAX) byId("wire").lastElementChild.remove();
}

let hiding = 0;

function complain(text) {
  clearTimeout(hiding);
  say(byId("problem"), text);
  byId("problem").hidden = false;
  hiding = setTimeout(() => (byId("problem").hidden = true), PROBLEM_MS);
}

// ---- what is heard

let unsaid = [];
let saying = 0;
let lost = false;

function announceLater(deltas, user) {
  // More than this nobody is told one by one.
  unsaid = [...unsaid, ...deltas].slice(-100);
  saying ||= setTimeout(() => {
    const words = news(unsaid, user);
    [unsaid, saying] = [[], 0];
    if (words) say(byId("announce"), words);
  }, SAY_MS);
}

function announceState({ is }) {
  if (is === "reconnecting" && !lost) say(byId("announce"), "The connection is lost; reconnecting.");
  if (is === "live" && lost) say(byId("announce"), "Connected again, nothing is missing.");
  lost = is === "reconnecting" || (lost && is !== "live");
}

if (NAME.test(name) && NAME.test(user)) enter();
else ask();
