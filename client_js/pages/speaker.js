/** The page of a speaker: choose what is heard, start, and watch the captions come. */

import { CaptureError, captureMicrophone, captureTab, microphones, pieces, readFile } from "../capture.js";
import { explainRefusal, whoAmI } from "../problems.js";
import { level } from "../resample.js";
import { CaptionStream } from "../stream.js";
import { cleared, emptyTranscript } from "../transcript.js";
import { CaptionsView } from "../view.js";
import { ROOM_PATTERN, isSpeakerName } from "../wire.js";
import { byId, hideProblem, newestButton, offerSaving, showNote, showProblem, showState, stamp, tameMenus } from "./parts.js";
import { offerReading } from "./reading.js";

/** Audio waiting longer than this is told: captions come late then. */
const LATE_S = 2;

const form = byId("controls", HTMLFormElement);
const start = byId("start", HTMLButtonElement);
const device = byId("device", HTMLSelectElement);
const language = byId("language", HTMLSelectElement);
const room = byId("room", HTMLInputElement);
const speaker = byId("speaker", HTMLInputElement);
const file = byId("file", HTMLInputElement);

/** @type {CaptionStream | null} */
let stream = null;
/** @type {import("../capture.js").Capture | null} */
let capture = null;
let transcript = emptyTranscript();
let isStopping = false;

const newest = newestButton();
const view = new CaptionsView(byId("captions"), {
  empty: "Press “Start captions” and speak. What you say appears here.",
  onFollow: newest.show,
});
newest.button.addEventListener("click", () => view.toEnd());
tameMenus();
offerSaving(() => transcript.lines, () => `captions-${stamp()}`);
offerReading(byId("settings"), byId("captions"));
fillLanguages();
void fillDevices();
void showWho();
navigator.mediaDevices?.addEventListener("devicechange", () => void fillDevices());
room.value = new URLSearchParams(location.search).get("room") ?? "";
showFields();

form.addEventListener("input", showFields);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  void (stream === null ? begin() : end());
});
byId("retry").addEventListener("click", () => stream?.open());
byId("clear").addEventListener("click", () => {
  transcript = cleared(transcript);
  stream?.clear();
  view.render(transcript);
});
for (const moment of ["online", "pageshow"]) addEventListener(moment, () => void stream?.connection.check());
addEventListener("beforeunload", (event) => {
  if (stream !== null) event.preventDefault();
});

// ------------------------------------------------------------------ from start to stop

/** @param {File} [dropped] */
async function begin(dropped) {
  hideProblem();
  const source = dropped ? "file" : new FormData(form).get("source");
  const recording = dropped ?? file.files?.[0];
  if (!isFilledIn(source, recording)) return;
  const mine = openStream();
  try {
    if (source === "file") await play(mine, /** @type {File} */ (recording));
    else await hear(mine, source === "tab" ? captureTab : captureMicrophone);
  } catch (error) {
    mine.close();
    if (!(error instanceof CaptureError)) throw error;
    showProblem("There is nothing to hear.", error.message);
  }
}

function openStream() {
  const mine = new CaptionStream({
    transcript,
    language: language.value || null,
    room: room.value || null,
    speaker: (room.value && speaker.value.trim()) || null,
    onTranscript: (changed) => {
      transcript = changed;
      view.render(changed);
      showNote(mine.state, changed);
    },
    onState: (state) => {
      if (stream !== mine) return;
      showState(state, isStopping ? "Finishing …" : "Live");
      showNote(state, transcript);
      if (state.name === "failed" || state.name === "ended") void letGo();
    },
  });
  stream = mine;
  isStopping = false;
  setRunning(true);
  mine.open();
  return mine;
}

/**
 * @param {CaptionStream} mine
 * @param {typeof captureMicrophone} listen
 */
async function hear(mine, listen) {
  const options = { deviceId: device.value, onEnd: () => void end() };
  const heard = await listen((samples) => {
    mine.push(samples);
    showLevel(samples);
  }, options);
  if (stream !== mine) {
    await heard.stop();
    return;
  }
  capture = heard;
  byId("hearing").textContent = heard.label;
  void fillDevices();
}

/**
 * @param {CaptionStream} mine
 * @param {File} recording
 */
async function play(mine, recording) {
  byId("hearing").textContent = `Reading ${recording.name} …`;
  const samples = await readFile(recording);
  const seconds = samples.length / 16_000;
  let done = 0;
  for (const piece of pieces(samples)) {
    await mine.ready();
    if (stream !== mine || isStopping) return;
    mine.push(piece);
    done += piece.length / 16_000;
    byId("hearing").textContent = `${recording.name}: ${clock(done)} of ${clock(seconds)}`;
  }
  await end();
}

/** Nothing more is said; the last captions still come. */
async function end() {
  const mine = stream;
  if (mine === null) return;
  if (isStopping) {
    mine.close();
    return;
  }
  isStopping = true;
  start.textContent = "Stop at once";
  await capture?.stop();
  capture = null;
  showState(mine.state, "Finishing …");
  await mine.finish();
}

async function letGo() {
  const heard = capture;
  stream = capture = null;
  setRunning(false);
  await heard?.stop();
}

// ------------------------------------------------------------------ what the page shows

/** @param {boolean} isRunning */
function setRunning(isRunning) {
  start.textContent = isRunning ? "Stop" : "Start captions";
  start.classList.toggle("stop", isRunning);
  document.body.classList.toggle("running", isRunning);
  for (const field of form.elements) if (field !== start) /** @type {HTMLInputElement} */ (field).disabled = isRunning;
  byId("share").hidden = !(isRunning && room.value);
  const address = new URL(`/room/${room.value}`, location.href).href;
  Object.assign(byId("share-link", HTMLAnchorElement), { href: address, textContent: address });
  if (!isRunning) {
    byId("hearing").textContent = "";
    showLevel(new Int16Array(0));
  }
}

/**
 * Point at the field that is wrong, in the browser's own way.
 * @param {FormDataEntryValue | null} source
 * @param {File | undefined} recording
 */
function isFilledIn(source, recording) {
  const isRoom = room.value === "" || ROOM_PATTERN.test(room.value);
  room.setCustomValidity(isRoom ? "" : "Small letters, digits and hyphens, such as board-301.");
  const name = speaker.value.trim();
  speaker.setCustomValidity(name === "" || isSpeakerName(name) ? "" : "Letters, digits and spaces, 64 at most.");
  file.setCustomValidity(source !== "file" || recording ? "" : "Choose a recording.");
  return form.reportValidity();
}

function showFields() {
  const source = new FormData(form).get("source") ?? "microphone";
  for (const field of form.querySelectorAll("[data-for]")) {
    /** @type {HTMLElement} */ (field).hidden = /** @type {HTMLElement} */ (field).dataset.for !== source;
  }
  byId("name-field").hidden = room.value === "";
  for (const field of [room, speaker, file]) field.setCustomValidity("");
}

/** @param {Int16Array} samples */
function showLevel(samples) {
  const meter = byId("meter");
  const loudness = level(samples);
  meter.style.setProperty("--level", loudness.toFixed(3));
  meter.setAttribute("aria-valuenow", String(Math.round(loudness * 100)));
  if (stream?.state.name !== "live" || isStopping) return;
  const line = byId("state");
  const words = stream.behindSeconds > LATE_S ? `Catching up: ${Math.round(stream.behindSeconds)} s behind` : "Live";
  if (line.textContent !== words) line.textContent = words;
  if (stream.lostSeconds > 0) {
    showProblem("Some speech was lost.", `There was no connection for too long; ${Math.round(stream.lostSeconds)} s are missing.`);
  }
}

async function fillDevices() {
  const chosen = device.value;
  const found = (await microphones()).filter(({ deviceId, label }) => deviceId !== "" && label !== "");
  const options = found
    .filter(({ deviceId }) => deviceId !== "default")
    .map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === chosen));
  device.replaceChildren(new Option("The system’s choice", ""), ...options);
}

/** Whisper's languages, by the names the reader's own language has for them. */
function fillLanguages() {
  const codes =
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id " +
    "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si " +
    "sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh";
  const names = new Intl.DisplayNames(navigator.languages, { type: "language" });
  const options = codes
    .split(" ")
    // Whisper says jw for Javanese, everybody else jv.
    .map((code) => new Option(names.of(code === "jw" ? "jv" : code), code))
    // A name this browser does not have would stand there as a bare code.
    .filter(({ text, value }) => text !== value)
    .sort((a, b) => a.text.localeCompare(b.text));
  language.append(...options);
}

async function showWho() {
  const { who, refusal } = await whoAmI();
  if (refusal !== null) {
    const { title, advice } = explainRefusal(refusal);
    showProblem(title, advice);
  }
  if (who === null || refusal !== null) return;
  const name = who.identity.split("/").at(-1) ?? "";
  byId("who-name").textContent = name;
  byId("who-identity").textContent = who.identity;
  byId("who-rights").textContent = who.rights.join(", ") || "do nothing here";
  byId("who-expires").textContent = new Date(who.expires).toLocaleDateString(undefined, { dateStyle: "long" });
  byId("who-admin").hidden = !who.rights.includes("administer");
  byId("who").hidden = false;
  speaker.placeholder = name;
  if (!who.rights.includes("stream")) {
    showProblem("Your certificate does not allow you to speak.", "Ask for one of the role “source”, or open a room to read.");
  }
}

/** @param {number} seconds */
const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

// ------------------------------------------------------------------ dropped files

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", stream === null);
});
addEventListener("dragleave", ({ relatedTarget }) => {
  if (relatedTarget === null) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const dropped = event.dataTransfer?.files[0];
  if (stream === null && dropped) void begin(dropped);
});
