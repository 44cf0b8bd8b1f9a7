// Waveforms on a canvas and series as lines; both take their colours from the style sheet, in both themes.

import { dark, svg } from "./dom.js";

const BAR = 3; // pixels of a bar, and of a bar with its gap
const STEP = 5;
const LEVEL_MIN = 0.02; // share of the height that silence has

/** Draws an outline as bars; those before `share` of the time are in the accent's colour. */
function drawWave(canvas, { low, high }, share) {
  const { width, height } = canvas.getBoundingClientRect();
  if (!width || !height) return;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const [rest, played] = [style.color, style.getPropertyValue("--accent")];
  const bars = Math.max(1, Math.floor(width / STEP));
  const loudest = Math.max(1e-4, ...high.map(Math.abs), ...low.map(Math.abs));
  for (let bar = 0; bar < bars; bar++) {
    const from = Math.floor((bar * low.length) / bars);
    const to = Math.max(from + 1, Math.floor(((bar + 1) * low.length) / bars));
    let level = 0;
    for (let i = from; i < to; i++) level = Math.max(level, Math.abs(low[i]), Math.abs(high[i]));
    const tall = Math.max(BAR, Math.max(LEVEL_MIN, level / loudest) * height);
    pen.fillStyle = share > 0 && bar / bars < share ? played : rest;
    pen.beginPath();
    pen.roundRect(bar * STEP, (height - tall) / 2, BAR, tall, BAR / 2);
    pen.fill();
  }
}

/** Keeps a waveform drawn whatever the size and the theme; returns what moves the played share on. */
export function wave(canvas, channel) {
  let share = 0;
  const draw = () => drawWave(canvas, channel, share);
  new ResizeObserver(draw).observe(canvas);
  const seen = new WeakRef(canvas);
  const turned = () => (seen.deref()?.isConnected ? draw() : dark.removeEventListener("change", turned));
  dark.addEventListener("change", turned);
  return (now) => {
    share = now;
    draw();
  };
}

const WIDE = 240;
const TALL = 100;
const ALIKE = 1000; // channels of one scale differ less in size

/** A small plot of a series: a line per channel, or the band between its lowest and highest values. */
export function plot(channels) {
  const spans = channels.map(({ low, high }) => [least(low), -least(high.map((value) => -value))]);
  const [bottom, top] = [least(spans.map((span) => span[0])), -least(spans.map((span) => -span[1]))];
  const sizes = spans.map(([a, b]) => Math.max(Math.abs(a), Math.abs(b))).filter((size) => size > 0);
  const shared = sizes.every((size) => size * ALIKE > Math.max(...sizes)); // else each channel fills the height
  const drawn = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", class: "plot", "aria-hidden": "true" });
  channels.forEach(({ low, high }, n) => {
    const [from, to] = shared ? [bottom, top] : spans[n];
    const x = (i) => ((low.length < 2 ? 0.5 : i / (low.length - 1)) * WIDE).toFixed(1);
    const y = (value) => (to === from ? TALL / 2 : TALL - 4 - ((value - from) / (to - from)) * (TALL - 8)).toFixed(1);
    const there = high.map((value, i) => `${x(i)},${y(value)}`);
    const flat = high.every((value, i) => value === low[i]);
    const back = flat ? [] : low.map((value, i) => `${x(i)},${y(value)}`).reverse();
    drawn.append(svg("path", { d: `M${[...there, ...back].join("L")}${flat ? "" : "Z"}`, class: `line line${n % 4}` }));
  });
  return drawn;
}

/** The least of many numbers; spreading them over `Math.min` fails for very many. */
const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
