// Drives a real browser for browser.rs: one page, an EventSource and a WebSocket, and what the page and the browser saw of
// two processes that serve one after the other. Commands come as lines on standard input, answers go as lines to standard output.
//
//   node browser.mjs FOLDER-WITH-NODE_MODULES PROGRAM URL

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [folder, program, url] = process.argv.slice(2);
const { chromium } = createRequire(join(folder, "package.json"))("playwright-core");

// Nothing here may outlive a test that was given up.
setTimeout(() => process.exit(2), 120_000).unref();

const browser = await chromium.launch({
  executablePath: program,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
  ],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
// What a user sees who looks: the console, and the requests that failed.
const complaints = [];
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
});
page.on("pageerror", (error) => complaints.push(`page: ${error}`));
page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure().errorText}`));

await page.goto(url);
await page.evaluate(() => {
  const seen = { opened: 0, events: 0, sinceOpened: 0, errors: [], close: null };
  window.seen = seen;
  const events = new EventSource("/sse");
  events.onopen = () => {
    seen.opened += 1;
    seen.sinceOpened = 0;
  };
  events.onmessage = () => {
    seen.events += 1;
    seen.sinceOpened += 1;
  };
  events.onerror = () => seen.errors.push(["connecting", "open", "closed"][events.readyState]);
  window.socket = new WebSocket(location.href.replace(/^http/, "ws") + "ws");
  socket.onclose = ({ code, wasClean }) => (seen.close = { code, wasClean });
  socket.onmessage = () => (seen.echoed = true);
  socket.onopen = () => socket.send("hello");
});

const commands = {
  // Events come, and the WebSocket is open.
  connected: () => seen.sinceOpened >= 3 && seen.echoed === true,
  // Events come again, from whoever is there now.
  again: () => seen.opened >= 2 && seen.sinceOpened >= 3,
  // The EventSource has given up or begun anew, and the WebSocket has ended.
  ended: () => seen.errors.length > 0 && seen.close !== null,
};

for await (const command of createInterface({ input: process.stdin })) {
  let outcome = command;
  try {
    await page.waitForFunction(commands[command], null, { timeout: 30_000, polling: 20 });
  } catch (error) {
    outcome = `not ${command} (${error.message.split("\n")[0]})`;
  }
  const seen = await page.evaluate(() => ({
    ...window.seen,
    protocol: performance.getEntriesByType("navigation")[0].nextHopProtocol,
  }));
  process.stdout.write(`${JSON.stringify({ outcome, ...seen, complaints })}\n`);
  // From here on: a page without an icon is complained of, too, before it is connected.
  complaints.length = 0;
}
await browser.close();
process.exit(0);
