// Searches for what the state says, the newest question first: an answer that comes too late is dropped.

import * as api from "./api.js";
import { asked, store } from "./store.js";
import { thingOf } from "./things.js";

const FIRST = 48; // hits asked for at once
const MOST = 960;

let top = FIRST;
let going = null;

/** The hits of the query, or the newest items where there is none. */
async function found(state, signal) {
  if (!asked()) return { hits: await api.newest(top, state.among), shows: "newest" };
  const { words, chip, among } = state;
  const file = chip?.own ? await chip.file() : null;
  return { hits: (await api.search({ words, file, id: chip?.id, among, top }, signal)).hits, shows: "hits" };
}

/** @param busy `new` for another query, `more` for further hits of this one. */
async function go(busy) {
  const { state } = store;
  going?.abort();
  if (!state.library) {
    store.set({ hits: [], shows: "nothing", busy: "", whole: true });
    return;
  }
  going = new AbortController();
  const { signal } = going;
  const began = performance.now();
  store.set({ busy });
  try {
    const { hits, shows } = await found(state, signal);
    if (signal.aborted) return;
    const ms = shows === "hits" ? Math.round(performance.now() - began) : null;
    const { items, modalities } = store.state.library;
    const all = state.among ? (modalities[state.among] ?? 0) : items;
    const whole = hits.length < top || hits.length >= all || top >= MOST;
    store.set({ hits: hits.map(thingOf), shows, ms, whole, busy: "", error: null });
  } catch (error) {
    if (!signal.aborted) store.set({ hits: [], shows: "nothing", whole: true, busy: "", error });
  }
}

/** Searches anew. */
export function search() {
  top = FIRST;
  return go("new");
}

/** Asks for further hits; those that are shown stay where they are. */
export function more() {
  const { whole, busy } = store.state;
  if (whole || busy) return;
  top = Math.min(MOST, top * 2);
  go("more");
}
