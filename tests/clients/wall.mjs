// The comment wall in Chromium, by two who are in one room: what one does the other sees, through a drain, a kill, and a network that blocks.
//
//   node wall.mjs BASE ADMIN NODES
//
// BASE and ADMIN are those of a Holdline with `live api` at / and the fleet `nodes` at /live; NODES is {"node-a": PID, …}. What is printed asks
// tests/it/wall.rs to block a route. NODE_PATH has puppeteer-core and axe-core. With HOLDLINE_TEST_PICTURES pictures are kept there.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(import.meta.url);
const puppeteer = require("puppeteer-core");
const axe = require("axe-core");

const [base, admin, nodes] = process.argv.slice(2);
const pids = JSON.parse(nodes);
const pictures = process.env.HOLDLINE_TEST_PICTURES;
const room = `${base}/api/rooms/wall`;

const browser = await puppeteer.launch({
  // It ends with the pipe, however this script ends.
  pipe: true,
  executablePath: process.env.HOLDLINE_TEST_CHROMIUM || "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

/** One page of somebody, in a browser window of their own. */
class Visitor {
  wrong = [];

  static async come(user) {
    const visitor = new Visitor();
    visitor.user = user;
    const page = await (await browser.createBrowserContext()).newPage();
    visitor.page = page;
    page.setDefaultTimeout(50_000);
    await page.setViewport({ width: 1280, height: 900 });
    // What the browser notes of connections that were refused or lost is as it should be here; nothing else is.
    const expected = /WebSocket connection to|net::ERR_|status of (403|404|503)/;
    page.on("console", (line) => ["error", "warn"].includes(line.type()) && !expected.test(line.text()) && visitor.wrong.push(line.text()));
    page.on("pageerror", (error) => visitor.wrong.push(error.message));
    page.on("request", (request) => new URL(request.url()).host === new URL(base).host || visitor.wrong.push(request.url()));
    await page.evaluateOnNewDocument(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective}`));
      // Every state line and every delta that was shown, in order.
      globalThis.lines = [];
      globalThis.deltas = [];
      addEventListener("DOMContentLoaded", () => {
        const line = document.getElementById("state-text");
        const added = (where, see) => new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach(see))).observe(where, { childList: true });
        added(line, (text) => lines.push(text.textContent));
        added(document.getElementById("wire"), (li) => deltas.push(JSON.parse(li.textContent.replace(/^\S+ bytes/, ""))));
      });
    });
    await page.goto(`${base}/?room=wall&user=${user}`);
    return visitor;
  }

  sees(what, is, ...args) {
    const explain = async (error) => assert.fail(`${this.user} never saw: ${what}; ${await this.line()}; ${this.wrong}; ${error}`);
    return this.page.waitForFunction(is, {}, ...args).catch(explain);
  }

  line() {
    return this.page.$eval("#state-text", (line) => line.textContent);
  }

  /** Until the state line is of this kind; the node that it names. */
  async isLive(via, not = "") {
    const start = `live over ${via} · held by `;
    const is = (start, not) => document.getElementById("state-text").textContent.startsWith(start) && (!not || !document.getElementById("state-text").textContent.includes(not));
    await this.sees(`${start}… (not ${not})`, is, start, not);
    return (await this.line()).slice(start.length).split(" ")[0];
  }

  async says(text) {
    await this.page.type("#text", text);
    await this.page.keyboard.down("Control");
    await this.page.keyboard.press("Enter");
    await this.page.keyboard.up("Control");
    await this.sees(`${text} on the wall`, (text) => [...document.querySelectorAll(".words")].some((words) => words.textContent === text), text);
    await this.sees("the field empty", () => document.getElementById("text").value === "");
  }

  /** A button of the comment with this text: by keyboard, or with the mouse. */
  async press(text, button, by = "keyboard") {
    const handle = await this.page.evaluateHandle((text, button) => [...document.querySelectorAll(".comment")].find((c) => c.querySelector(".words").textContent === text).querySelector(`.${button}`), text, button);
    if (by === "mouse") return handle.asElement().click();
    await handle.asElement().focus();
    await this.page.keyboard.press("Enter");
  }

  likes(text, likes, pressed) {
    const is = (text, likes, pressed) => [...document.querySelectorAll(".comment")].some((c) => {
      const like = c.querySelector(".like");
      return c.querySelector(".words").textContent === text && like.querySelector(".likes").textContent === likes && like.getAttribute("aria-pressed") === pressed;
    });
    return this.sees(`${likes} likes of ${text}`, is, text, String(likes), String(pressed));
  }

  /** Up to this delta, and as the API has it. */
  async agrees() {
    const state = await (await fetch(`${room}?limit=1000`)).json();
    await this.sees(`delta ${state.seq}`, (seq) => document.getElementById("seq").textContent === seq, new Intl.NumberFormat("en").format(state.seq));
    const wall = await this.page.$$eval(".comment", (comments) => comments.map((c) => [Number(c.dataset.key), c.querySelector("b").textContent, c.querySelector(".words").textContent, Number(c.querySelector(".likes").textContent), c.querySelector(".edited").textContent !== ""]));
    assert.deepEqual(wall.reverse(), state.comments.map((c) => [c.comment, c.user, c.text, c.likes, c.edited]), `${this.user}'s wall`);
    const { deltas } = await (await fetch(`${room}/deltas?after=0`)).json();
    const seen = await this.page.evaluate(() => globalThis.deltas);
    assert.deepEqual(seen, deltas.slice(deltas.length - seen.length), `${this.user} had each delta once and in order`);
    assert.deepEqual(this.wrong, [], `${this.user}: errors, violations, foreign requests`);
  }

  async accessible(where) {
    await this.page.evaluate(axe.source);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map((v) => [v.id, v.nodes.map((n) => n.html)]), [], where);
  }

  /** Every width and scheme, without a fault in any; pictures of them, if asked for. */
  async look() {
    for (const [name, width, height, scheme] of [["wall-dark", 1280, 900, "dark"], ["wall-phone", 360, 740, "light"], ["wall", 1280, 900, "light"]]) {
      await this.page.setViewport({ width, height });
      await this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
      assert.ok((await this.page.evaluate(() => document.documentElement.scrollWidth)) <= width, `${name}: nothing is wider than the screen`);
      await this.accessible(name);
      if (pictures) await this.page.screenshot({ path: `${pictures}/${name}.png` });
    }
  }
}

/** By the API, past both pages. */
async function mutate(method, path, body) {
  const answer = await fetch(`${room}${path}`, { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

async function order(method, id) {
  const body = method === "POST" ? JSON.stringify({ over: "100ms" }) : undefined;
  const answer = await fetch(`${admin}/v1/fleets/nodes/backends/${id}/drain`, { method, body, headers: { "content-type": "application/json" } });
  assert.ok(answer.ok, `${method} drain of ${id}: ${answer.status} ${await answer.text()}`);
}

/** Until a path is answered with this status. */
async function until(path, status) {
  for (const end = Date.now() + 50_000; (await fetch(`${base}${path}`)).status !== status; ) {
    assert.ok(Date.now() < end, `${path} is never ${status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

try {
  // ---- they come, and what one does the other sees
  const ann = await Visitor.come("ann");
  await ann.sees("that there is no such room", () => !document.getElementById("unknown").hidden);
  await ann.accessible("an unknown room");
  await ann.page.click("#make");
  await ann.isLive("WebSocket");
  const bob = await Visitor.come("bob");
  await bob.isLive("WebSocket");
  for (const one of [ann, bob]) await one.sees("two of them", () => document.getElementById("state-text").textContent.endsWith("· 2 here"));

  await ann.says("Doors are open. Who is here?");
  await bob.likes("Doors are open. Who is here?", 0, false);
  await bob.press("Doors are open. Who is here?", "like", "mouse");
  for (const [one, pressed] of [[ann, false], [bob, true]]) await one.likes("Doors are open. Who is here?", 1, pressed);
  await bob.says("Me! First row, left. <b>Wave</b> at me.");
  await ann.press("Me! First row, left. <b>Wave</b> at me.", "like").catch((error) => assert.fail(`bob's text is text, not markup: ${error}`));
  await bob.likes("Me! First row, left. <b>Wave</b> at me.", 1, false);
  await bob.press("Doors are open. Who is here?", "like");
  for (const one of [ann, bob]) await one.likes("Doors are open. Who is here?", 0, false);
  await bob.press("Doors are open. Who is here?", "like");

  // One's own can be changed and taken away; others' cannot.
  await bob.says("The sound check wsa great");
  await bob.press("The sound check wsa great", "edit");
  await bob.page.keyboard.down("Control");
  await bob.page.keyboard.press("a");
  await bob.page.keyboard.up("Control");
  await bob.page.keyboard.type("The sound check was great");
  await bob.page.click(".change .strong");
  await ann.sees("the change", () => [...document.querySelectorAll(".comment")].some((c) => c.querySelector(".words").textContent === "The sound check was great" && c.querySelector(".edited").textContent));
  assert.equal(await ann.page.$$eval(".comment:not(.mine) :is(.edit, .remove)", (buttons) => buttons.length), 0);
  await bob.says("A comment that nobody needs");
  await bob.press("A comment that nobody needs", "remove");
  await bob.accessible("the question before the deed");
  await bob.page.click("#dialog .strong");
  await ann.sees("one comment less", () => document.querySelectorAll(".comment").length === 3);
  await ann.agrees();
  await bob.agrees();

  // Who comes again finds what they like.
  await bob.page.reload();
  await bob.isLive("WebSocket");
  await bob.likes("Doors are open. Who is here?", 1, true);
  await bob.likes("Me! First row, left. <b>Wave</b> at me.", 1, false);

  // A reader who listens is told what is new.
  const first = await mutate("POST", "/comments", { user: "eve", text: "Just arrived. What have I missed?" });
  await bob.sees("a word for who listens", () => document.getElementById("announce").textContent === "eve says: Just arrived. What have I missed?");

  // ---- a drain, and a kill
  const before = await ann.isLive("WebSocket");
  await order("POST", before);
  const between = await ann.isLive("WebSocket", before);
  await mutate("PUT", `/comments/${first.comment}/likes/joe`);
  await ann.agrees();
  await order("DELETE", before);
  process.kill(pids[between], "SIGKILL");
  for (let n = 0; n < 5; n++) await mutate("PUT", `/comments/${first.comment}/likes/u${n}`);
  let holder = await ann.isLive("WebSocket", between);
  await bob.isLive("WebSocket", between);
  await ann.likes("Just arrived. What have I missed?", 6, false);
  await ann.agrees();
  await bob.agrees();
  await ann.look();

  // ---- a network that lets less and less through
  const blocked = async (what, path, via) => {
    console.log(`block ${what}`);
    await until(path, 403);
    await ann.page.evaluate(() => (globalThis.lines.length = 0));
    await order("POST", holder);
    await ann.sees("the loss", () => /^reconnecting in \d+ s|^reconnecting now/.test(document.getElementById("state-text").textContent));
    for (let n = 0; n < 14; n++) await mutate("PUT", `/comments/${first.comment}/likes/${via}${n}`);
    const next = await ann.isLive({ stream: "an event stream", poll: "long-poll" }[via]);
    assert.notEqual(next, holder);
    await ann.agrees();
    const lines = await ann.page.evaluate(() => globalThis.lines);
    assert.ok(lines.some((line) => /^catching up 1?\d deltas over /.test(line)), `it said what was missing: ${lines.join(" | ")}`);
    await bob.agrees();
    await order("DELETE", holder);
    holder = next;
  };
  await blocked("the WebSocket", "/live/ws/wall", "stream");
  await ann.says("Still here, over a stream of events.");
  await blocked("the event stream", "/live/events/wall", "poll");
  await ann.says("And over long-poll.");
  await bob.likes("And over long-poll.", 0, false);
  await bob.press("And over long-poll.", "like");
  await ann.likes("And over long-poll.", 1, false);
  await ann.agrees();
  await bob.agrees();

  // Who has no room and no name is asked for both.
  await ann.page.goto(`${base}/`);
  await ann.sees("the form", () => !document.getElementById("join").hidden && document.querySelector("#rooms option"));
  assert.equal(await ann.page.$eval("#join-user", (field) => field.value), "ann");
  await ann.accessible("the form");
  console.log("done");
} catch (error) {
  console.log(`wrong: ${error.message}`);
  throw error;
} finally {
  await browser.close();
}
process.exit(0);
