// Channels as Phoenix speaks them (vsn=2.0.0): [join_ref, ref, topic, event, payload]. Whatever one says in a topic, all of it hear.
// Usage: PORT=9001 node server.mjs
import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

const capacity = 1000;
let state = "ready";

const server = createServer((request, response) => {
  if (request.url !== "/heartbeat") return response.writeHead(404).end();
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ sessions: sockets.clients.size, capacity, state }));
});

const sockets = new WebSocketServer({ server, path: "/socket/websocket", maxPayload: 4096 });

sockets.on("connection", (socket) => {
  const joined = new Map(); // topic → join_ref
  socket.topics = joined;
  socket.on("error", () => {}); // it ends; nothing else is wrong
  socket.on("message", (data) => {
    const [joinRef, ref, topic, event, payload] = JSON.parse(data);
    const reply = (status, response = {}) =>
      socket.send(JSON.stringify([joinRef, ref, topic, "phx_reply", { status, response }]));
    // The client's own heartbeat: without an answer in 30 s it thinks that the connection is dead.
    if (topic === "phoenix" && event === "heartbeat") return reply("ok");
    if (event === "phx_join") joined.set(topic, joinRef);
    if (event === "phx_leave") joined.delete(topic);
    if (event.startsWith("phx_")) return reply("ok");
    if (!joined.has(topic)) return reply("error", { reason: "unmatched topic" });
    for (const other of sockets.clients) {
      const open = other.readyState === WebSocket.OPEN && other.topics.has(topic);
      if (open) other.send(JSON.stringify([other.topics.get(topic), null, topic, event, payload]));
    }
    reply("ok");
  });
});

// Holdline sees `draining`, sends nobody new, and moves those who are here. Then we go.
process.once("SIGTERM", () => {
  state = "draining";
  setInterval(() => sockets.clients.size === 0 && process.exit(0), 200);
});

server.listen(process.env.PORT, "127.0.0.1", () => console.log(`listens on ${process.env.PORT}`));
