// Hears seven events, whichever servers they come from, and tells whether one was missing or came twice. Usage: node client.mjs URL
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
const ids = [];
let opened = 0;

source.addEventListener("open", () => (opened += 1));
source.addEventListener("message", ({ lastEventId }) => {
  ids.push(Number(lastEventId));
  if (ids.length < 7) return;
  source.close();
  const gaps = ids.filter((id, n) => n > 0 && id !== ids[n - 1] + 1).length;
  console.log(`${ids.length} events over ${opened} connections, ${gaps} gaps`);
});
