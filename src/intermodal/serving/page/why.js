// Why something matched: the regions, seconds, channels or words without which it would match less.

import * as api from "./api.js";
import { clock, h, svg } from "./dom.js";

const LEVELS = 4;
const TALL = 24; // of a strip of seconds
let running = new AbortController(); // what is no longer looked at is not computed to its end

/** Shows in `place` which parts of a thing of the library decided that it matches a query. */
export async function reasons(place, thing, query) {
  running.abort();
  const mine = (running = new AbortController());
  const told = place.appendChild(h("div", { class: "reasons", "aria-busy": "true" }, h("p", { class: "small" }, "Looking for what decided …")));
  try {
    thing.why = thing.why?.query === query ? thing.why : { query, found: await asked(thing, query, mine.signal) };
    const drawn = await parts(thing, thing.why.found);
    if (!mine.signal.aborted) told.replaceChildren(...drawn);
  } catch (error) {
    if (error.name !== "AbortError") told.replaceChildren(h("p", { class: "small" }, error.message));
  } finally {
    told.removeAttribute("aria-busy");
  }
}

async function asked(thing, query, signal) {
  const of = thing.id;
  if (query.id) return api.explain({ id: query.id, of }, signal);
  if (query.modality === "text") return api.explain({ words: query.text ?? (await (await query.media()).text()), of }, signal);
  return api.explain({ file: await query.file(), of }, signal);
}

async function parts(thing, { item, query }) {
  const found = [];
  const most = (list) => list.reduce((best, part) => Math.max(best, part.weight), 1e-9);
  const regions = item.parts.filter((part) => part.box);
  const seconds = item.parts.filter((part) => "start_s" in part);
  const channels = item.parts.filter((part) => part.channel);
  const words = item.parts.filter((part) => part.words);
  if (regions.length) found.push(await heat(thing, regions, most(regions)));
  if (seconds.length) found.push(strip(seconds, most(seconds)));
  if (channels.length) found.push(bars(channels, most(channels)));
  if (words.length) found.push(marked("Its words", words, most(words)));
  if (query) found.push(marked("Your words", query.parts, most(query.parts)));
  found.push(h("p", { class: "small" }, "Stronger: it would match less without this part, which was hidden to find out."));
  return found;
}

const share = (part, most) => Math.max(0, part.weight / most);
const percent = (number) => `${Math.round(100 * number)} %`;

/** The regions over the picture, or over the first picture of a clip. */
async function heat(thing, regions, most) {
  const { picture } = await thing.preview(320);
  const best = regions.reduce((a, b) => (b.weight > a.weight ? b : a));
  const [left, top, right, bottom] = best.box;
  const label = `what decided most lies ${percent((left + right) / 2)} from the left and ${percent((top + bottom) / 2)} from the top`;
  const drawn = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", role: "img", "aria-label": label });
  for (const part of regions) {
    const [x0, y0, x1, y1] = part.box;
    const cover = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, "fill-opacity": (0.75 * (1 - share(part, most))).toFixed(3) };
    drawn.append(svg("rect", { ...cover, class: "veil" }));
  }
  const shown = h("img", { alt: "", decoding: "async" });
  shown.src = picture;
  await shown.decode();
  shown.classList.toggle("tiny", shown.naturalWidth <= 128 && shown.naturalHeight <= 128);
  return h("div", { class: "heat" }, shown, drawn);
}

/** Seconds as a row of bars. */
function strip(seconds, most) {
  const end = seconds.at(-1).stop_s;
  const best = seconds.reduce((a, b) => (b.weight > a.weight ? b : a));
  const label = `what decided most lies between ${clock(best.start_s)} and ${clock(best.stop_s)}`;
  const drawn = svg("svg", { viewBox: `0 0 ${end} ${TALL}`, preserveAspectRatio: "none", class: "strip", role: "img", "aria-label": label });
  for (const part of seconds) {
    const tall = Math.max(1, share(part, most) * TALL);
    const place = { x: part.start_s + end / 400, y: TALL - tall, width: Math.max(end / 400, part.stop_s - part.start_s - end / 200), height: tall };
    drawn.append(svg("rect", place));
  }
  return h("div", {}, drawn, h("p", { class: "small ends" }, h("span", {}, clock(0)), h("span", {}, clock(end))));
}

/** Channels of a series with a bar each. */
function bars(channels, most) {
  const rows = channels.map((part) => {
    const bar = svg("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", class: "strip thin", "aria-hidden": "true" });
    bar.append(svg("rect", { x: 0, y: 0, width: Math.max(1, 100 * share(part, most)), height: 4 }));
    return [h("dt", {}, part.channel), h("dd", { "aria-label": percent(share(part, most)) }, bar)];
  });
  return h("dl", {}, rows);
}

/** Words, underlined the more the more they decide. */
function marked(title, words, most) {
  const shown = words.map((part) => {
    const level = Math.round(LEVELS * share(part, most));
    return [level ? h("em", { class: `level${level}` }, part.words) : part.words, " "];
  });
  return h("p", {}, h("span", { class: "small" }, `${title}: `), shown);
}
