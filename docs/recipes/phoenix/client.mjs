// Phoenix's own client: joins a topic, says a word, is moved, joins again by itself, and leaves. Usage: node client.mjs URL
import { Socket } from "phoenix";
import { WebSocket } from "ws";

const socket = new Socket(process.argv[2], { transport: WebSocket, heartbeatIntervalMs: 500 });
const channel = socket.channel("room:lobby");
let joins = 0;

// Its heartbeat, as the socket sees it.
const answered = new Promise((resolve) => socket.onMessage(({ topic }) => topic === "phoenix" && resolve()));

channel.on("say", async ({ text }) => {
  console.log(`heard ${text}`);
  if (text !== "back") return;
  await answered;
  console.log("its heartbeat was answered");
  socket.disconnect(() => process.exit(0));
});
socket.onClose(({ code }) => code !== 1000 && console.log(`closed with ${code}`));
socket.connect();
channel.join().receive("ok", () => channel.push("say", { text: joins++ ? "back" : "hello" }));
