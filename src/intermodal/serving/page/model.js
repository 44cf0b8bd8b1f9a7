// The models' page: what each can do, and the matrix of what can be made from what.

import { h, icon, wordFor } from "./dom.js";
import { store } from "./store.js";

const place = document.getElementById("model");
const VERBS = { embed: "search", translate: "translate", answer: "answer questions", score: "score pairs", complete: "complete samples" };

/** Opens it. */
export function show() {
  const close = h("button", { type: "button", class: "quiet close", "aria-label": "close", onclick: () => place.close() }, icon("close"));
  place.replaceChildren(h("header", {}, h("h2", { id: "model-title" }, "What the models can do"), close), ...store.state.models.map(card), matrix());
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
  return h("div", { class: "matrix", tabIndex: 0, role: "region", "aria-label": "what can be made from what" }, table,
    h("p", { class: "small" }, "How well each direction does is written in the model's card; this server tells no figures."));
}

export function start() {
  place.addEventListener("click", (event) => event.target === place && place.close());
}
