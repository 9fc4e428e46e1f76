// A feed of Server-Sent Events: a number a second, and what a client missed if it says what it had.
// Usage: PORT=9001 node server.mjs
import { createServer } from "node:http";

const capacity = 5000;
const clients = new Map(); // each with the last id that it has
let state = "ready";

const now = () => Math.floor(Date.now() / 1000);

function feed(request, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.write("retry: 500\n\n");
  // All servers give the same ids, so a client goes on at any of them; a minute is the most that it may have missed.
  const last = Number(request.headers["last-event-id"]) || now() - 1;
  clients.set(response, Math.max(last, now() - 60));
  response.on("close", () => clients.delete(response));
}

// Each gets what comes after the last that it has: none is left out, and none comes twice.
setInterval(() => {
  for (const [client, last] of clients) {
    for (let id = last + 1; id <= now(); id++) {
      client.write(`id: ${id}\ndata: it is ${new Date(id * 1000).toISOString()}\n\n`);
      clients.set(client, id);
    }
  }
}, 50);

const server = createServer((request, response) => {
  if (request.url === "/events") return feed(request, response);
  if (request.url !== "/heartbeat") return response.writeHead(404).end();
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ sessions: clients.size, capacity, state }));
});

// Holdline sees `draining`, sends nobody new, and moves those who are here. Then we go.
process.once("SIGTERM", () => {
  state = "draining";
  setInterval(() => clients.size === 0 && process.exit(0), 200);
});

server.listen(process.env.PORT, "127.0.0.1", () => console.log(`listens on ${process.env.PORT}`));
