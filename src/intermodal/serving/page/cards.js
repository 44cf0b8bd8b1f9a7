// The five kinds of card, one custom element each. A card shows a Thing: small in the results, large (`large`) in the
// panel. What it needs is asked for when it comes near the window, so a long list costs what is looked at.

import { clock, h, icon, still, wordFor } from "./dom.js";
import { plot, wave } from "./drawing.js";

const REST = 250; // milliseconds that the pointer rests before something plays
const NEAR = "400px";

const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) target.come();
  },
  { rootMargin: NEAR },
);

class Card extends HTMLElement {
  /** Shows a thing; `large` is for the panel. */
  show(thing, large = false) {
    this.thing = thing;
    this.large = large;
    this.view = h("div", { class: "view" });
    this.dataset.modality = thing.modality;
    this.classList.toggle("large", large);
    this.replaceChildren(this.view);
    return this;
  }

  connectedCallback() {
    near.observe(this);
  }

  disconnectedCallback() {
    near.unobserve(this);
    this.rest?.();
  }

  /** Fills the view, once. */
  async come() {
    near.unobserve(this);
    if (this.filled) return;
    this.filled = true;
    try {
      await this.fill(this.view);
      this.view.classList.add("ready");
    } catch (error) {
      this.view.replaceChildren(h("p", { class: "gone" }, error.message));
    }
  }

  /** Calls `come` when the pointer rests here, and `rest` when it goes: what the reader began goes on. */
  whenRested(come) {
    let timer = 0;
    const place = this.closest("li") ?? this; // in the results a link lies over the whole entry
    place.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "touch" || still.matches) return;
      timer = setTimeout(() => come(event), REST);
    });
    place.addEventListener("pointerleave", () => {
      clearTimeout(timer);
      if (!this.begun) this.rest?.();
    });
  }
}

class TextCard extends Card {
  fill(view) {
    view.append(h("blockquote", {}, this.thing.text ?? "The file of this text is gone or has changed."));
  }
}

class ImageCard extends Card {
  async fill(view) {
    const url = this.large ? await this.thing.url() : (await this.thing.preview()).picture;
    const picture = h("img", { alt: this.large ? `picture ${this.thing.name}` : "", decoding: "async" });
    picture.src = url;
    await picture.decode();
    picture.classList.toggle("tiny", picture.naturalWidth <= 128 && picture.naturalHeight <= 128);
    view.append(picture);
  }
}

let playing = null; // the sound that is heard; a second one ends it

class AudioCard extends Card {
  async fill(view) {
    const canvas = h("canvas", { role: "img", "aria-label": `waveform of ${this.thing.name}` });
    view.append(canvas);
    const small = await this.thing.preview(this.large ? 480 : 240);
    this.seconds = small.seconds;
    this.move = wave(canvas, small.channels[0]);
    this.sound = h("audio", { preload: "none", "aria-label": this.thing.name });
    this.sound.addEventListener("timeupdate", () => this.move(this.sound.currentTime / (this.sound.duration || this.seconds)));
    this.sound.addEventListener("ended", () => this.move(0));
    this.large ? await this.withControls(view, canvas) : this.withButton(view);
  }

  async withControls(view, canvas) {
    this.sound.controls = true;
    this.sound.src = await this.thing.url();
    this.sound.addEventListener("play", () => this.alone());
    canvas.addEventListener("pointerdown", (event) => this.play(event.offsetX / canvas.clientWidth));
    view.append(this.sound);
  }

  withButton(view) {
    const label = (word) => `${word} ${this.thing.name}`;
    this.button = h("button", { class: "play", type: "button", "aria-label": label("play") }, icon("play"));
    const shown = (word, name) => {
      this.button.replaceChildren(icon(name));
      this.button.setAttribute("aria-label", label(word));
    };
    this.sound.addEventListener("play", () => shown("pause", "pause"));
    this.sound.addEventListener("pause", () => shown("play", "play"));
    this.button.addEventListener("click", () => {
      this.begun = this.sound.paused;
      this.begun ? this.play() : this.sound.pause();
    });
    view.append(this.button, h("span", { class: "time" }, clock(this.seconds)));
    this.whenRested(() => navigator.userActivation?.hasBeenActive && this.play());
  }

  alone() {
    if (playing !== this.sound) playing?.pause();
    playing = this.sound;
  }

  /** Plays from a share of the time, or goes on. */
  async play(share) {
    this.sound.src ||= await this.thing.url();
    if (share !== undefined) this.sound.currentTime = share * (this.sound.duration || this.seconds);
    this.alone();
    await this.sound.play().catch(() => this.sound.pause()); // a browser may refuse sound that nobody asked for
  }

  rest() {
    this.begun = false;
    this.sound?.pause();
  }
}

class VideoCard extends Card {
  async fill(view) {
    if (this.large || this.thing.own) {
      const url = await this.thing.url();
      const clip = h("video", { loop: true, playsInline: true, muted: !this.large, controls: this.large });
      clip.setAttribute("aria-label", `clip ${this.thing.name}`);
      clip.preload = "metadata";
      clip.src = url;
      view.append((this.clip = clip));
    } else {
      const first = h("img", { alt: "", decoding: "async" });
      first.src = (await this.thing.preview()).picture;
      await first.decode();
      view.append(first, h("span", { class: "time", "aria-hidden": "true" }, icon("play")));
    }
    if (!this.large) this.whenRested(() => this.play());
  }

  async play() {
    if (!this.clip) {
      this.clip = h("video", { loop: true, playsInline: true, muted: true, "aria-hidden": "true", tabIndex: -1 });
      this.clip.src = await this.thing.url();
      this.view.append(this.clip);
    }
    this.clip.hidden = false;
    await this.clip.play().catch(() => {});
  }

  rest() {
    this.clip?.pause();
    if (this.clip && !this.large && !this.thing.own) this.clip.hidden = true;
  }
}

class SeriesCard extends Card {
  async fill(view) {
    const { seconds, channels, left_out: more } = await this.thing.preview(240);
    const names = channels.map((channel) => channel.name);
    view.append(plot(channels));
    if (!this.large) return view.append(h("span", { class: "time" }, clock(seconds)));
    const rest = more ? ` and ${more} more` : "";
    view.append(h("p", { class: "legend" }, `${names.join(", ")}${rest} over ${clock(seconds)}`));
    return view;
  }
}

const KINDS = {
  text: ["text-card", TextCard],
  image: ["image-card", ImageCard],
  audio: ["audio-card", AudioCard],
  video: ["video-card", VideoCard],
  timeseries: ["series-card", SeriesCard],
};
for (const [name, kind] of Object.values(KINDS)) customElements.define(name, kind);

/** The card of a thing; of a modality that only the server can tell, its name. */
export function cardOf(thing, large = false) {
  const [name] = KINDS[thing.modality] ?? [];
  if (!name) return h("p", { class: "gone" }, `${thing.name}: the server will say what this is.`);
  return document.createElement(name).show(thing, large);
}

const WHOLE = 32; // letters of the id of a whole file; that of a part has more

/** The seconds of a longer file that a thing is; empty where it is whole. */
export function secondsOf({ id, start_s: from, stop_s: to }) {
  return id.length > WHOLE && typeof from === "number" ? `${clock(from)}–${clock(to)}` : "";
}

/** What stands below a card in the results: kind, seconds, score. */
export function factsOf(thing, best) {
  const facts = [h("span", { class: "kind" }, wordFor(thing.modality))];
  const seconds = secondsOf(thing);
  if (seconds) facts.push(h("span", {}, seconds));
  if (typeof thing.score !== "number") return facts;
  const bar = h("span", { class: "score", role: "img", "aria-label": `score ${thing.score.toFixed(1)}` }, h("i"));
  bar.firstChild.style.width = `${Math.round(100 * Math.min(1, Math.max(0.02, thing.score / Math.max(best, 1))))}%`;
  return [...facts, bar];
}
