// The panel: one item, large, with why it matched, what it can be turned into, and a conversation about it.

import { write } from "./address.js";
import { conversation } from "./ask.js";
import { cardOf, secondsOf } from "./cards.js";
import { h, icon, narrow, wordFor } from "./dom.js";
import { ask } from "./query.js";
import { enter } from "./results.js";
import { asked, store } from "./store.js";
import { keep, thingOfWords, thingWith } from "./things.js";
import { turning } from "./turn.js";
import { reasons } from "./why.js";

const zone = document.getElementById("item");
const rest = ["head", "results", "status"].map((id) => document.getElementById(id));
let drawn = null; // the thing that the panel shows
let opened = ""; // what was open when it was drawn last

/** The query as an item: the chip, else the words. */
const query = (state) => state.chip ?? (state.words ? thingOfWords(state.words) : null);

/** Closes the item; returns whether one was open. */
export function close() {
  const { open } = store.state;
  if (!open) return false;
  store.set({ open: "" });
  write(true);
  if (open === "query" || !enter(open)) document.getElementById("words").focus();
  return true;
}

async function draw() {
  const state = store.state;
  const over = narrow.matches && Boolean(state.open);
  for (const part of rest) part.inert = over;
  zone.classList.toggle("over", over);
  let thing = null;
  try {
    thing = state.open && state.open !== "query" ? await thingWith(state.open) : query(state);
  } catch (error) {
    drawn = null;
    return zone.replaceChildren(closing(), h("p", { role: "alert" }, error.message));
  }
  if (state.open !== store.state.open) return undefined; // another one was opened meanwhile
  const other = opened !== state.open;
  opened = state.open;
  if (thing === drawn && thing && !other) return why(thing);
  drawn = thing;
  zone.replaceChildren(...(thing ? parts(thing) : [hint()]));
  zone.scrollTop = 0;
  if (state.open && other) zone.querySelector("h2")?.focus({ preventScroll: true });
  return undefined;
}

const closing = () => h("button", { type: "button", class: "quiet close", "aria-label": "close the item", onclick: close }, icon("close"));

function hint() {
  return h("div", { class: "hint" }, h("h2", {}, "Nothing is open"),
    h("p", {}, "Open a result, or type, drop or record something: it appears here, and can be turned into something else or asked about."));
}

function parts(thing) {
  const kind = thing.modality ? wordFor(thing.modality) : "file";
  const title = thing.own ? (thing.modality === "text" ? "Your words" : `Your ${kind}`) : thing.name || kind;
  const head = h("header", {}, h("h2", { tabIndex: -1 }, title), store.state.open && closing());
  const save = h("button", { type: "button", class: "plain", onclick: () => keep(thing) }, "Save");
  const like = thing.own ? null : h("button", { type: "button", class: "plain", onclick: () => ask(thing, "") }, "More like this");
  const seconds = secondsOf(thing);
  const facts = h("p", { class: "facts" }, h("span", { class: "kind" }, kind), seconds && h("span", {}, seconds), like, save);
  const reasons = h("section", { class: "why", hidden: true });
  const box = h("div", { class: "shown" }, cardOf(thing, true));
  box.dataset.modality = thing.modality;
  const said = Object.entries(thing.metadata ?? {}).filter(([key]) => key !== "name");
  const about = said.length ? h("dl", {}, said.map(([key, value]) => [h("dt", {}, key), h("dd", {}, String(value))])) : null;
  queueMicrotask(() => why(thing));
  return [head, box, facts, about, reasons, turning(thing), conversation(thing)].filter(Boolean);
}

/** Why it matched: what the server tells, and no more. */
function why(thing) {
  const place = zone.querySelector(".why");
  const state = store.state;
  if (!place) return;
  const known = asked() && state.shows === "hits" && state.hits.includes(thing) && typeof thing.score === "number";
  place.hidden = !known;
  if (!known) return;
  const from = query(state)?.modality || "file";
  const seconds = secondsOf(thing);
  place.replaceChildren(
    h("h3", {}, "Why it matched"),
    h("p", {}, `It stands ${thing.score.toFixed(1)} deviations above what is usual between ${wordFor(from)} and ${wordFor(thing.modality)} `,
      `(cosine ${thing.cosine.toFixed(2)}).`, seconds ? ` The part ${seconds} of ${thing.name} is what matched.` : ""),
  );
  reasons(place, thing, query(state));
}

export function start() {
  store.watch(["open", "words", "chip"], draw);
  store.watch(["hits", "shows"], () => drawn && why(drawn));
  store.watch(["models", "ways"], () => {
    drawn = null;
    draw();
  });
  narrow.addEventListener("change", draw);
  draw();
}
