/** Seeds and settings of the images on screen, on demand. */
import * as api from "../api.js";
import { isGrid } from "../core/question.js";
import { t, told } from "../texts.js";
import { h } from "./dom.js";

export class Info {
  #asked = null;

  /** `nameOf(side)`: what the side of a pair is called. */
  constructor(place, set, nameOf) {
    Object.assign(this, { place, set, nameOf });
    this.root = h("section", { class: "dspo-help dspo-info", "aria-label": t("key_info"), tabindex: 0, hidden: true });
  }

  get shown() {
    return !this.root.hidden;
  }

  toggle(question) {
    this.root.hidden = this.shown;
    this.follow(question);
  }

  /** Another question is on screen. */
  async follow(question) {
    if (!this.shown || !question || question === this.#asked) return;
    this.#asked = question;
    this.root.replaceChildren(h("p", {}, t("loading")));
    try {
      const about = await api.about(this.place, this.set, question.group);
      if (question === this.#asked) this.root.replaceChildren(...this.#lines(question, about));
    } catch (error) {
      this.#asked = null;
      this.root.replaceChildren(h("p", {}, told(error)));
    }
  }

  #lines(question, { images, settings }) {
    const seeds = Object.fromEntries(images.map(({ image, seed }) => [image, seed]));
    const named = isGrid(question)
      ? question.images.map((image, n) => [t("imageNumber", { n: n + 1 }), image])
      : ["left", "right"].map((side) => [this.nameOf(side), question[side]]);
    const rows = named.map(([name, image]) => row(name, t("seedOf", { seed: seeds[image] ?? "–" })));
    const values = Object.entries(settings).map(([name, value]) => row(name.replaceAll("_", " "), plain(value)));
    return [
      h("dl", {}, rows),
      values.length ? h("dl", {}, values) : h("p", { class: "dspo-muted" }, t("noSettings")),
    ];
  }
}

const row = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

const plain = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));
