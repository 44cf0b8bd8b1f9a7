// Elements in one call, the few icons, and how numbers are written. Text is always added as text, never as markup.

export const MODALITIES = ["text", "image", "audio", "video", "timeseries"];
const WORDS = { timeseries: "series" };

/** The word that people read for a modality or a field. */
export const wordFor = (name) => WORDS[name] ?? name;

/** An element with properties, listeners (`onclick`) and children; null and false children are left out. */
export function h(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (typeof value !== "string" && name in node) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").body.firstChild.namespaceURI;

/** An element of a drawing. */
export function svg(tag, given = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const PATHS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  mic: "M12 15a3 3 0 0 0 3-3V6a3 3 0 0 0-6 0v6a3 3 0 0 0 3 3zm5-3a5 5 0 0 1-10 0H5.5a6.5 6.5 0 0 0 5.75 6.45V21h1.5v-2.55A6.5 6.5 0 0 0 18.5 12z",
  stop: "M7 7h10v10H7z",
  up: "M11.25 16V7.9L8.5 10.6 7.4 9.5 12 4.9l4.6 4.6-1.1 1.1-2.75-2.7V16zM5 18h14v1.5H5z",
  close: "M6.4 5.3 12 10.9l5.6-5.6 1.1 1.1-5.6 5.6 5.6 5.6-1.1 1.1-5.6-5.6-5.6 5.6-1.1-1.1 5.6-5.6-5.6-5.6z",
  save: "M11.25 4v8.1L8.5 9.4l-1.1 1.1 4.6 4.6 4.6-4.6-1.1-1.1-2.75 2.7V4zM5 18h14v1.5H5z",
};

/** One of the icons above; the button around it carries the words. */
export function icon(name) {
  const drawn = svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" });
  drawn.append(svg("path", { d: PATHS[name] }));
  return drawn;
}

/** Seconds as `0:12`; below a minute with a tenth where it matters. */
export function clock(seconds) {
  const whole = Math.max(0, seconds);
  const rest = whole % 60;
  const shown = whole < 10 && whole % 1 ? rest.toFixed(1) : String(Math.floor(rest));
  return `${Math.floor(whole / 60)}:${shown.padStart(whole < 10 && whole % 1 ? 4 : 2, "0")}`;
}

/** A count with the separators of the reader's language. */
export const count = (number) => Number(number).toLocaleString();

/** `1 item`, `2 items`. */
export const several = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** Whether the page is as narrow as a phone: the item then lies over the results. */
export const narrow = matchMedia("(max-width: 55rem)");
export const still = matchMedia("(prefers-reduced-motion: reduce)");
export const dark = matchMedia("(prefers-color-scheme: dark)");
