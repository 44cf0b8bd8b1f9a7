// The address bar holds the query, so that a search can be shared and *back* works. A file that was dropped cannot be
// in an address: this tab keeps it for going back, and says so where it is gone.

import { store } from "./store.js";
import { thingWith } from "./things.js";

const files = []; // the things that were dropped or recorded here; an entry of the history holds a number

/** Writes the state into the address; `push` makes an entry to go back to. */
export function write(push) {
  const { words, chip, among, open } = store.state;
  const told = new URLSearchParams();
  if (words) told.set("q", words);
  if (among) told.set("in", among);
  if (chip?.id) told.set("like", chip.id);
  if (chip?.own) told.set("file", chip.name);
  if (open) told.set("item", open);
  title();
  let number = null;
  if (chip?.own) number = files.includes(chip) ? files.indexOf(chip) : files.push(chip) - 1;
  const address = told.size ? `?${told}` : location.pathname;
  if (address === (location.search || location.pathname) && history.state?.file === number) return;
  history[push ? "pushState" : "replaceState"]({ file: number }, "", address);
}

/** Puts into the state what the address says; returns whether the query is another one than before. */
export async function read() {
  const told = new URLSearchParams(location.search);
  const chip = told.has("file") ? (files[history.state?.file] ?? null) : await like(told.get("like"));
  const lost = told.has("file") && !chip ? told.get("file") : "";
  const query = { words: told.get("q") ?? "", chip, among: told.get("in") ?? "" };
  const same = Object.keys(query).every((part) => query[part] === store.state[part]);
  store.set({ ...query, lost, open: told.get("item") ?? "" });
  title();
  return !same;
}

/** Names the entry of the history for what is asked. */
function title() {
  const { words, chip } = store.state;
  const asked = [chip?.name, words].filter(Boolean).join(" + ");
  document.title = asked ? `${asked} · intermodal` : "intermodal";
}

async function like(id) {
  try {
    return id ? await thingWith(id) : null;
  } catch {
    return null; // it was removed: the words alone are searched for
  }
}
