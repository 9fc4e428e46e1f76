// Opens N clients with socket.io's default transports, says a word on each, and tells how it went.
// Usage: node client.mjs URL N
import { io } from "socket.io-client";

const [url, count] = [process.argv[2], Number(process.argv[3])];

function one() {
  // The cookie that leads back to the server: a browser keeps it by itself, Node only if it is asked to.
  const socket = io(url, { withCredentials: true, forceNew: true });
  return new Promise((resolve, reject) => {
    socket.io.engine.on("upgrade", async () => resolve((await socket.emitWithAck("say", "hello")).by));
    socket.io.engine.on("upgradeError", reject);
    socket.on("connect_error", reject);
  }).finally(() => socket.disconnect());
}

const servers = await Promise.all(Array.from({ length: count }, one));
console.log(`${count} clients over WebSockets at ${new Set(servers).size} servers`);
