// Ask: a conversation about an item, kept below it. A question left empty asks for a description.

import * as api from "./api.js";
import { h } from "./dom.js";
import { able } from "./store.js";
import { base64Of } from "./things.js";

/** The section of a thing; null where no model answers. */
export function conversation(thing) {
  const words = thing.modality === "text";
  if (!able("answer") || (words && !thing.text)) return null;
  const log = h("div", { class: "log", role: "log", "aria-label": "the conversation" }, thing.talk.map(line));
  const label = words ? "Ask about it" : "Ask about it; leave it empty for a description";
  const placeholder = words ? "Ask …" : "Ask; empty describes it …";
  const field = h("input", { type: "text", placeholder, "aria-label": label, autocomplete: "off" });
  const form = h("form", { class: "ask" }, field, h("button", { type: "submit", class: "main" }, "Ask"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const question = field.value.trim();
    if ((words && !question) || form.ariaBusy === "true") return;
    field.value = "";
    form.ariaBusy = "true";
    say(thing, log, { who: "you", words: question || "Describe this." });
    const waiting = log.appendChild(h("p", { class: "answer" }, "…"));
    try {
      const told = words ? await api.answer(question, { text: thing.text }) : await api.chat(await messages(thing));
      waiting.remove();
      say(thing, log, { who: "model", words: told.words, model: told.model });
    } catch (error) {
      waiting.remove();
      say(thing, log, { who: "server", words: error.message });
    } finally {
      form.ariaBusy = "false";
    }
  });
  return h("section", { class: "talk" }, h("h3", {}, "Ask"), log, form);
}

function say(thing, log, told) {
  thing.talk.push(told);
  log.append(line(told));
  log.lastChild.scrollIntoView({ block: "nearest" });
}

function line({ who, words, model }) {
  if (who === "you") return h("p", { class: "question" }, words);
  if (who === "server") return h("p", { class: "refused" }, words);
  return h("p", { class: "answer" }, words || "(no words)", h("span", { class: "small" }, ` ${model}`));
}

/** The conversation as the route takes it: the media with the first question, then what was said. */
async function messages(thing) {
  const media = { type: "media", data: await base64Of(await thing.media()) };
  const said = thing.talk.filter(({ who }) => who !== "server");
  return said.map(({ who, words }, n) => ({
    role: who === "you" ? "user" : "assistant",
    content: n === 0 ? [media, { type: "text", text: words }] : words,
  }));
}
