// The query: one field for every modality. What is dropped, pasted or recorded becomes a chip beside the words.

import { write } from "./address.js";
import { cardOf } from "./cards.js";
import { h, icon, MODALITIES, wordFor } from "./dom.js";
import { search } from "./search.js";
import { able, asked, store } from "./store.js";
import { modalityOf, Thing } from "./things.js";
import { offer } from "./upload.js";

const TYPED = 250; // milliseconds without a letter until it is searched
const RECORDED_MAX = 60; // seconds

const field = document.getElementById("words");
const place = document.getElementById("chip");
const clear = document.getElementById("clear");
const record = document.getElementById("record");
const filters = document.getElementById("among");
let typing = false; // letters of one visit to the field are one entry of the history
let settled = ""; // what the field held when it was searched last
let timer = 0;

/** Searches for what the state says, and writes it into the address. */
function commit(push) {
  write(push);
  search();
}

/** Makes a thing part of the query; null takes it out. */
export function ask(chip, words = store.state.words) {
  store.set({ chip, words, open: "", lost: "" });
  typing = false;
  commit(true);
}

/** Takes a file as the query; a text becomes words. */
export async function take(file) {
  const modality = modalityOf(file);
  if (modality === "text") ask(null, (await file.text()).trim().slice(0, 2000));
  else ask(new Thing({ modality, name: file.name || `pasted ${modality}`, blob: file }));
}

function typed() {
  clearTimeout(timer);
  timer = setTimeout(settle, TYPED);
}

function settle() {
  clearTimeout(timer);
  const words = field.value.trim();
  if (words === store.state.words) return;
  settled = words;
  store.set({ words, open: store.state.open === "query" ? "query" : "" });
  commit(!typing);
  typing = true;
}

/** Takes away the last part of the query: the words, then the chip; returns whether there was one. */
export function less() {
  if (!asked() && !store.state.lost) return false;
  field.value = settled = "";
  store.set({ words: "", chip: null, lost: "", open: "" });
  typing = false;
  commit(true);
  return true;
}

function drawChip({ chip }) {
  if (!chip) return place.replaceChildren();
  const view = cardOf(chip);
  const kind = chip.modality ? wordFor(chip.modality) : "file";
  const open = h("button", { type: "button", class: "chip-open", title: chip.name, onclick: () => show() },
    h("span", { class: "sr" }, `open the query, ${kind} `), h("span", { class: "chip-name" }, chip.name));
  const away = h("button", { type: "button", class: "quiet", "aria-label": `take ${chip.name} out`, onclick: () => ask(null) }, icon("close"));
  const made = h("div", { class: "chip" }, view, open, away);
  made.dataset.modality = chip.modality;
  return place.replaceChildren(made);
}

function show() {
  store.set({ open: "query" });
  write(true);
}

function drawFilters({ among, library }) {
  const counts = library?.modalities ?? null;
  const choice = (name) => {
    const input = h("input", { type: "radio", name: "among", value: name, checked: among === name });
    const label = h("label", {}, input, h("span", {}, wordFor(name) || "all"));
    label.dataset.modality = name;
    label.classList.toggle("none", Boolean(name && counts && !counts[name]));
    return label;
  };
  const had = filters.contains(document.activeElement);
  filters.replaceChildren(h("legend", {}, "find in"), ...["", ...MODALITIES].map(choice));
  if (had) filters.querySelector("input:checked")?.focus();
}

function draw({ words, chip }) {
  if (words !== settled) field.value = settled = words; // else the reader may have typed on
  field.placeholder = chip ? "and words that refine it …" : "type, drop, paste or record anything …";
  clear.hidden = !asked();
  document.getElementById("as-item").hidden = !asked() || !(able("translate") || able("answer"));
}

// ---- recording

let recorder = null;

async function startRecording() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const pieces = [];
  const began = Date.now();
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  recorder.addEventListener("stop", () => {
    clearInterval(tick);
    for (const track of stream.getTracks()) track.stop();
    const type = recorder.mimeType.split(";")[0];
    const seconds = Math.max(1, Math.round((Date.now() - began) / 1000));
    recorder = null;
    recording(false);
    const blob = new File(pieces, `recording, ${seconds} s`, { type });
    ask(new Thing({ modality: "audio", name: blob.name, blob }));
  });
  const tick = setInterval(() => {
    const seconds = Math.round((Date.now() - began) / 1000);
    record.dataset.seconds = `${seconds} s`;
    if (seconds >= RECORDED_MAX) recorder?.stop();
  }, 250);
  recorder.start();
  recording(true);
}

function recording(on) {
  record.replaceChildren(icon(on ? "stop" : "mic"));
  record.setAttribute("aria-label", on ? "stop recording" : "record a sound");
  record.classList.toggle("on", on);
  if (!on) delete record.dataset.seconds;
}

async function toggleRecording() {
  try {
    await (recorder ? recorder.stop() : startRecording());
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "The browser does not allow the microphone here." : error.message;
    store.set({ error: new Error(`${why} Type or drop something instead.`) });
  }
}

// ---- dropping and pasting

const over = document.getElementById("drop");

function dropped(event) {
  event.preventDefault();
  over.hidden = true;
  const files = [...event.dataTransfer.files];
  const adds = event.target.closest?.("[data-drop]")?.dataset.drop === "add";
  if (files.length && (adds || files.length > 1)) offer(files);
  else if (files.length) take(files[0]);
}

/** Whether something that is dragged over the page comes from outside of it. */
const foreign = (event) => event.dataTransfer?.types.includes("Files");

export function start() {
  record.append(icon("mic"));
  clear.append(icon("close"));
  record.hidden = !navigator.mediaDevices?.getUserMedia || !self.MediaRecorder;
  field.addEventListener("input", typed);
  field.addEventListener("blur", () => (typing = false));
  field.closest("form").addEventListener("submit", (event) => {
    event.preventDefault();
    settle();
    typing = false;
  });
  clear.addEventListener("click", () => less() && field.focus());
  record.addEventListener("click", toggleRecording);
  document.getElementById("as-item").addEventListener("click", show);
  filters.addEventListener("change", (event) => {
    store.set({ among: event.target.value, open: "" });
    commit(true);
  });
  addEventListener("dragenter", (event) => foreign(event) && (over.hidden = false));
  addEventListener("dragover", (event) => foreign(event) && event.preventDefault());
  over.addEventListener("dragleave", (event) => event.relatedTarget || (over.hidden = true));
  addEventListener("drop", (event) => foreign(event) && dropped(event));
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file || event.target.closest?.(".ask")) return;
    event.preventDefault();
    take(file);
  });
  store.watch(["chip"], drawChip);
  store.watch(["words", "chip", "models"], draw);
  store.watch(["among", "library"], drawFilters);
  drawFilters(store.state);
}
