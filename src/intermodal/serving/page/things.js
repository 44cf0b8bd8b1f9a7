// A thing is whatever a card can show: an item of the library, a file that was dropped, words, or something made.

import * as api from "./api.js";
import { h } from "./dom.js";

const KINDS = { image: "image", audio: "audio", video: "video", text: "text" };
const ENDINGS = { csv: "timeseries", tsv: "timeseries", npz: "timeseries", parquet: "timeseries", txt: "text", md: "text" };
const COLUMNS = 240; // of an outline

/** The modality of a file as far as its name and type tell; empty where only the server can say. */
export function modalityOf(file) {
  const ending = (file.name ?? "").split(".").pop().toLowerCase();
  if (file.type === "text/csv") return "timeseries";
  return ENDINGS[ending] ?? KINDS[file.type.split("/")[0]] ?? "";
}

export class Thing {
  #url = null;
  #preview = new Map();
  #blob;

  /** @param told modality, name, and one of: id (of the library), blob, text; with what a hit tells besides. */
  constructor(told) {
    this.#blob = told.blob ?? null;
    this.id = told.id ?? "";
    this.take(told);
    this.made = []; // what it was turned into
    this.talk = []; // what was asked about it
  }

  /** Keeps what is told of it; a hit of a new search has another score. */
  take({ modality, name, text = null, metadata = {}, score = null, cosine = null, start_s = null, stop_s = null }) {
    Object.assign(this, { modality, name, text, metadata, score, cosine, start_s, stop_s });
  }

  /** Whether it came from this page and not from the library. */
  get own() {
    return !this.id;
  }

  /** The bytes of it. */
  async media() {
    if (this.#blob) return this.#blob;
    if (this.id) return api.media(this.id);
    return new Blob([this.text ?? ""], { type: "text/plain" });
  }

  /** The same as a file with a name. */
  async file() {
    const blob = await this.media();
    return blob instanceof File ? blob : new File([blob], this.name || "item", { type: blob.type });
  }

  /** An address of the bytes within this page. */
  async url() {
    this.#url ??= this.media().then((blob) => URL.createObjectURL(blob));
    return this.#url;
  }

  /** A small picture (`{picture: url}`) or an outline (`{seconds, channels}`); asked for once per size. */
  preview(size = 320) {
    if (!this.#preview.has(size)) this.#preview.set(size, this.#small(size));
    return this.#preview.get(size);
  }

  /** Gives back what its addresses hold. */
  async forget() {
    const shown = [this.#url, ...[...this.#preview.values()].map(async (small) => (await small).picture)];
    for (const url of await Promise.allSettled(shown)) if (url.value) URL.revokeObjectURL(url.value);
    this.#url = null;
    this.#preview.clear();
  }

  async #small(size) {
    if (this.id) {
      const told = await api.preview(this.id, size);
      return told instanceof Blob ? { picture: URL.createObjectURL(told) } : told;
    }
    if (this.modality === "audio") return outlineOf(await this.media());
    if (this.modality === "timeseries") return linesOf(await (await this.media()).text());
    return { picture: await this.url() };
  }
}

const known = new Map(); // id -> Thing, so that what was asked and made stays with its item
const KNOWN_MAX = 2000;

/** The thing for a hit; the one known before where there is one, with its newest score. */
export function thingOf(hit) {
  const found = known.get(hit.id) ?? new Thing(hit);
  found.take(hit);
  known.delete(hit.id);
  known.set(hit.id, found);
  if (known.size > KNOWN_MAX) {
    const [id, oldest] = known.entries().next().value;
    known.delete(id);
    oldest.forget();
  }
  return found;
}

/** The thing with an id, from what is known or from the server. */
export async function thingWith(id) {
  return known.get(id) ?? thingOf(await api.item(id));
}

const said = new Map();

/** The thing that words are; the same one for the same words. */
export function thingOfWords(text) {
  if (!said.has(text)) said.set(text, new Thing({ modality: "text", name: "your words", text }));
  return said.get(text);
}

/** The bytes of a data URL; the page may not fetch one. */
export function blobOf(url) {
  const [head, data] = url.split(",");
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: head.slice(5, head.indexOf(";")) });
}

/** A blob in base64. */
export async function base64Of(blob) {
  const read = new FileReader();
  await new Promise((done, failed) => {
    read.onload = done;
    read.onerror = () => failed(read.error);
    read.readAsDataURL(blob);
  });
  return read.result.slice(read.result.indexOf(",") + 1);
}

/** The outline of a sound. */
async function outlineOf(blob) {
  const sound = await new OfflineAudioContext(1, 1, 44100).decodeAudioData(await blob.arrayBuffer());
  const values = sound.getChannelData(0);
  return { seconds: sound.duration, channels: [{ name: "sound", ...ends(values) }] };
}

/** The lowest and highest value in each of some columns. */
function ends(values) {
  const columns = Math.min(COLUMNS, values.length);
  const low = new Array(columns).fill(Infinity);
  const high = new Array(columns).fill(-Infinity);
  for (let i = 0; i < values.length; i++) {
    const at = Math.floor((i * columns) / values.length);
    if (values[i] < low[at]) low[at] = values[i];
    if (values[i] > high[at]) high[at] = values[i];
  }
  return { low, high };
}

/** The lines of a table of numbers; a first row of names and a column of times are understood. */
function linesOf(text) {
  const rate = Number(/sample_rate_hz=([\d.e+-]+)/.exec(text)?.[1]) || null;
  const rows = text.split(/\r?\n/).filter((row) => row.trim() && !row.startsWith("#"));
  const split = rows.map((row) => row.split(/[,;\t]/).map((cell) => cell.trim().replace(/^"|"$/g, "")));
  const named = split[0].some((cell) => cell === "" || Number.isNaN(Number(cell)));
  const names = named ? split.shift() : split[0].map((_, n) => `channel${n + 1}`);
  const columns = names.map((name, n) => ({ name, values: split.map((row) => Number(row[n])) }));
  const time = columns.findIndex((column) => ["time", "t", "seconds"].includes(column.name.toLowerCase()));
  const times = time >= 0 && columns.length > 1 ? columns.splice(time, 1)[0].values : null;
  if (columns.some((column) => column.values.some(Number.isNaN))) throw new api.Failure("no preview of this file");
  const seconds = times ? times.at(-1) - times[0] : split.length / (rate ?? 1);
  return { seconds, channels: columns.slice(0, 12).map(({ name, values }) => ({ name, ...ends(values) })) };
}

const SUFFIXES = { "text/plain": "txt", "text/csv": "csv", "image/png": "png", "audio/wav": "wav", "video/mp4": "mp4" };

/** Saves the bytes of a thing as a file of the reader. */
export async function keep(thing, name = thing.name || "item") {
  const blob = await thing.media();
  const ending = SUFFIXES[blob.type.split(";")[0]] ?? "";
  const whole = ending && !name.toLowerCase().endsWith(`.${ending}`) ? `${name.replace(/\.[a-z0-9]{1,4}$/i, "")}.${ending}` : name;
  h("a", { href: await thing.url(), download: whole }).click();
}
