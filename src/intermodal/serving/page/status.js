// The line at the bottom: the library, what is being added, the model, how long the last search took.

import { h, several } from "./dom.js";
import { show } from "./model.js";
import { store } from "./store.js";

const line = document.getElementById("status");

/** The name that the server's search uses, else those of all models. */
const names = ({ library, models }) => library?.model ?? models.map((model) => model.id).join(", ");

function draw(state) {
  const { library, absent, adding, ms, models } = state;
  const parts = [];
  if (library) parts.push(h("span", {}, `${library.name}: ${several(library.items, "item")}`));
  else if (absent) parts.push(h("span", {}, "no library"));
  if (adding.files) {
    const bar = h("progress", { max: 1, value: adding.share, "aria-label": "how far the files are" });
    parts.push(h("span", {}, `${several(adding.files, "file")} being added `, bar));
  }
  if (models.length) parts.push(h("button", { type: "button", class: "plain", onclick: show }, `model ${names(state)}`));
  if (ms !== null) parts.push(h("span", { title: "from the question to the answer, there and back" }, `${ms} ms`));
  line.replaceChildren(...parts);
}

export function start() {
  store.watch(["library", "absent", "adding", "ms", "models"], draw);
}
