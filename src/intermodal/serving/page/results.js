// The results: what was found, each shaped by what it is. A list only grows; what is shown stays where it is.

import { write } from "./address.js";
import { cardOf, factsOf } from "./cards.js";
import { h, several, wordFor } from "./dom.js";
import { more } from "./search.js";
import { asked, store } from "./store.js";
import { choose } from "./upload.js";

const zone = document.getElementById("results");
const list = document.getElementById("hits");
const told = document.getElementById("told");
const empty = document.getElementById("empty");
let shown = ""; // what the cards that are there were found as: hits | newest

const nameOf = (thing) => (thing.modality === "text" ? (thing.text ?? thing.name).slice(0, 80) : thing.name);

/** Opens an item in the panel. */
export function open(id) {
  store.set({ open: id });
  write(true);
}

function entry(thing, best) {
  const link = h("a", { class: "open", href: `?item=${encodeURIComponent(thing.id)}` }, nameOf(thing));
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(thing.id);
  });
  const made = h("li", { class: "hit" }, cardOf(thing), link, h("p", { class: "facts" }, factsOf(thing, best)));
  made.dataset.id = thing.id;
  made.dataset.score = thing.score;
  made.dataset.modality = thing.modality;
  return made;
}

function drawHits({ hits, shows }) {
  const best = Math.max(...hits.map((thing) => thing.score ?? 0), 0);
  const old = new Map([...list.children].map((hit) => [hit.dataset.id + hit.dataset.score, hit]));
  // a card that is there already stays as it is: nothing is asked for twice, and nothing jumps
  const cards = hits.map((thing) => old.get(thing.id + thing.score) ?? entry(thing, best));
  const grown = cards.length >= list.children.length && [...list.children].every((hit, n) => hit === cards[n]);
  if (grown) list.append(...cards.slice(list.children.length));
  else list.replaceChildren(...cards);
  if (!grown && (shows === "hits" || shown !== shows)) zone.scrollTop = 0;
  shown = shows;
  mark(store.state);
}

/** Says in words what is shown, or why nothing is and what to do. */
function drawWords(state) {
  const { hits, shows, error, library, absent, among, lost, busy } = state;
  zone.setAttribute("aria-busy", String(busy === "new"));
  const kind = among ? `${wordFor(among)} ` : "";
  const parts = [];
  if (lost) parts.push(h("p", {}, `The file “${lost}” was part of this search and is not kept anywhere. Drop it here again.`));
  if (error) parts.push(h("p", { role: "alert" }, error.message));
  else if (absent) {
    parts.push(h("h2", {}, "There is no library here"), h("p", {}, absent),
      h("p", {}, "What you type, drop or record can still be turned into something else: see the panel."));
  } else if (library && !library.items) {
    parts.push(h("h2", {}, "The library is empty"),
      h("p", {}, "Drop pictures, sounds, clips, tables or texts on this page, or choose some files."),
      h("button", { type: "button", class: "main", onclick: choose }, "Choose files"));
  } else if (library && !hits.length && !busy && shows !== "nothing") {
    parts.push(h("h2", {}, `No ${kind}item found`), h("p", {}, among ? "Find in all, or ask for something else." : "Ask for something else."));
  }
  empty.replaceChildren(...parts);
  empty.hidden = !parts.length;
  const ends = state.whole ? "" : ", more below";
  if (shows === "hits" && hits.length) told.textContent = `${several(hits.length, `${kind}result`)}, best first${ends}`;
  else told.textContent = shows === "newest" && hits.length ? `Added last${among ? `: ${wordFor(among)}` : ""}` : "";
}

function mark({ open: id }) {
  for (const hit of list.children) {
    const link = hit.querySelector(".open");
    if (hit.dataset.id === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

/** Moves to another card: by the columns that the list has now. */
function walk(event) {
  const links = [...list.querySelectorAll(".open")];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  const first = links[0].closest("li").offsetTop;
  const columns = links.filter((link) => link.closest("li").offsetTop === first).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (!step) return;
  event.preventDefault();
  if (at + step < 0 && event.key === "ArrowUp") document.getElementById("words").focus();
  links[at + step]?.focus();
}

/** Goes to the first card, or to the one with an id. */
export function enter(id = "") {
  const link = (id && list.querySelector(`[data-id="${CSS.escape(id)}"] .open`)) || list.querySelector(".open");
  link?.focus();
  return Boolean(link);
}

export function start() {
  store.watch(["hits"], drawHits);
  store.watch(["hits", "shows", "error", "library", "absent", "busy", "lost", "whole"], drawWords);
  store.watch(["open"], mark);
  list.addEventListener("keydown", walk);
  new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && more(), { root: zone, rootMargin: "600px" })
    .observe(document.getElementById("end"));
  store.watch(["busy"], ({ busy, whole }) => {
    // where the first hits do not fill the window, the end stays in sight and is not told of again
    if (!busy && !whole && asked() && zone.scrollHeight <= zone.clientHeight + 600) more();
  });
}
