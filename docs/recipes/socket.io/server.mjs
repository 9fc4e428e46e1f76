// A socket.io server as Holdline likes it: a heartbeat beside it, and a SIGTERM that asks to be drained.
// Usage: PORT=9001 node server.mjs
import { createServer } from "node:http";
import { Server } from "socket.io";

const capacity = 1000;
let state = "ready";

const server = createServer((request, response) => {
  if (request.url !== "/heartbeat") return response.writeHead(404).end();
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ sessions: io.engine.clientsCount, capacity, state }));
});

const io = new Server(server); // its default transports: polling first, then a WebSocket

// Whom this server told that it does not know its session (code 1), and other refusals.
io.engine.on("connection_error", ({ code, message }) => console.error(`refused: code ${code}, ${message}`));

io.on("connection", (socket) => {
  socket.on("say", (text, heard) => heard({ text, by: process.env.PORT }));
});

// Holdline sees `draining`, sends nobody new, and moves those who are here. Then we go.
process.once("SIGTERM", () => {
  state = "draining";
  setInterval(() => io.engine.clientsCount === 0 && process.exit(0), 200);
});

server.listen(process.env.PORT, "127.0.0.1", () => console.log(`listens on ${process.env.PORT}`));
