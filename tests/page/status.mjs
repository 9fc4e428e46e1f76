// The status page in Chromium, by keyboard alone: it is right, it is live, it shows the plan before the deed, it says when it is lost.
//
//   node status.mjs CLIENTS ADMIN
//
// CLIENTS and ADMIN are the base URLs of a Holdline with the fleets `chat` of three chat servers (a, b, c; capacity 40) and `feed` of one
// server at /feed. What is printed asks tests/it/page.rs to go on: it reloads, pauses and restarts Holdline. NODE_PATH has puppeteer-core,
// axe-core and ws. With HOLDLINE_TEST_PICTURES each state is kept there as pictures.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(import.meta.url);
const puppeteer = require("puppeteer-core");
const WebSocket = require("ws");
const axe = require("axe-core");

const [clients, admin] = process.argv.slice(2);
const pictures = process.env.HOLDLINE_TEST_PICTURES;

/** How sessions ended that did not leave by themselves; whether their clients come back, as good ones do. */
let ends = [];
let returning = false;

function open(path = "/ws") {
  const socket = new WebSocket(`${clients.replace(/^http/, "ws")}${path}`);
  socket.on("close", (code) => {
    if (socket.left) return;
    ends.push(code);
    if (returning) open().then((next) => held.push(next));
  });
  return new Promise((resolve, reject) => socket.on("open", () => resolve(socket)).on("error", reject));
}

function leave(sockets) {
  for (const socket of sockets.splice(0)) {
    socket.left = true;
    socket.close(1000);
  }
}

async function order(method, path) {
  const answer = await fetch(`${admin}${path}`, { method });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
}

const held = [];
const browser = await puppeteer.launch({
  // It ends with the pipe, however this script ends.
  pipe: true,
  executablePath: process.env.HOLDLINE_TEST_CHROMIUM || "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  await page.setViewport({ width: 1280, height: 800 });
  const wrong = [];
  page.on("console", (line) => ["error", "warn"].includes(line.type()) && wrong.push(line.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => new URL(request.url()).origin === new URL(admin).origin || wrong.push(request.url()));
  await page.evaluateOnNewDocument(() => addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective}`)));

  const shows = (what, is, ...args) => page.waitForFunction(is, {}, ...args).catch((error) => assert.fail(`never saw: ${what}; ${wrong}; ${error}`));
  const press = async (name) => {
    await page.focus(`button[aria-label="${name}"]`);
    await page.keyboard.press("Enter");
  };
  const planned = () => shows("a plan", () => document.getElementById("dialog").open && !document.getElementById("confirm").disabled);
  const text = (id) => page.$eval(`#${id}`, (element) => element.innerText);
  const filled = (id, sessions) =>
    shows(`${sessions} on ${id}`, (name, n) => document.querySelector(`[role=meter][aria-label="${name}"]`)?.getAttribute("aria-valuenow") === n, `Sessions on ${id}`, String(sessions));
  const inPhase = (id, phase) => shows(`${id} ${phase}`, (name, p) => document.querySelector(`[aria-label="${name}"]`)?.closest("tr").dataset.phase === p, `Sessions on ${id}`, phase);
  const event = (kind) => shows(`event ${kind}`, (k) => document.querySelector(`#events [data-kind="${k}"]`), kind);
  const accessible = async (where) => {
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map((v) => [v.id, v.nodes.map((n) => n.html)]), [], where);
  };

  await page.goto(`${admin}/`);
  for (const id of ["a", "b", "c"]) await filled(id, 0);
  for (let n = 0; n < 60; n++) held.push(await open());
  for (const id of ["a", "b", "c"]) await filled(id, 20);
  await shows("the sum", () => document.querySelector(".figures b").textContent === "60");
  await accessible("the page");

  await press("Drain a");
  await planned();
  const plan = await text("plan");
  assert.match(plan, /20 sessions/);
  assert.match(plan, /To\s+b\s+10\s+c\s+10/);
  await look("plan");
  assert.equal(ends.length, 0, "a plan moves nobody");
  await page.type("#over", "20 parsecs");
  await shows("an error in words", () => document.getElementById("problem").textContent.includes("over"));
  assert.equal(await page.$eval("#confirm", (button) => button.disabled), true);
  assert.match(wrong.pop(), /422/, "the browser notes the refusal; nothing else is wrong");
  await page.$eval("#over", (field) => field.select());
  await page.type("#over", "20s");
  await planned();
  await page.keyboard.press("Enter");
  await event("drain_started");
  await shows("the pace", () => /of 20 left/.test(document.querySelector(".backends .pace").textContent));

  await shows("an end by its cause", () => document.querySelector('[data-cause="drained"] b'));

  // More clients than the other two have seats: some wait, and the drain waits with them, for nobody is moved to nowhere.
  const waiting = [];
  for (let n = 0; n < 60; n++) waiting.push(open().catch(() => null));
  await shows("a queue", () => /wait for a seat/.test(document.querySelector(".verdict").textContent));
  await shows("the queue's meter", () => Number(document.querySelector('[aria-label="Queue of chat"]').getAttribute("aria-valuenow")) > 0);
  await look("status");

  await press("Undrain a");
  await planned();
  assert.match(await text("plan"), /takes new sessions again/);
  await page.focus("#confirm");
  await page.keyboard.press("Enter");
  await event("undrained");
  await shows("nobody waits", () => document.querySelector('[aria-label="Queue of chat"]').getAttribute("aria-valuenow") === "0");
  held.push(...(await Promise.all(waiting)));

  await press("Rebalance fleet chat");
  await shows("a plan", () => document.getElementById("plan").textContent !== "");
  await page.keyboard.press("Escape");
  await shows("the dialog closed", () => !document.getElementById("dialog").open);
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Rebalance fleet chat", "focus comes back");

  // Uneven: two hold ten, one is empty.
  leave(held);
  for (const id of ["a", "b", "c"]) await filled(id, 0);
  await order("POST", "/v1/fleets/chat/backends/a/drain");
  await inPhase("a", "drained");
  for (let n = 0; n < 20; n++) held.push(await open());
  await filled("b", 10);
  await order("DELETE", "/v1/fleets/chat/backends/a/drain");
  await inPhase("a", "ready");
  assert.ok(ends.every((code) => code === 1012), String(ends));
  [ends, returning] = [[], true];
  await press("Rebalance fleet chat");
  await planned();
  assert.match(await text("plan"), /From\s+[bc]\s+\d\s+[bc]\s+\d[^]*To\s+a\s+[67]$/);
  await page.type("#over", "2s");
  await planned();
  assert.equal(ends.length, 0, "a plan moves nobody");
  await page.keyboard.press("Enter");
  await event("rebalance_started");
  await shows("its pace", () => /Rebalance: \d of \d left/.test(document.querySelector(".fleet > .moving .pace").textContent));
  await event("rebalance_ended");
  await shows("an even fleet", () => ["a", "b", "c"].every((id) => [6, 7].includes(Number(document.querySelector(`[aria-label="Sessions on ${id}"]`).getAttribute("aria-valuenow")))));
  assert.ok([6, 7].includes(ends.length) && ends.every((code) => code === 1012), String(ends));
  assert.deepEqual(wrong, [], "errors, violations, foreign requests");
  returning = false;
  console.log("rebalanced");

  // A reload takes `feed` away: it is marked as long as somebody is there.
  const fed = [];
  for (let n = 0; n < 12; n++) fed.push(await open("/feed"));
  await filled("feed-a", 12);
  console.log("take feed away");
  const feed = () => document.getElementById("fleet-feed")?.closest(".fleet");
  await page.evaluate(`globalThis.feed = ${feed}`);
  await shows("it is leaving", () => /^Leaving: .*1[0-2] sessions are drained/.test(globalThis.feed().querySelector(".verdict").textContent));
  assert.deepEqual(await page.evaluate(() => [...globalThis.feed().querySelectorAll("button")].filter((b) => !b.hidden).length), 0, "nobody can order anything there");
  await look("leaving");
  leave(fed);
  await shows("it is gone", () => !globalThis.feed());
  await filled("a", await page.$eval('[aria-label="Sessions on a"]', (bar) => Number(bar.getAttribute("aria-valuenow"))));
  assert.deepEqual(wrong, [], "errors, violations, foreign requests");
  console.log("feed is gone");

  // A Holdline that says nothing is lost, and found when it speaks again.
  const isLost = () => shows("the loss", () => /No connection to Holdline.*reconnecting/.test(document.getElementById("lost").textContent) && !document.getElementById("lost").hidden);
  const isFound = () => shows("the return", () => document.getElementById("lost").hidden && document.getElementById("link").dataset.state === "live" && !document.querySelector("#picture button:disabled"));
  await isLost();
  assert.ok(await page.$eval("#picture", (picture) => !picture.querySelector("button:enabled") && picture.textContent.includes("chat")), "the last picture stays, and takes no orders");
  assert.equal(await page.title(), "Lost · Holdline");
  await look("lost");
  console.log("lost by its silence");
  await isFound();
  await shows("as before", () => document.querySelector(".figures b").textContent === "20");
  assert.notEqual(await page.title(), "Lost · Holdline");
  assert.deepEqual(wrong, [], "errors, violations, foreign requests");
  console.log("found again");

  // One that was restarted is another: nobody is there, and its events are its own.
  await isLost();
  console.log("lost by its end");
  await isFound();
  await shows("nobody", () => document.querySelector(".figures b").textContent === "0");
  await shows("its own events", () => document.querySelectorAll('#events [data-kind="backend_added"]').length === 3 && !document.querySelector('#events [data-kind="rebalance_ended"]'));
  // What the browser notes of requests that found nobody is as it should be.
  assert.deepEqual(wrong.filter((line) => !/net::ERR_/.test(line)), [], "errors, violations, foreign requests");
  console.log("done");

  /** Every width and scheme, without a fault in any; pictures of them, if asked for. */
  async function look(state) {
    for (const [name, width, height, scheme] of [["dark", 1280, 800, "dark"], ["phone", 320, 800, "light"], ["page", 1280, 800, "light"]]) {
      await page.setViewport({ width, height });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width, `${state}, ${name}: nothing is wider than the screen`);
      await accessible(`${state}, ${name}`);
      if (pictures) await page.screenshot({ path: `${pictures}/${state}-${name}.png` });
    }
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
    assert.notEqual(light, await ground());
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  }
} finally {
  await browser.close();
}
process.exit(0);
