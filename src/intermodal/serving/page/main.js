// Starts the page: asks the server what it has, reads the address, and listens to the keys.

import * as address from "./address.js";
import * as api from "./api.js";
import { narrow } from "./dom.js";
import * as item from "./item.js";
import * as model from "./model.js";
import * as query from "./query.js";
import * as results from "./results.js";
import { search } from "./search.js";
import * as status from "./status.js";
import { able, store } from "./store.js";
import * as upload from "./upload.js";

const field = document.getElementById("words");

/** Asks the reader for the key of the server; it stays in this tab. */
function askForKey(wrong) {
  const place = document.getElementById("key");
  const input = place.querySelector("input");
  place.querySelector(".refused").hidden = !wrong;
  place.returnValue = "";
  input.value = "";
  place.showModal();
  return new Promise((done, failed) => {
    place.addEventListener("close", () => {
      const key = input.value.trim();
      if (place.returnValue === "use" && key) done(key);
      else failed(new api.Failure("This server asks for a key. Reload the page to give one.", "invalid_api_key", 401));
    }, { once: true });
  });
}

async function ask() {
  store.set({ models: await api.models() });
  const [library, ways] = await Promise.allSettled([api.library(), able("translate") ? api.directions() : []]);
  if (library.value) store.set({ library: library.value });
  else store.set({ absent: sentence(library.reason.message) });
  if (ways.value) store.set({ ways: ways.value });
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1).replace(/\.?$/, ".")}`;

function pressed(event) {
  const inField = event.target.closest?.("input, textarea, select, dialog");
  if (event.key === "/" && (!inField || inField.type === "radio") && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    field.focus();
    field.select();
  } else if (event.key === "Escape" && !event.target.closest?.("dialog")) {
    if (item.close()) event.preventDefault();
    else if (event.target === field) query.less();
  } else if (event.key === "ArrowDown" && event.target === field) {
    if (results.enter()) event.preventDefault();
  }
}

async function start() {
  for (const zone of [query, results, item, upload, status, model]) zone.start();
  api.whenKeyIsWanted(askForKey);
  addEventListener("keydown", pressed);
  addEventListener("popstate", async () => {
    if (await address.read()) search();
  });
  try {
    await ask();
    await address.read();
  } catch (error) {
    store.set({ error });
    return;
  }
  search();
  if (!narrow.matches) field.focus(); // on a phone its keyboard would hide the results
}

start();
