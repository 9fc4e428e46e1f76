// Chromium: opens one page through Holdline and prints what the page says on its console, until standard input ends.
// Usage: browser.mjs PAGE_URL [CERTIFICATE]   (PEM; its key alone is trusted, whoever signed it)
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(process.env.HOLDLINE_TEST_NODE_MODULES + "/");
const puppeteer = require("puppeteer-core");

const [url, certificate] = process.argv.slice(2);
const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
if (certificate) {
  const key = new X509Certificate(readFileSync(certificate)).publicKey.export({ type: "spki", format: "der" });
  args.push(`--ignore-certificate-errors-spki-list=${createHash("sha256").update(key).digest("base64")}`);
}
// With a pipe it ends when this script does, however that is.
const browser = await puppeteer.launch({ pipe: true, executablePath: process.env.HOLDLINE_TEST_CHROMIUM || "/usr/bin/chromium", args });
try {
  const page = await browser.newPage();
  page.on("console", (line) => console.log(["error", "warn"].includes(line.type()) ? `wrong: ${line.text()}` : line.text()));
  page.on("pageerror", (error) => console.log(`wrong: ${error.message}`));
  await page.goto(url);
  await new Promise((resolve) => process.stdin.on("end", resolve).resume());
  console.log("done");
} finally {
  await browser.close();
}
process.exit(0);
