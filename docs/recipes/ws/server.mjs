// A chat with plain `ws`: whatever one says, all of this server hear.
// Usage: PORT=9001 node server.mjs
import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

const capacity = 1000;
let state = "ready";

const server = createServer((request, response) => {
  if (request.url !== "/heartbeat") return response.writeHead(404).end();
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ sessions: chat.clients.size, capacity, state }));
});

const chat = new WebSocketServer({ server, path: "/ws", maxPayload: 4096 });

chat.on("connection", (socket) => {
  socket.on("error", () => {}); // it ends; nothing else is wrong
  socket.on("message", (data) => {
    for (const other of chat.clients) {
      if (other.readyState === WebSocket.OPEN) other.send(data.toString());
    }
  });
});

// Holdline sees `draining`, sends nobody new, and moves those who are here. Then we go.
process.once("SIGTERM", () => {
  state = "draining";
  setInterval(() => chat.clients.size === 0 && process.exit(0), 200);
});

server.listen(process.env.PORT, "127.0.0.1", () => console.log(`listens on ${process.env.PORT}`));
