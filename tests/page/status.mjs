// The status page in Chromium, by keyboard alone: it is right, it is live, it shows the plan before the deed, it says when it is lost.
//
//   node status.mjs CLIENTS ADMIN PID [--insecure] [--pictures DIR]
//
// CLIENTS and ADMIN are the base URLs of a Holdline with one fleet `chat` of three `holdline live` (a, b, c; capacity 40), PID its
// process, which is killed at the end. NODE_PATH has puppeteer-core, axe-core and ws. With --pictures it ends after the pictures.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(import.meta.url);
const puppeteer = require("puppeteer-core");
const WebSocket = require("ws");
const axe = require("axe-core");

const [clients, admin, pid, ...options] = process.argv.slice(2);
const pictures = options.includes("--pictures") && options[options.indexOf("--pictures") + 1];
const ends = [];

function open() {
  const socket = new WebSocket(`${clients.replace(/^http/, "ws")}/ws`, { rejectUnauthorized: !options.includes("--insecure") });
  socket.on("close", (code) => ends.push(code));
  return new Promise((resolve, reject) => socket.on("open", () => resolve(socket)).on("error", reject));
}

const browser = await puppeteer.launch({
  executablePath: process.env.HOLDLINE_TEST_CHROMIUM || "/usr/bin/chromium",
  acceptInsecureCerts: options.includes("--insecure"),
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
  const event = (kind) => shows(`event ${kind}`, (k) => document.querySelector(`#events [data-kind="${k}"]`), kind);
  const accessible = async (where) => {
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map((v) => [v.id, v.nodes.map((n) => n.html)]), [], where);
  };

  await page.goto(`${admin}/`);
  for (const id of ["a", "b", "c"]) await filled(id, 0);
  const held = [];
  for (let n = 0; n < 60; n++) held.push(await open());
  for (const id of ["a", "b", "c"]) await filled(id, 20);
  await shows("the sum", () => document.querySelector(".figures b").textContent === "60");
  await accessible("the page");

  await press("Drain a");
  await planned();
  const plan = await text("plan");
  assert.match(plan, /20 sessions/);
  assert.match(plan, /They land on\s+b\s+10\s+c\s+10/);
  await accessible("the dialog");
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
  await look();

  await press("Undrain a");
  await planned();
  assert.match(await text("plan"), /takes sessions again at once/);
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

  assert.deepEqual(wrong, [], "errors, violations, foreign requests");
  assert.ok(ends.every((code) => code === 1012), String(ends));
  process.kill(Number(pid), "SIGKILL");
  await shows("the loss", () => /No connection to Holdline/.test(document.getElementById("lost").textContent));
  assert.ok(await page.$eval("#picture", (picture) => picture.inert && picture.textContent.includes("chat")), "the last picture stays");
  console.log("done");

  /** Every width and scheme; pictures of two of them, if asked for. */
  async function look() {
    for (const [name, width, height, scheme] of [["dark", 1280, 800, "dark"], ["phone", 320, 800, "light"], ["page", 1280, 800, "light"]]) {
      await page.setViewport({ width, height });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width, `${name}: nothing is wider than the screen`);
      await accessible(name);
      if (pictures) await page.screenshot({ path: `${pictures}/status-${name}.png` });
    }
    const dark = await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]).then(() => page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
    assert.notEqual(dark, await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  }
} finally {
  await browser.close();
}
process.exit(0);
