// The server's routes. Nothing else on the page asks for anything, and nothing is asked of any other place.

const KEY = "intermodal-key"; // in this tab's storage alone
const TRIES = 4;

/** What the server refused, in its own words. */
export class Failure extends Error {
  constructor(message, code = "", status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

let askForKey = async () => {
  throw new Failure("this server asks for a key", "invalid_api_key", 401);
};
let asking = null;

/** Says who asks the reader for the key; it gets whether one was wrong, and returns another. */
export function whenKeyIsWanted(ask) {
  askForKey = ask;
}

/** Takes a new key where the one that was used is still the one that is known; one dialog for all who wait. */
async function renewKey(used) {
  if ((sessionStorage.getItem(KEY) ?? "") !== used) return;
  asking ??= askForKey(Boolean(used))
    .then((key) => sessionStorage.setItem(KEY, key))
    .finally(() => (asking = null));
  await asking;
}

function refusal(status, text) {
  try {
    const { message, code } = JSON.parse(text).error;
    return new Failure(message, code, status);
  } catch {
    return new Failure(`the server answered ${status}; its log says more`, "", status);
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** The answer of the server; asks for a key where one is wanted, and again where it is busy. */
async function ask(path, options = {}) {
  for (let tries = 1; ; tries++) {
    const key = sessionStorage.getItem(KEY) ?? "";
    const headers = new Headers(options.headers);
    if (key) headers.set("Authorization", `Bearer ${key}`);
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Failure("The server cannot be reached. Is it still running?", "unreachable");
    }
    if (answer.status === 401) await renewKey(key);
    else if (answer.status === 429 && tries < TRIES) await pause(Number(answer.headers.get("Retry-After")) || 1);
    else if (answer.ok) return answer;
    else throw refusal(answer.status, await answer.text());
  }
}

const json = async (path, options) => (await ask(path, options)).json();
const sent = (body, signal) => ({
  method: "POST",
  body: JSON.stringify(body),
  headers: { "Content-Type": "application/json" },
  signal,
});

/** A form of fields; blobs are files. */
function form(fields) {
  const made = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) made.append(name, value, value.name ?? "file");
    else if (value !== undefined && value !== "") made.append(name, String(value));
  }
  return made;
}

export const models = async () => (await json("/v1/models")).data;
export const directions = async () => (await json("/v1/directions")).directions;
export const library = () => json("/v1/library");
export const item = (id) => json(`/v1/library/items/${encodeURIComponent(id)}`);
export const newest = async (top, among) => (await json(`/v1/library/items?top=${top}&among=${among}`)).items;

/** The media of an item of the library, as a blob. */
export const media = async (id) => (await ask(`/v1/library/items/${encodeURIComponent(id)}/media`)).blob();

/** An item made small: a blob of a picture, or the outline of a sound or a series. */
export async function preview(id, size) {
  const answer = await ask(`/v1/library/items/${encodeURIComponent(id)}/preview?size=${size}`);
  const picture = answer.headers.get("Content-Type").startsWith("image/");
  return picture ? answer.blob() : answer.json();
}

/** The hits of a query: words, a file or an item of the library; words beside one of those refine it. */
export function search({ words, file, id, among, top }, signal) {
  if (file) {
    return json("/v1/search", { method: "POST", body: form({ file, refine: words, among, top }), signal });
  }
  const query = id ? { id, ...(words && { refine: words }) } : { query: words };
  return json("/v1/search", sent({ ...query, ...(among && { among: [among] }), top }, signal));
}

/** Which parts of an item of the library (`of`) decide that it matches words, a file or an item of the library. */
export function explain({ words, file, id, of }, signal) {
  if (file) return json("/v1/explain", { method: "POST", body: form({ file, of }), signal });
  return json("/v1/explain", sent({ ...(id ? { id } : { query: words }), of }, signal));
}

/** What is made of an item: `{candidates, way, model, seconds}`. */
export function translate({ words, file, to, from, seed }, signal) {
  if (!file) return json("/v1/translate", sent({ input: words, to, from, seed }, signal));
  return json("/v1/translate", { method: "POST", body: form({ file, to, from, seed }), signal });
}

/** The answer to the last question of a conversation about media; a caption where nothing is asked. */
export async function chat(messages) {
  const told = await json("/v1/chat/completions", sent({ messages }));
  return { words: told.choices[0].message.content, model: told.model };
}

/** The answer to a question about a text. */
export async function answer(question, sample) {
  const told = await json("/v1/answer", sent({ question, sample }));
  return { words: told.answer, model: told.model };
}

/** Adds files: `progress(share sent)` while they go there, `line(told)` for each line that the server says. */
export async function add(files, progress, line) {
  for (;;) {
    const key = sessionStorage.getItem(KEY) ?? "";
    const status = await sendFiles(files, key, progress, line);
    if (status !== 401) return;
    await renewKey(key);
  }
}

function sendFiles(files, key, progress, line) {
  const body = new FormData();
  for (const file of files) body.append("file", file, file.name);
  const request = new XMLHttpRequest(); // fetch does not tell how much was sent
  let read = 0;
  const lines = () => {
    if (request.status !== 200) return;
    const end = request.responseText.lastIndexOf("\n") + 1;
    for (const text of request.responseText.slice(read, end).split("\n")) if (text) line(JSON.parse(text));
    read = end;
  };
  return new Promise((done, failed) => {
    request.open("POST", "/v1/library?stream=true");
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.upload.addEventListener("progress", (event) => progress(event.total ? event.loaded / event.total : 0));
    request.addEventListener("progress", lines);
    request.addEventListener("error", () => failed(new Failure("The connection broke while sending.", "unreachable")));
    request.addEventListener("load", () => {
      lines();
      if (request.status === 200 || request.status === 401) done(request.status);
      else failed(refusal(request.status, request.responseText));
    });
    request.send(body);
  });
}
