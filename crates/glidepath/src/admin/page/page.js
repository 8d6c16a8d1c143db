"use strict";
// Everything that is shown comes as text and stays text: names are made of what clients send.

const PHASES = ["armed", "serving", "lame_duck", "draining", "closing", "ended"];
const KINDS = { request: ["request", "requests"], upgraded: ["upgraded connection", "upgraded connections"], task: ["task", "tasks"], hook: ["hook", "hooks"] };
const STATES = ["in flight", "http/2", "upgraded", "reading a head", "handshake", "new", "idle", "at rest", "closing"];
const OUTCOMES = { clean: "all work finished", cut: "cut by the deadline", forced: "forced", failed: "serving failed" };
/** How far back the chart goes, and how long without events is a gap in it. */
const BACK = 300_000;
const GAP = 3_000;
/** So many rows are shown, and so many processes kept. */
const ROWS = 200;
const LIVES = 20;
/** How long after a broken connection it is tried again, where the browser does not. */
const AGAIN = 2_000;

const $ = (id) => document.getElementById(id);
const make = (tag, text, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};
/** Leaves what is shown alone where it is the same: a screen reader would say it again. */
const write = (id, text) => {
  if ($(id).textContent !== text) $(id).textContent = text;
};

// --- words ---

const span = (ms) => {
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
};
const bytes = (n) => (n < 10_000 ? `${n} B` : n < 10_000_000 ? `${Math.round(n / 1000)} kB` : `${Math.round(n / 1e6)} MB`);
const clock = (time) => new Date(time).toLocaleTimeString();
const list = (parts) => (parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`);
const count = (n, [one, many]) => `${n} ${n === 1 ? one : many}`;
const counts = (of) => list(Object.keys(KINDS).filter((kind) => of[kind] > 0).map((kind) => count(of[kind], KINDS[kind])));
const states = (of) => STATES.filter((state) => of[state] > 0).map((state) => `${of[state]} ${state}`);
const open = (of) => Object.values(of).reduce((sum, n) => sum + n, 0);
/** Who asked for the end, as the subject of a sentence. */
const asker = (cause, successor) =>
  ({ handle: "the program or this port", restart: successor ? `process ${successor}, which has taken over,` : "a restart" })[cause] ?? cause;
const phaseName = (phase) => phase.replace("_", " ");
const asSentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What holds the process, or what it does: a headline, and the sentence beneath. */
function story(frame) {
  const { phase, running, connections } = frame;
  const held = counts(frame.counts);
  const oldest = running[0] && `${running.length > 1 ? "The oldest is" : "It is"} ${running[0].name}, for ${span(running[0].age_ms)}.`;
  const notReady = frame.not_ready.length > 0 ? `not ready: it waits for ${list(frame.not_ready)}` : "";
  const cause = frame.cause ? `${asSentence(asker(frame.cause, frame.successor))} asked for the end ${span(frame.stopped_ms)} ago. ` : "";
  switch (phase) {
    case "armed":
      return ["Starting", notReady && asSentence(`${notReady}.`)];
    case "serving":
      return [notReady ? `Serving, ${notReady}` : "Serving", held ? `${held} running. ${oldest}` : "Nothing is running."];
    case "lame_duck":
      return ["Lame duck: still accepting, so that balancers turn away", `${cause}${held ? `${held} running. ${oldest}` : "Nothing is running."}`];
    case "draining":
      if (held) return [`Draining, held by ${held}`, `${oldest} ${cause}`];
      if (open(connections) > 0) return [`Draining, held by ${count(open(connections), ["connection", "connections"])}`, `${asSentence(list(states(connections)))}. ${cause}`];
      return ["Draining", cause];
    case "closing": {
      const hooks = running.filter(({ kind }) => kind === "hook");
      const waiting = frame.waiting.length > 0 ? ` ${asSentence(list(frame.waiting))} to come.` : "";
      const first = hooks[0];
      return [first ? `Closing, held by the hook “${first.name}”` : "Closing", `${first ? `It has run for ${span(first.age_ms)}.` : ""}${waiting} ${cause}`];
    }
    default:
      return ["Ended", "It writes its report."];
  }
}

/** What is left, of how much, and a sentence on it. */
function remaining(frame) {
  const { phase, left_ms: left, work_left_ms: work } = frame;
  if (left === null) return null;
  const hooks = work === null ? 0 : left - work;
  switch (phase) {
    case "lame_duck":
      return [left, frame.lame_duck_ms, `${span(left)} until it drains`];
    case "draining":
      return hooks > 0
        ? [work, frame.grace_ms - hooks, `${span(work)} left, then the rest is cut; hooks have ${span(hooks)} more`]
        : [left, frame.grace_ms, `${span(left)} left, then the rest is cut`];
    case "closing":
      return [left, frame.grace_ms, `${span(left)} left for the hooks`];
    default:
      return null;
  }
}

// --- what is known ---

let frame = null;
/** How the process on show has ended, once it has: `{ pid, program, report, more_cut, at }`. */
let ended = null;
/** The processes that were seen, the newest first. */
const lives = [];
/** `{ at, connections, phase, pid }`, the oldest first. */
const samples = [];
let heard = null;
let link = "waiting";
let token = "";

function take(next) {
  const now = Date.now();
  const last = frame;
  if (!last || ended || last.pid !== next.pid) {
    if (lives[0] && !lives[0].end) lives[0].end = { at: heard, how: "out of sight without a report: killed, or too far away" };
    if (lives[0]?.pid !== next.pid) lives.unshift({ pid: next.pid, since: now - next.up_ms, predecessor: next.predecessor });
    else lives[0].end = null;
    lives.length = Math.min(lives.length, LIVES);
    if (ended) say(`Process ${next.pid} is here.`);
    ended = null;
  } else if (last.phase !== next.phase) {
    say(`${asSentence(phaseName(next.phase))}${next.cause ? ` (${next.cause})` : ""}.`);
  }
  frame = next;
  heard = now;
  samples.push({ at: now, connections: next.connections, phase: next.phase, pid: next.pid });
  while (samples[0].at < now - BACK) samples.shift();
}

function takeReport(last) {
  const at = Date.now();
  ended = { ...last, at };
  const life = lives.find(({ pid }) => pid === last.pid);
  if (life) life.end = { at, ...last };
  say(`Ended: ${OUTCOMES[last.report.outcome] ?? last.report.outcome}, exit code ${last.report.exit_code}.`);
}

// --- what is shown ---

function show() {
  const phase = ended ? "ended" : frame?.phase;
  document.body.dataset.link = link;
  document.body.dataset.phase = phase ?? "";
  document.body.dataset.ended = ended ? ended.report.outcome : "";
  showLink();
  if (!frame) return;
  const [headline, why] = ended ? howItEnded(ended) : story(frame);
  write("headline", headline);
  write("why", why);
  write("program", frame.program);
  write("process", `process ${frame.pid}, ${ended ? `ended ${clock(ended.at)}` : `up ${span(frame.up_ms)}`}`);
  document.title = `${ended ? "ended" : phaseName(phase)} · ${frame.program} ${frame.pid}`;
  for (const step of $("track").children) {
    const at = PHASES.indexOf(step.dataset.phase);
    step.hidden = step.dataset.phase === "lame_duck" && frame.lame_duck_ms === 0 && phase !== "lame_duck";
    step.classList.toggle("past", at < PHASES.indexOf(phase));
    if (step.dataset.phase === phase) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  }
  const time = ended ? null : remaining(frame);
  $("countdown").hidden = time === null;
  if (time) {
    $("left").max = Math.max(time[1], time[0], 1);
    $("left").value = time[0];
    write("left-text", time[2]);
  }
  showButtons();
  $("ended").hidden = !ended;
  $("work").hidden = ended !== null;
  if (ended) $("ended-report").replaceChildren(reportView(ended));
  showRunning();
  showChart();
  showLives();
}

function showLink() {
  const silent = heard === null ? 0 : Date.now() - heard;
  const text =
    link === "live" ? "live" : ended ? "waiting for the next process" : heard === null ? "connecting" : `nothing heard for ${span(silent)}, trying again`;
  $("link").dataset.is = link === "lost" && ended ? "waiting" : link;
  write("link", text);
}

function showButtons() {
  const can = link === "live" && !ended && frame.phase === "serving";
  $("restart").hidden = !frame.can_restart;
  const had = document.activeElement;
  for (const id of ["drain", "restart"]) $(id).disabled = !can;
  // The focus is not lost with the button that had it.
  if (had?.disabled) $("headline").focus();
}

function showRunning() {
  const kind = document.querySelector("#kinds :checked").value;
  for (const box of $("kinds").querySelectorAll("input")) {
    const of = box.value ? frame.counts[box.value] : Object.values(frame.counts).reduce((sum, n) => sum + n, 0);
    box.parentElement.lastElementChild.textContent = of;
  }
  const all = frame.running.filter((one) => !kind || one.kind === kind);
  const shown = all.slice(0, ROWS);
  const oldest = shown[0]?.age_ms || 1;
  $("running").replaceChildren(
    ...shown.map((one, at) => {
      const row = make("li", undefined, at === 0 ? "first" : "");
      row.style.setProperty("--part", `${(100 * one.age_ms) / oldest}%`);
      row.append(make("span", span(one.age_ms), "age"), " ", make("span", one.kind, "kind"), " ", make("span", one.name, "name"));
      const details = [];
      if (one.peer) details.push(`from ${one.peer}`);
      if (one.bytes_in !== undefined) details.push(`${bytes(one.bytes_in)} in, ${bytes(one.bytes_out)} out`);
      if (details.length > 0) row.append(" ", make("span", details.join(" · "), "dim"));
      return row;
    }),
  );
  const total = kind ? frame.counts[kind] : Object.values(frame.counts).reduce((sum, n) => sum + n, 0);
  const more = total - shown.length;
  const waiting = frame.waiting.length > 0 ? `Hooks to come: ${frame.waiting.join(", ")}.` : "";
  write("more", total === 0 ? `Nothing${kind ? " of this kind" : ""} is running. ${waiting}` : more > 0 ? `and ${more} more, younger. ${waiting}` : waiting);
}

function svg(tag, attributes) {
  const element = document.createElementNS($("chart").namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function showChart() {
  const now = samples.at(-1).at;
  const from = Math.max(samples[0].at, now - BACK);
  const length = Math.max(now - from, 10_000);
  const x = (at) => (300 * (at - (now - length))) / length;
  const most = Math.max(1, ...samples.map(({ connections }) => open(connections)));
  const shapes = [];
  // A silence is a gap, and not a slope.
  const pieces = [[]];
  for (const sample of samples) {
    const last = pieces.at(-1).at(-1);
    if (last && sample.at - last.at > GAP) pieces.push([]);
    pieces.at(-1).push(sample);
  }
  for (const piece of pieces) {
    let base = piece.map(() => 0);
    STATES.forEach((state, number) => {
      const top = piece.map(({ connections }, at) => base[at] + (connections[state] ?? 0));
      if (top.some((height, at) => height > base[at])) {
        const y = (height) => 100 - (95 * height) / most;
        const points = (heights) => piece.map(({ at }, i) => `${x(at).toFixed(1)},${y(heights[i]).toFixed(1)}`);
        shapes.push(svg("polygon", { class: `s${number}`, points: [...points(top), ...points(base).reverse()].join(" ") }));
      }
      base = top;
    });
  }
  samples.forEach(({ at, phase, pid }, i) => {
    const before = samples[i - 1];
    if (before && (before.phase !== phase || before.pid !== pid)) shapes.push(svg("line", { x1: x(at), x2: x(at), y1: 0, y2: 100 }));
  });
  $("chart").replaceChildren(...shapes);
  const current = ended ? {} : frame.connections;
  const label = `Open connections by state, the last ${span(length)}: now ${open(current)}, at most ${most === 1 && samples.every(({ connections }) => open(connections) === 0) ? 0 : most}`;
  if ($("chart").getAttribute("aria-label") !== label) $("chart").setAttribute("aria-label", label);
  write("top", `${most}`);
  write("from", `${span(length)} ago`);
  const seen = STATES.filter((state) => samples.some(({ connections }) => connections[state] > 0));
  $("states").replaceChildren(
    ...seen.map((state) => {
      const item = make("li", undefined, `s${STATES.indexOf(state)}`);
      item.append(make("i"), `${state} `, make("b", current[state] ?? 0));
      return item;
    }),
  );
  if (seen.length === 0) $("states").append(make("li", "none open"));
}

function howItEnded({ report, more_cut }) {
  const [first] = report.cut;
  const others = report.cut.length + more_cut - 1;
  const cut = first ? `Cut: ${first.name}, after ${span(first.age_ms)}${others > 0 ? `, and ${others} more` : ""}. ` : "";
  const heldBy = report.held_by ? `Held by ${report.held_by}. ` : "";
  const next = report.successor ? ` Process ${report.successor} has taken over.` : "";
  return [
    `Ended: ${OUTCOMES[report.outcome] ?? report.outcome}`,
    `${cut}${heldBy}Exit code ${report.exit_code}, ${span(report.took_ms)} after ${asker(report.cause)} asked for it.${next}`,
  ];
}

const parts = (of, names) => names.filter(([field]) => of[field] > 0).map(([field, words]) => `${of[field]} ${words}`).join(", ");

/** A report, as facts and what was cut by name. */
function reportView({ report, more_cut }) {
  const view = document.createDocumentFragment();
  const facts = make("dl", undefined, "facts");
  const fact = (name, value) => value && facts.append(make("dt", name), make("dd", value));
  const { connections: c, requests: r, tasks: t, hooks: h } = report;
  fact("exit code", `${report.exit_code}`);
  fact("asked by", asker(report.cause));
  fact("took", `${span(report.took_ms)} of ${span(report.grace_ms)}`);
  fact("next", report.successor && `process ${report.successor} has taken over`);
  fact("connections", parts(c, [["accepted", "accepted"], ["finished", "finished"], ["at_rest", "closed at rest"], ["upgraded", "upgraded"], ["failed", "failed"], ["cut", "cut"], ["unknown", "unknown"]]) || "none");
  fact("requests", parts(r, [["answered", "answered"], ["answered_late", "of them after the stop"], ["abandoned", "abandoned"], ["panicked", "panicked"], ["cut", "cut"]]) || "none");
  fact("tasks", parts(t, [["finished", "finished"], ["panicked", "panicked"], ["aborted", "aborted"]]));
  fact("hooks", parts(h, [["finished", "finished"], ["panicked", "panicked"], ["aborted", "aborted"]]));
  fact("panicked", report.panicked.join(", "));
  fact("held by", report.held_by);
  view.append(facts);
  if (report.cut.length > 0) {
    view.append(make("p", `Cut, ${report.cut.length + more_cut} in all:`));
    const cut = make("ol", undefined, "cut");
    for (const one of report.cut) {
      const row = make("li");
      row.append(make("span", span(one.age_ms), "age"), " ", make("span", one.kind, "kind"), " ", make("span", one.name, "name"));
      cut.append(row);
    }
    view.append(cut);
    if (more_cut > 0) view.append(make("p", `and ${more_cut} more`, "dim"));
  }
  return view;
}

let livesShown = "";

function showLives() {
  // Only when it has changed: somebody may have unfolded a report.
  const known = JSON.stringify(lives.map(({ pid, end }) => [pid, end?.at]));
  if (known === livesShown) return;
  livesShown = known;
  write("restarts", lives.length > 1 ? `${count(lives.length - 1, ["change", "changes"])} of process since this page was opened.` : "");
  $("processes").replaceChildren(
    ...lives.map(({ pid, since, predecessor, end }, at) => {
      const row = make("li");
      const after = predecessor && lives[at + 1]?.pid !== predecessor ? `, after process ${predecessor}` : "";
      if (!end) {
        row.append(make("b", `process ${pid}`), ` since ${clock(since)}${after}`);
      } else if (!end.report) {
        row.append(make("b", `process ${pid}`), ` ${end.how}, ${clock(end.at)}`);
      } else {
        const fold = make("details");
        const title = make("summary");
        title.append(make("b", `process ${pid}`), ` ended ${clock(end.at)}: ${OUTCOMES[end.report.outcome] ?? end.report.outcome}, exit code ${end.report.exit_code}`);
        fold.append(title, reportView(end));
        row.append(fold);
      }
      return row;
    }),
  );
}

/** The last few words, so that an answer does not wipe out a change of phase. */
function say(text) {
  $("said").append(make("p", `${clock(Date.now())} ${text}`));
  while ($("said").children.length > 3) $("said").firstElementChild.remove();
}

// --- what is asked for ---

let asked = null;
const ASKS = {
  drain: {
    path: "/drain",
    title: (pid) => `Drain process ${pid}?`,
    text: () => `It stops accepting, finishes what runs${counts(frame.counts) ? ` (${counts(frame.counts)})` : ""} within ${span(frame.grace_ms)}, and ends. It is not started again from here.`,
    yes: "Drain",
  },
  restart: {
    path: "/restart",
    title: (pid) => `Restart process ${pid}?`,
    text: () => "The program is started again. When the new process accepts, this one drains. Nobody is refused.",
    yes: "Restart",
  },
};

function ask(name) {
  asked = ASKS[name];
  write("ask-title", asked.title(frame.pid));
  write("ask-text", asked.text());
  write("yes", asked.yes);
  $("token").value = token;
  $("ask").showModal();
  $("token").focus();
}

async function act({ path, yes }) {
  say(`${yes}: asked for.`);
  try {
    // No other page can send this header: the browser would ask first, and is never told yes.
    const answer = await fetch(path, { method: "POST", headers: { authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit", redirect: "error" });
    const text = (await answer.text()).trim();
    if (!answer.ok && answer.status !== 409) token = "";
    say(answer.ok ? `${yes}: ${text}.` : `${yes} refused: ${text}.`);
  } catch (error) {
    say(`${yes}: no answer (${error.message}).`);
  }
}

$("drain").addEventListener("click", () => ask("drain"));
$("restart").addEventListener("click", () => ask("restart"));
$("no").addEventListener("click", () => $("ask").close());
$("form").addEventListener("submit", () => {
  token = $("token").value;
  $("token").value = "";
  act(asked);
});
$("kinds").addEventListener("change", showRunning);

// --- the line ---

function connect() {
  const events = new EventSource("/events");
  const on = (name, use) =>
    events.addEventListener(name, ({ data }) => {
      link = "live";
      use(JSON.parse(data));
      show();
    });
  on("snapshot", take);
  on("report", takeReport);
  events.onerror = () => {
    link = "lost";
    show();
    // Refused with a reason, and not tried again by the browser.
    if (events.readyState === EventSource.CLOSED) {
      tellWhy();
      setTimeout(connect, AGAIN);
    }
  };
}

async function tellWhy() {
  const leave = new AbortController();
  try {
    const answer = await fetch("/events", { cache: "no-store", signal: leave.signal });
    if (!answer.ok) say(`Not to be watched now: ${(await answer.text()).trim()}.`);
  } catch {
    // Nobody is there, as the line above says.
  }
  leave.abort();
}

setInterval(showLink, 1000);
connect();
