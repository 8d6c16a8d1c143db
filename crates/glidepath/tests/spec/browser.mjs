// Drives a real browser for browser.rs: one page, an EventSource and a WebSocket, and what the page and the browser saw of
// two processes that serve one after the other. Commands come as lines on standard input, answers go as lines to standard output.
//
//   node browser.mjs FOLDER-WITH-NODE_MODULES PROGRAM URL

import { createInterface } from "node:readline";
import { complaintsOf, launch } from "./chromium.mjs";

const [folder, program, url] = process.argv.slice(2);
const browser = await launch(folder, program);
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
const complaints = complaintsOf(page);

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
