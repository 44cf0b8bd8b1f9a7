// The models' page: what each can do, and the matrix of what can be made from what.

import { h, icon, wordFor } from "./dom.js";
import { store } from "./store.js";

const place = document.getElementById("model");
const VERBS = { embed: "search", translate: "translate", answer: "answer questions", score: "score pairs", complete: "complete samples" };

/** Opens it. */
export function show() {
  const close = h("button", { type: "button", class: "quiet close", "aria-label": "close", onclick: () => place.close() }, icon("close"));
  const heats = store.state.models.flatMap((model) => Object.entries(model.intermodal.figures ?? {}).map(([kind, told]) => heat(model.id, kind, told)));
  place.replaceChildren(h("header", {}, h("h2", { id: "model-title" }, "What the models can do"), close), ...store.state.models.map(card), matrix(), ...heats);
  place.showModal();
}

function card({ id, intermodal: told }) {
  const verbs = told.verbs.map((verb) => VERBS[verb] ?? verb).join(", ");
  return h("p", {}, h("strong", {}, id), ` can ${verbs || "do nothing here"}. It reads ${told.modalities.map(wordFor).join(", ") || "nothing"}.`);
}

/** Rows are what is given, columns what is made; the fewer steps, the stronger the colour. */
function matrix() {
  const { ways } = store.state;
  if (!ways.length) return h("p", {}, "No model here turns one modality into another; searching works across all that it reads.");
  const starts = [...new Set(ways.map((way) => way.from))];
  const ends = [...new Set(ways.map((way) => way.to))];
  const cell = (from, to) => {
    const way = ways.find((one) => one.from === from && one.to === to);
    if (!way) return h("td", { class: "none" }, h("span", { class: "sr" }, "no"));
    const through = way.through.map(wordFor).join(", ");
    const made = h("td", { title: `by ${way.by.join(", then ")}` }, through ? `by ${through}` : "direct");
    made.dataset.steps = String(way.through.length + 1);
    return made;
  };
  const head = h("tr", {}, h("td", {}), ends.map((to) => h("th", { scope: "col" }, wordFor(to))));
  const rows = starts.map((from) => h("tr", {}, h("th", { scope: "row" }, wordFor(from)), ends.map((to) => cell(from, to))));
  const caption = h("caption", {}, "From the row, what can be made: directly, or by way of another field.");
  const table = h("table", {}, caption, h("thead", {}, head), h("tbody", {}, rows));
  return scrolled("what can be made from what", table);
}

const scrolled = (label, table) => h("div", { class: "matrix", tabIndex: 0, role: "region", "aria-label": label }, table);

const KINDS = { search: "finds", translate: "becomes" };
const SHADES = 5;

/** What was measured of a model, as a heat map: the higher the figure, the stronger the colour. */
function heat(model, kind, { what, data, split, samples, pairs }) {
  const names = [...new Set(Object.keys(pairs).flatMap((pair) => pair.split(">")))];
  const cell = (from, to) => {
    const value = pairs[`${from}>${to}`];
    if (value === undefined) return h("td", { class: "none" }, h("span", { class: "sr" }, "not measured"));
    const made = h("td", {}, `${(100 * value).toFixed(1)}`);
    made.dataset.shade = String(Math.min(SHADES, 1 + Math.floor(value * SHADES)));
    return made;
  };
  const head = h("tr", {}, h("td", {}), names.map((to) => h("th", { scope: "col" }, wordFor(to))));
  const rows = names.map((from) => h("tr", {}, h("th", { scope: "row" }, wordFor(from)), names.map((to) => cell(from, to))));
  const caption = h("caption", {}, `${model}: the row ${KINDS[kind] ?? "to"} the column. ${what}, in %, on ${samples} unseen samples (${data}, ${split}).`);
  return scrolled(`${what} of ${model}`, h("table", {}, caption, h("thead", {}, head), h("tbody", {}, rows)));
}

export function start() {
  place.addEventListener("click", (event) => event.target === place && place.close());
}
