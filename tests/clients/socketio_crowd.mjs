// socket.io with its default transports: a crowd that stays and comes back, and some that come and go all the while, each as one browser
// with its cookies. Prints "all connected"; for each line on standard input says a word on every client and prints "all heard" with what
// it was once each has its answer; ends with standard input.
// Usage: socketio_crowd.mjs URL CROWD PASSERS
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import process from "node:process";

const require = createRequire(process.env.HOLDLINE_TEST_NODE_MODULES + "/");
const { io } = require("socket.io-client");
const { Socket: Engine } = require("engine.io-client");

const [url, crowd, passers] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const wrong = (what) => console.log(`wrong: ${what}`);

// Node's client begins each connection with an empty jar; a browser keeps its cookies. So one jar for all connections of a client.
Object.defineProperty(Engine.prototype, "_cookieJar", {
  get() { return this.opts.browser.jar; },
  set(jar) { this.opts.browser.jar ??= jar; },
});

function client() {
  const socket = io(url, { withCredentials: true, forceNew: true, browser: {}, autoConnect: false });
  socket.io.on("open", () => {
    const engine = socket.io.engine;
    // Its probe was answered with an error: the server that got it does not know the session.
    engine.on("upgradeError", (error) => wrong(`upgrade: ${error.message}`));
    engine.once("upgrade", () => socket.emit("say", "upgraded", () => socket.io.emitReserved("talks")));
  });
  // Of polls: an answer that is none, or 400 with its code.
  socket.io.on("error", (error) => wrong(`${error.message}: ${error.context?.responseText ?? error.description}`));
  // A drain's Close, and nothing else, ends a session that was not left.
  socket.on("disconnect", (reason, details) => {
    if (reason !== "io client disconnect" && details?.context?.code !== 1012) wrong(`${reason}, ${details?.context?.code}`);
  });
  return socket;
}

const talks = (socket) => new Promise((resolve) => socket.io.once("talks", resolve));

// A word that is said while its client comes back waits there until it is; one that a session's end leaves without an answer is said again.
async function answered(socket, word) {
  for (;;) {
    try {
      return await socket.emitWithAck("say", word);
    } catch (error) {
      if (error.message !== "socket has been disconnected") throw error;
    }
  }
}

let leaving = false;
async function passes() {
  while (!leaving) {
    const socket = client();
    socket.connect();
    await talks(socket);
    socket.disconnect();
  }
}

const all = Array.from({ length: crowd }, client);
// A few at a time: a server gives up an upgrade that takes ten seconds, which on a small machine is what a crowd in one moment takes.
for (let n = 0; n < crowd; n += 25) {
  await Promise.all(all.slice(n, n + 25).map((socket) => [talks(socket), socket.connect()][0]));
}
console.log("all connected");
const passing = Array.from({ length: passers }, passes);

for await (const word of createInterface({ input: process.stdin })) {
  const heard = await Promise.all(all.map((socket) => answered(socket, word)));
  const by = heard.map((h) => h.by);
  if (heard.some(({ text }) => text !== word)) wrong("another word");
  console.log(`all heard ${word}, ${all.filter((s) => s.connected).length} connected, by ${[...new Set(by)].sort()}`);
}
leaving = true;
await Promise.all(passing);
for (const socket of all) socket.disconnect();
console.log("done");
