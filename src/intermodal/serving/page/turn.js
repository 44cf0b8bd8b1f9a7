// Turn into: only directions that a model has. What is made stands below its source, marked as made, with its seed.

import * as api from "./api.js";
import { cardOf } from "./cards.js";
import { h, wordFor } from "./dom.js";
import { ask } from "./query.js";
import { store } from "./store.js";
import { blobOf, keep, Thing } from "./things.js";

/** The section of a thing; null where nothing can be made of it. */
export function turning(thing) {
  const { ways } = store.state;
  const mine = ways.filter((way) => (thing.modality ? way.from_modality === thing.modality : way.from === way.from_modality));
  if (!mine.length) return null;
  const made = h("div", { class: "made" }, thing.made);
  const buttons = mine.map((way) => {
    const through = way.through.length ? `by way of ${way.through.map(wordFor).join(" and ")}` : "";
    const read = way.from === way.from_modality ? "" : `read as ${wordFor(way.from)}`;
    const note = [read, through].filter(Boolean).join(", ");
    const make = () => begin(thing, way, null, made);
    const button = h("button", { type: "button", class: "pill", title: note || null, onclick: make }, wordFor(way.to));
    if (note) button.append(h("span", { class: "sr" }, ` (${note})`), h("span", { class: "far", "aria-hidden": "true" }, " ⋯"));
    button.dataset.modality = way.modality;
    return button;
  });
  return h("section", { class: "turn" }, h("h3", {}, "Turn into"), h("div", { class: "pills" }, buttons), made);
}

/** Makes something; its figure is there at once and fills when it is done. */
function begin(thing, way, seed, place) {
  const figure = h("figure", { "aria-live": "polite" });
  figure.dataset.modality = way.modality;
  thing.made.unshift(figure);
  place.prepend(figure);
  make(thing, way, seed, figure, place);
}

async function make(thing, way, seed, figure, place) {
  figure.setAttribute("aria-busy", "true");
  const stopped = new AbortController();
  const seconds = h("span", {}, "");
  const began = performance.now();
  const tick = setInterval(() => (seconds.textContent = ` ${Math.round((performance.now() - began) / 1000)} s`), 1000);
  const away = () => {
    stopped.abort();
    thing.made.splice(thing.made.indexOf(figure), 1);
    figure.remove();
  };
  figure.replaceChildren(h("div", { class: "making" }), h("figcaption", { class: "facts" },
    h("span", {}, `making ${wordFor(way.to)} …`, seconds), h("button", { type: "button", class: "plain", onclick: away }, "Stop")));
  try {
    const file = thing.modality === "text" ? null : await thing.file();
    const told = await api.translate({ words: thing.text, file, to: way.to, from: way.from, seed: seed ?? undefined }, stopped.signal);
    const [best] = told.candidates;
    const name = `${wordFor(way.to)} from ${thing.own ? wordFor(thing.modality) || "a file" : thing.name}`;
    const blob = best.url ? blobOf(best.url) : null;
    const result = new Thing({ modality: best.modality, name, blob, text: best.text ?? null });
    fill(figure, result, { thing, way, seed, told, place, away });
  } catch (error) {
    if (error.name === "AbortError") return;
    const again = () => make(thing, way, seed, figure, place);
    figure.replaceChildren(h("p", { role: "alert" }, error.message), h("figcaption", { class: "facts" },
      h("button", { type: "button", class: "plain", onclick: again }, "Try again"),
      h("button", { type: "button", class: "plain", onclick: away }, "Remove")));
  } finally {
    clearInterval(tick);
    figure.setAttribute("aria-busy", "false");
  }
}

function fill(figure, result, { thing, way, seed, told, place, away }) {
  const next = (seed ?? 0) + 1;
  const through = told.way.slice(0, -1).map((step) => wordFor(step.to));
  const how = [seed === null ? "the model's own choice" : `seed ${seed}`, `${told.seconds.toFixed(1)} s`];
  if (through.length) how.push(`by way of ${through.join(" and ")}`);
  const name = `${result.name}${seed === null ? "" : `, seed ${seed}`}`;
  const action = (word, act, label) => h("button", { type: "button", class: "plain", "aria-label": label, onclick: act }, word);
  figure.replaceChildren(
    cardOf(result, true),
    h("figcaption", {},
      h("p", { class: "facts" }, h("span", { class: "mark" }, "generated"), h("span", {}, `by ${told.model}`), how.map((word) => h("span", {}, word))),
      h("p", { class: "facts" },
        action("Again", () => begin(thing, way, next, place), `again, with seed ${next}`),
        action("Save", () => keep(result, name)),
        action("Search with it", () => (result.modality === "text" ? ask(null, result.text) : ask(result, ""))),
        action("Remove", away))),
  );
}
