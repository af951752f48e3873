/** The page of a room: for readers, and with `?display=screen` for a television on the wall. */

import { RoomReader } from "../room.js";
import { CaptionsView } from "../view.js";
import { ROOM_PATTERN } from "../wire.js";
import { byId, newestButton, offerSaving, showNote, showProblem, showState, stamp, tameMenus } from "./parts.js";
import { offerReading } from "./reading.js";

/** Lines a screen keeps: more than any has room for. */
const SCREEN_LINES_MAX = 40;

const room = decodeURIComponent(location.pathname.split("/").at(-1) ?? "");
const query = new URLSearchParams(location.search);
const isScreen = query.get("display") === "screen";
const link = new URLSearchParams(location.hash.slice(1)).get("link");

document.title = `${room} · Live captions`;
byId("room").textContent = room;
document.body.classList.toggle("screen", isScreen);
tameMenus();

const newest = newestButton();
const view = new CaptionsView(byId("captions"), {
  empty: isScreen ? "" : "Captions appear here as soon as somebody speaks.",
  onFollow: newest.show,
});
newest.button.addEventListener("click", () => view.toEnd());

const reader = new RoomReader({
  room,
  link,
  ...(isScreen ? { linesMax: SCREEN_LINES_MAX, recent: SCREEN_LINES_MAX } : {}),
  onTranscript: (transcript) => {
    view.render(transcript);
    tellWho();
    showNote(reader.state, transcript);
  },
  onState: (state) => {
    showState(state, "");
    tellWho();
    showNote(state, reader.transcript);
    if (isScreen && state.name === "live") void renewPage();
  },
});
offerSaving(() => reader.transcript.lines, () => `${room}-${stamp()}`);
byId("retry").addEventListener("click", () => reader.open());
for (const moment of ["online", "pageshow", "focus"]) addEventListener(moment, () => void reader.connection.check());
// Another link pasted into the same window changes the address without loading the page.
addEventListener("hashchange", () => location.reload());

if (isScreen) beScreen();
else offerReading(byId("settings"), byId("captions"));
if (ROOM_PATTERN.test(room)) reader.open();
else showProblem("There is no such room.", "Names of rooms have small letters, digits and hyphens, such as board-301.");

/** Who is heard, in the line that tells the state. */
function tellWho() {
  if (reader.state.name !== "live") return;
  const names = [...new Set(Object.values(reader.transcript.speakers))];
  const words = names.length === 0 ? "Waiting for a speaker" : `Live: ${names.join(", ")}`;
  const line = byId("state");
  if (line.textContent !== words) line.textContent = words;
}

// ------------------------------------------------------------------ the television

function beScreen() {
  const lines = Number(query.get("lines"));
  if (lines >= 1 && lines <= 12) document.body.style.setProperty("--screen-lines", String(Math.floor(lines)));
  const look = query.get("look");
  if (look !== null) document.documentElement.dataset.look = look;
  void stayAwake();
  document.addEventListener("visibilitychange", () => void stayAwake());
}

/** Browsers let go of the lock when the page is hidden, so it is asked for again. */
async function stayAwake() {
  if (document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
  await navigator.wakeLock.request("screen").catch(() => {
    // Refused on low battery, for one; the screen's own settings decide then.
  });
}

/** @type {string | null} */
let pageTag = null;

/** After a server was upgraded, nobody is there to reload the page. */
async function renewPage() {
  const response = await fetch(location.pathname, { method: "HEAD", cache: "no-store" }).catch(() => null);
  const tag = response?.ok ? response.headers.get("ETag") : null;
  if (tag === null) return;
  if (pageTag !== null && pageTag !== tag) location.reload();
  pageTag = tag;
}
