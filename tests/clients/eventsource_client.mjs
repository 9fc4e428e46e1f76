// Node `eventsource`: one stream that hears what is said, is told to go by a drain, and comes back by itself.
// Usage: eventsource_client.mjs EVENTS_URL
import { createRequire } from "node:module";
const require = createRequire(process.env.HOLDLINE_TEST_NODE_MODULES + "/");
const { EventSource } = require("eventsource");

const source = new EventSource(process.argv[2]);
let opens = 0;
setTimeout(() => { console.error("no end after 120 s"); process.exit(1); }, 120_000).unref();
source.addEventListener("open", () => {
  opens += 1;
  console.log(`open ${opens}`);
});
source.addEventListener("message", (event) => {
  console.log(`heard ${event.data}`);
  if (event.data === "goodbye") {
    source.close();
    console.log("done");
  }
});
source.addEventListener("error", (event) => console.log(`error ${event.code ?? "connection ended"}`));
