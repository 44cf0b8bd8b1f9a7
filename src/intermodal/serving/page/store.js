// What the page knows, in one place. Zones watch the parts that they show; nothing else holds state that two share.

const state = {
  words: "", // of the query
  chip: null, // the Thing that is part of the query, or null
  among: "", // the modality to find; empty for all
  lost: "", // the name of a file that the address speaks of and nobody has any more
  hits: [], // Things, best first
  shows: "nothing", // nothing | newest | hits: what `hits` are
  busy: "", // a search runs: new | more
  whole: true, // there are no further hits
  error: null, // why there are none
  ms: null, // how long the last search took, there and back
  open: "", // id of the item that is open; "query" for the query itself; empty for none
  library: null, // what the server says of it; null where there is none
  absent: "", // why there is no library
  models: [],
  ways: [], // directions: {from, to, from_modality, modality, by, through}
  adding: { files: 0, share: 0 }, // what this page is adding
};

const watchers = [];

export const store = {
  get state() {
    return state;
  },

  /** Changes some of it and tells who watches that. */
  set(change) {
    const changed = Object.keys(change).filter((key) => state[key] !== change[key]);
    Object.assign(state, change);
    for (const [keys, told] of watchers) if (keys.some((key) => changed.includes(key))) told(state);
  },

  /** Calls `told(state)` whenever one of `keys` changes. */
  watch(keys, told) {
    watchers.push([keys, told]);
  },
};

/** Whether there is something to search for. */
export const asked = () => Boolean(state.words || state.chip);

/** Whether one of the models has a verb: embed, translate, answer. */
export const able = (verb) => state.models.some((model) => model.intermodal?.verbs.includes(verb));
