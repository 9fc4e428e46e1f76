// The API that was there before: it knows nothing of Holdline. Usage: PORT=9101 node api.mjs
import { createServer } from "node:http";

const server = createServer((request, response) => {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ path: request.url, for: request.headers["x-forwarded-for"] }));
});

server.listen(process.env.PORT, "127.0.0.1", () => console.log(`listens on ${process.env.PORT}`));
