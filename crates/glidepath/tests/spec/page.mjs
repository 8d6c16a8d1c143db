// Drives a real browser for page.rs: the admin page at two sizes, light and dark. Commands come as lines on standard input,
// answers go as lines to standard output. With GLIDEPATH_SHOTS, a folder, each state leaves its pictures there.
//
//   node page.mjs FOLDER-WITH-NODE_MODULES PROGRAM URL

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { complaintsOf, launch } from "./chromium.mjs";

const [folder, program, url] = process.argv.slice(2);
const axe = readFileSync(join(folder, "node_modules/axe-core/axe.min.js"), "utf8");
const shots = process.env.GLIDEPATH_SHOTS;
const PATIENCE = 30_000;

const browser = await launch(folder, program);
const SIZES = { wide: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const pages = {};
for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
    const page = await context.newPage();
    pages[`${size} ${colorScheme}`] = { page, complaints: complaintsOf(page) };
    await page.goto(url);
  }
}
const first = pages["wide light"].page;
const everywhere = (work) => Promise.all(Object.entries(pages).map(async ([name, { page }]) => [name, await work(page, name)]));

/** What a person reads on it. */
const read = () => {
  const text = (selector) => document.querySelector(selector)?.textContent.trim() ?? "";
  const shown = (selector) => document.querySelector(selector)?.checkVisibility() ?? false;
  return {
    headline: text("h1"),
    why: text("#why"),
    left: shown("#countdown") ? text("#left-text") : null,
    phase: text("#track [aria-current]"),
    link: text("#link"),
    process: text("#process"),
    said: text("#said"),
    first: [...document.querySelectorAll("#running .first span")].map((part) => part.textContent).join(" "),
    rows: document.querySelectorAll("#running li").length,
    connections: document.querySelector("#chart").getAttribute("aria-label"),
    drawn: document.querySelectorAll("#chart polygon").length,
    ended: shown("#ended") ? text("#ended-report") : null,
    processes: [...document.querySelectorAll("#processes > li")].map((one) => one.textContent),
    folded: [...document.querySelectorAll("#processes details")].map((one) => !one.open),
  };
};

const states = {
  serving: (seen) => seen.headline === "Serving" && seen.link === "live" && seen.rows === 0 && seen.why === "Nothing is running.",
  held: (seen) => seen.headline === "Serving" && seen.why.startsWith("1 request running.") && seen.rows === 1 && seen.drawn > 0,
  draining: (seen) => seen.headline === "Draining, held by 1 request" && seen.left !== null && seen.rows === 1,
  ended: (seen) => seen.headline.startsWith("Ended: ") && seen.link === "waiting for the next process",
  lost: (seen) => seen.link.startsWith("nothing heard for ") && seen.ended === null,
  again: (seen) => seen.headline === "Serving" && seen.link === "live" && seen.processes.length === 3,
  back: (seen) => seen.headline === "Serving" && seen.link === "live" && seen.ended === null && seen.processes.length === 2,
};

/** Looks until it is so; from here, because nothing is evaluated in the page that its policy does not allow. */
async function until(page, is, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const seen = await page.evaluate(read);
    if (is(seen)) return;
    if (Date.now() > end) throw new Error(`${what}: ${JSON.stringify(seen)}`);
    await new Promise((then) => setTimeout(then, 50));
  }
}

/** Waits until every page shows it. */
async function shows(state) {
  await everywhere((page, name) => until(page, states[state], name));
  if (shots) {
    await everywhere((page, name) => page.screenshot({ path: join(shots, `${state}-${name.replace(" ", "-")}.png`) }));
  }
}

/** What axe finds, and what is wider than the screen. */
async function audit() {
  const found = await everywhere(async (page) => {
    await page.evaluate(axe);
    return page.evaluate(async () => {
      const { violations } = await window.axe.run();
      const wide = document.documentElement.scrollWidth - innerWidth;
      const wrong = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
      return wide > 0 ? [...wrong, `${wide} pixels too wide`] : wrong;
    });
  });
  const wrong = found.flatMap(([name, wrong]) => wrong.map((one) => `${name}: ${one}`));
  if (wrong.length > 0) throw new Error(wrong.join("; "));
}

/** Presses the button and answers its question, with the keyboard alone; ends when the page has told how it went. */
async function press(button, token, told) {
  await first.evaluate(() => document.activeElement?.blur());
  for (let tabs = 0; (await first.evaluate(() => document.activeElement?.id)) !== button; tabs += 1) {
    if (tabs > 20) throw new Error(`${button} can't be reached by Tab`);
    await first.keyboard.press("Tab");
  }
  // Escape does nothing but close it.
  await first.keyboard.press("Enter");
  await first.keyboard.press("Escape");
  const after = await first.evaluate(() => [document.querySelector("dialog").open, document.activeElement?.id]);
  if (after[0] || after[1] !== button) throw new Error(`after Escape: ${after}`);
  await first.keyboard.press("Enter");
  const where = await first.evaluate(() => document.activeElement?.id);
  if (where !== "token") throw new Error(`the focus is on ${where}`);
  await first.keyboard.press("ControlOrMeta+A");
  await first.keyboard.type(token);
  if (shots) await first.screenshot({ path: join(shots, `ask-${button}.png`) });
  await audit();
  await first.keyboard.press("Enter");
  await until(first, ({ said }) => said.includes(told), `not said: ${told}`);
  const stored = await first.evaluate(() => [location.href, localStorage.length, sessionStorage.length, document.cookie].join(" "));
  if (stored !== `${url} 0 0 `) throw new Error(`the token may be kept: ${stored}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...words] = line.split(" ");
  let outcome = line;
  try {
    if (command === "audit") await audit();
    else if (command === "press") await press(words[0], words[1], words.slice(2).join(" "));
    else await shows(command);
  } catch (error) {
    outcome = `not ${line} (${error.message})`;
  }
  const seen = Object.fromEntries(await everywhere((page) => page.evaluate(read)));
  const complaints = Object.values(pages).flatMap(({ complaints }) => complaints.splice(0));
  process.stdout.write(`${JSON.stringify({ outcome, seen: seen["phone dark"], complaints })}\n`);
}
await browser.close();
process.exit(0);
