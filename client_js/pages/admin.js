/** The admins' page: asks for the security report, and shows it. */

import { count, daysUntil, deniedOf, durationOf, groupsOf, isSummary, plain, reasonOf, verdictOf } from "./admin-report.js";
import { byId, download, hideProblem, showProblem, stamp } from "./parts.js";

const PATH = "/v1/admin/report";
/** The server gives a report up before. */
const PATIENCE_MS = 150_000;
const SHOWN = 5;

/** @type {import("./admin-report.js").Summary | null} */
let summary = null;

byId("again").addEventListener("click", () => void read());
byId("retry").addEventListener("click", () => void read());
byId("save").addEventListener("click", () => {
  const text = JSON.stringify(summary, null, 2);
  download(new Blob([text], { type: "application/json" }), `security-report-${stamp()}.json`);
});
void read();

/** Ask until the report is made, and show it. */
async function read() {
  setReading(true);
  try {
    summary = await ask(Date.now() + PATIENCE_MS);
    hideProblem();
    show(summary);
    say("live", `Read at ${time(new Date())}`);
  } catch (error) {
    const { title, advice } = problemOf(error);
    showProblem(title, advice, true);
    say("failed", summary === null ? "No report" : "This report is old");
  }
  setReading(false);
}

/**
 * @param {number} end Unix time in milliseconds.
 * @returns {Promise<import("./admin-report.js").Summary>}
 */
async function ask(end) {
  const response = await fetch(PATH, { cache: "no-store" });
  /** @type {unknown} */
  const value = await response.json();
  if (response.status === 202 && Date.now() < end) {
    const wait = Number(response.headers.get("Retry-After") ?? 1);
    await new Promise((done) => setTimeout(done, wait * 1_000));
    return ask(end);
  }
  if (response.ok && isSummary(value)) return value;
  throw new Refused(response.status, value);
}

/** An answer that is no report. */
class Refused extends Error {
  /**
   * @param {number} status
   * @param {unknown} body
   */
  constructor(status, body) {
    const { message } = /** @type {{ message?: unknown }} */ (body ?? {});
    super(typeof message === "string" ? message : "");
    this.status = status;
  }
}

/** @type {(error: unknown) => { title: string, advice: string }} */
function problemOf(error) {
  if (!(error instanceof Refused)) {
    return {
      title: "The server does not answer.",
      advice: "If it goes on, reload this page: the browser then says what is wrong with the connection or your certificate.",
    };
  }
  if (error.status === 403) {
    return { title: "You may no longer see the report.", advice: `The server says: ${error.message}.` };
  }
  return { title: "The report could not be made.", advice: error.message ? `The server says: ${error.message}.` : "" };
}

/** @param {boolean} isReading */
function setReading(isReading) {
  if (isReading) say("connecting", "Reading the audit log …");
  byId("again", HTMLButtonElement).disabled = isReading;
  byId("save", HTMLButtonElement).disabled = summary === null;
  byId("report").setAttribute("aria-busy", String(isReading));
}

/**
 * @param {"connecting" | "live" | "failed"} state
 * @param {string} words
 */
function say(state, words) {
  byId("state").dataset.state = state;
  byId("state").textContent = words;
}

// ------------------------------------------------------------------ the report

/** @param {import("./admin-report.js").Summary} shown */
function show({ report, integrity, commands }) {
  const [since, until] = [new Date(report.since), new Date(report.until)];
  byId("period").textContent = `${moment(since)} – ${moment(until)}, ${count(report.n_entries, "entry", "entries")} of the audit log`;
  showVerdict(verdictOf(integrity, commands));
  showTiles(report);
  showHours(report.by_hour);
  showSuspicions(report.suspicions);
  showCounts("reasons", report.failures_by_reason, reasonOf);
  showCounts("addresses", report.failures_by_address);
  showCounts("denied", report.denied, deniedOf);
  showCounts("quotas", report.quota_hits, (what) => deniedOf(what));
  showCounts("identities", report.identities, plain);
  showCounts("actions", report.actions);
  showCounts("loads", report.loads);
  showExpiring(report.expiring);
  byId("report").hidden = false;
}

/** @param {import("./admin-report.js").Verdict} verdict */
function showVerdict({ kind, title, detail, command }) {
  byId("verdict").dataset.kind = kind;
  byId("verdict-title").textContent = title;
  byId("verdict-detail").textContent = detail;
  byId("verdict-command").textContent = command ?? "";
  byId("verdict-command").hidden = command === null;
}

/** @param {import("./admin-report.js").Report} report */
function showTiles(report) {
  const grave = groupsOf(report.suspicions).filter(({ isNotice }) => !isNotice);
  const n_grave = grave.reduce((sum, { found }) => sum + found.length, 0);
  /** @type {[string, string, string?][]} */
  const tiles = [
    ["Let in", report.admitted.toLocaleString("en")],
    ["Turned away", report.turned_away.toLocaleString("en")],
    ["Sessions ended", report.sessions.toLocaleString("en")],
    ["Audio", durationOf(report.audio_s)],
    ["To look at", n_grave.toLocaleString("en"), n_grave > 0 ? "bad" : "good"],
  ];
  byId("tiles").replaceChildren(
    ...tiles.map(([name, value, kind]) => {
      const tile = element("div", "tile", element("dt", "", name), element("dd", "", value));
      if (kind !== undefined) tile.dataset.kind = kind;
      return tile;
    }),
  );
}

/** @param {import("./admin-report.js").Hour[]} hours */
function showHours(hours) {
  const most = Math.max(1, ...hours.map(({ admitted, turned_away }) => admitted + turned_away));
  const bars = hours.map(({ begin, admitted, turned_away }, at) => {
    const bar = element("div", "bar-of-hour", element("span", "turned-away"), element("span", "admitted"));
    bar.style.setProperty("--admitted", String(admitted / most));
    bar.style.setProperty("--turned-away", String(turned_away / most));
    bar.title = `${time(new Date(begin))}: ${admitted} let in, ${turned_away} turned away`;
    if (at % 6 === 0) bar.dataset.label = time(new Date(begin));
    return bar;
  });
  const chart = byId("chart");
  chart.replaceChildren(...bars);
  chart.dataset.most = count(most, "request");
  const total = (/** @type {"admitted" | "turned_away"} */ key) => hours.reduce((sum, hour) => sum + hour[key], 0);
  chart.setAttribute(
    "aria-label",
    `Bars of ${hours.length} hours: ${total("admitted")} requests let in, ${total("turned_away")} turned away, ${most} in the busiest hour.`,
  );
  byId("hours").replaceChildren(
    ...hours.map(({ begin, admitted, turned_away }) => {
      const from = element("th", "", moment(new Date(begin)));
      from.setAttribute("scope", "row");
      return element("tr", "", from, element("td", "", String(admitted)), element("td", "", String(turned_away)));
    }),
  );
}

/** @param {import("./admin-report.js").Suspicion[]} suspicions */
function showSuspicions(suspicions) {
  const groups = groupsOf(suspicions).map(({ title, advice, isNotice, found }) => {
    const items = [...found].reverse().map(({ ts, detail }) => {
      const when = element("time", "", moment(new Date(ts)));
      when.setAttribute("datetime", ts);
      return element("li", "", when, element("span", "", localTimes(detail)));
    });
    const heading = element("h3", "", title, element("span", "badge", found.length.toLocaleString("en")));
    const group = element("article", "group", heading, element("p", "hint", advice), element("ul", "", ...items.slice(0, SHOWN)));
    group.dataset.kind = isNotice ? "notice" : "bad";
    if (items.length > SHOWN) {
      const summary = element("summary", "", `${items.length - SHOWN} earlier`);
      group.append(element("details", "figures", summary, element("ul", "", ...items.slice(SHOWN))));
    }
    return group;
  });
  byId("suspicions").replaceChildren(...(groups.length > 0 ? groups : [nothing("Nothing that looks out of order.")]));
}

/**
 * @param {string} id
 * @param {import("./admin-report.js").Counted[]} counted
 * @param {(what: string) => string} [words]
 */
function showCounts(id, counted, words = (what) => what) {
  const most = counted[0]?.n ?? 1;
  const rows = counted.map(({ what, n }) => {
    const row = element("li", "", element("span", "what", words(what)), element("span", "n", n.toLocaleString("en")));
    row.style.setProperty("--share", String(n / most));
    return row;
  });
  byId(id).replaceChildren(rows.length > 0 ? element("ol", "counts", ...rows) : nothing("None."));
}

/** @param {import("./admin-report.js").Expiring[]} expiring */
function showExpiring(expiring) {
  const rows = expiring.slice(0, 2 * SHOWN).map(({ identity, not_after }) => {
    const when = element("span", "n", daysUntil(not_after, Date.now()));
    when.title = moment(new Date(not_after));
    return element("li", "", element("span", "what", plain(identity)), when);
  });
  const more = expiring.length - rows.length;
  const box = byId("expiring");
  box.replaceChildren(rows.length > 0 ? element("ol", "counts plain", ...rows) : nothing("None within 30 days."));
  if (more > 0) box.append(element("p", "hint", `and ${more} more`));
}

// ------------------------------------------------------------------ pieces

/**
 * @param {string} name
 * @param {string} className
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className !== "") made.className = className;
  made.append(...children);
  return made;
}

/** @type {(words: string) => HTMLElement} */
const nothing = (words) => element("p", "none", words);

/** With the times in a text as this browser writes them. @type {(text: string) => string} */
const localTimes = (text) =>
  text.replaceAll(/\b\d{4}-\d\d-\d\dT[\d:.]+\+00:00/g, (iso) => moment(new Date(iso)));

/** @type {(when: Date) => string} */
const moment = (when) => when.toLocaleString(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** @type {(when: Date) => string} */
const time = (when) => when.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
