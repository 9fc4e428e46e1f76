// Node `ws`: opens N sessions through Holdline, talks on each, and leaves or waits to be told to go.
// Usage: ws_client.js URL N MODE   (MODE as in websockets_client.py)
const assert = require("node:assert");
const { WebSocket } = require("ws");

const [url, count, mode] = [process.argv[2], Number(process.argv[3]), process.argv[4]];

function one(i) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url}?room=js${i}`);
    const sizes = [0, 1, 125, 126, 4000];
    let heard = 0;
    const next = () => socket.send("y".repeat(sizes[heard]));
    socket.on("upgrade", (response) => assert.match(response.headers["holdline-session"], /^[0-9a-f]{16}$/));
    socket.on("open", next);
    socket.on("message", (data) => {
      assert.strictEqual(data.toString(), "y".repeat(sizes[heard]));
      heard += 1;
      if (heard < sizes.length) return next();
      opened();
      if (mode === "echo") socket.close(1000);
    });
    socket.on("close", (code) => {
      try {
        assert.strictEqual(heard, sizes.length);
        assert.strictEqual(code, mode === "echo" ? 1000 : 1012);
        resolve();
      } catch (error) {
        reject(error);
      }
    });
    socket.on("error", reject);
  });
}

let open = 0;
function opened() {
  open += 1;
  if (open === count) console.log("ready");
}

setTimeout(() => { console.error("no end after 120 s"); process.exit(1); }, 120_000).unref();
Promise.all(Array.from({ length: count }, (_, i) => one(i))).then(
  () => console.log("done"),
  (error) => { console.error(error); process.exit(1); },
);
