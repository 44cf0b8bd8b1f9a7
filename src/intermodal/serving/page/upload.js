// Adding files: sent a few at a time, each with its state, and why one failed. Nothing here is modal.

import * as api from "./api.js";
import { h, icon, several } from "./dom.js";
import { search } from "./search.js";
import { asked, store } from "./store.js";

const FILES = 16; // of one request
const BYTES = 24 * 2 ** 20; // of one request, where a file alone is not larger
const ROWS = 200; // that are listed

const zone = document.getElementById("adding");
const input = document.getElementById("files");
const waiting = []; // files with their rows
let total = 0;
let done = 0;
let wrong = 0;
let running = false;

/** Lets the reader choose files. */
export function choose() {
  input.click();
}

/** Asks whether several files that were dropped are to be added. */
export function offer(files) {
  const yes = h("button", { type: "button", class: "main", onclick: () => add(files) }, `Add ${several(files.length, "file")}`);
  const no = h("button", { type: "button", class: "plain", onclick: hide }, "No");
  zone.replaceChildren(h("p", {}, `${several(files.length, "file")} for the library`), h("p", { class: "facts" }, yes, no));
  zone.hidden = false;
  yes.focus();
}

function hide() {
  zone.hidden = true;
  zone.replaceChildren();
}

/** Adds files to the library. */
export function add(files) {
  if (!store.state.library) {
    const close = h("button", { type: "button", class: "plain", onclick: hide }, "Close");
    zone.replaceChildren(h("p", { role: "alert" }, store.state.absent || "There is no library to add to."), close);
    zone.hidden = false;
    return;
  }
  if (!running) {
    total = done = wrong = 0;
    const away = h("button", { type: "button", class: "quiet", "aria-label": "close the list of files", onclick: hide }, icon("close"));
    zone.replaceChildren(h("header", {}, h("h2", { role: "status" }, ""), away), h("ul", {}));
  }
  zone.hidden = false;
  const list = zone.querySelector("ul");
  for (const file of files) {
    const state = h("span", { class: "state" }, "waits");
    const row = h("li", {}, h("span", { class: "file", title: file.name }, file.name), state);
    if (list.children.length < ROWS) list.append(row);
    waiting.push({ file, row, tell: (words, kind = "") => {
      state.textContent = words;
      row.dataset.kind = kind;
      wrong += kind === "failed";
      if (kind === "failed" && !row.isConnected) list.append(row); // whatever the length of the list
    } });
    total += 1;
  }
  progress(0);
  if (!running) run();
}

/** Shows how far all of it is; `share` is of the files that are being sent. */
function progress(share) {
  const part = total ? (done + share) / total : 1;
  store.set({ adding: { files: total - done, share: part } });
  const head = zone.querySelector("h2");
  const failed = wrong ? `, ${wrong} could not be added` : "";
  if (head) head.textContent = (done < total ? `Adding ${several(total - done, "file")}` : `${several(total, "file")} done`) + failed;
}

/** The next files of one request: not many, and not large together. */
function next() {
  const batch = [waiting.shift()];
  let bytes = batch[0].file.size;
  while (waiting.length && batch.length < FILES && bytes + waiting[0].file.size <= BYTES) {
    bytes += waiting[0].file.size;
    batch.push(waiting.shift());
  }
  return batch;
}

async function run() {
  running = true;
  while (waiting.length) {
    const batch = next();
    try {
      await send(batch);
    } catch (error) {
      for (const one of batch) one.tell(error.message, "failed");
    }
    done += batch.length;
    progress(0);
    await refresh();
  }
  running = false;
}

async function send(batch) {
  const sent = (share) => {
    for (const one of batch) one.tell(share < 1 ? `sending ${Math.round(100 * share)} %` : "is read …");
    progress((share * batch.length) / 2);
  };
  let failure = null;
  const line = (told) => {
    if (told.event === "progress") progress((batch.length * (1 + told.share)) / 2);
    if (told.event === "error") failure = new api.Failure(told.error.message, told.error.code);
    if (told.event === "done") settle(batch, told);
  };
  await api.add(batch.map((one) => one.file), sent, line);
  if (failure) throw failure;
}

/** Says of each file what became of it. */
function settle(batch, { failed, added, skipped }) {
  const reasons = new Map();
  for (const { name, reason } of failed) reasons.set(name, [...(reasons.get(name) ?? []), reason]);
  const known = !added && skipped ? "was there already" : skipped ? "added, or there already" : "added";
  for (const one of batch) {
    const reason = reasons.get(one.file.name)?.shift();
    if (reason) one.tell(reason, "failed");
    else one.tell(known, "done");
  }
}

/** Takes notice of what the library holds now; a search that is shown stays as it is. */
async function refresh() {
  try {
    store.set({ library: await api.library() });
  } catch {
    return; // it is said where the next search fails
  }
  if (!asked()) search();
}

export function start() {
  const button = document.getElementById("upload");
  button.append(icon("up"));
  button.addEventListener("click", choose);
  input.addEventListener("change", () => {
    if (input.files.length) add([...input.files]);
    input.value = "";
  });
  store.watch(["absent"], ({ absent }) => (button.hidden = Boolean(absent)));
}
