// Stays in the chat: says a word whenever it has come in, tells when it is moved, and leaves once it has come back.
// Usage: node client.mjs URL
import { WebSocket } from "ws";

let wait = 0;

function connect(back) {
  const socket = new WebSocket(process.argv[2]);
  socket.on("open", () => {
    wait = 0;
    socket.send(back ? "back" : "hello");
  });
  socket.on("message", (data) => {
    console.log(`heard ${data}`);
    if (back) socket.close(1000);
  });
  socket.on("error", (error) => console.log(error.message));
  socket.on("close", (code) => {
    if (code === 1000) return;
    console.log(`closed with ${code}`);
    // At once, then after growing intervals, each spread: a crowd must not come back as one.
    setTimeout(connect, wait * Math.random(), true);
    wait = Math.min(2 * wait || 1000, 120_000);
  });
}

connect(false);
