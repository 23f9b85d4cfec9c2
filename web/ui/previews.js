/** Previews of a run, the base beside the LoRA so far: a slider goes through the steps. */
import * as api from "../api.js";
import { stepOf } from "../core/run_state.js";
import { t } from "../texts.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";

const SIZE = 768; // pixels in the panel, for twice as dense screens

export class Previews {
  #files = [];

  constructor(run, { large = false } = {}) {
    Object.assign(this, { run, large });
    this.image = h("img", { alt: "", decoding: "async", draggable: "false" });
    this.open = h("button", { type: "button", class: "dspo-preview", onclick: () => this.#enlarge() }, this.image);
    this.slider = h("input", {
      type: "range",
      min: 0,
      max: 0,
      step: 1,
      value: 0,
      "aria-label": t("previewSlider"),
      "data-focus": `preview:${run}`,
      oninput: () => this.#show(),
    });
    this.caption = h("figcaption", {});
    this.root = h("figure", { class: "dspo-previews", hidden: true }, this.open, this.slider, this.caption);
  }

  /** Show these files, oldest first; the newest one, unless an earlier one is being looked at. */
  fill(files) {
    if (files.join() === this.#files.join()) return;
    const follows = Number(this.slider.value) >= this.#files.length - 1;
    this.#files = files;
    this.root.hidden = !files.length;
    this.slider.max = Math.max(0, files.length - 1);
    if (follows) this.slider.value = files.length - 1;
    this.slider.hidden = files.length < 2;
    if (files.length) this.#show();
  }

  get #file() {
    return this.#files[Math.min(Number(this.slider.value), this.#files.length - 1)];
  }

  #url(file) {
    return api.previewUrl(this.run, file, this.large ? null : SIZE);
  }

  #show() {
    const text = t("previewAt", { step: stepOf(this.#file) });
    this.image.src = this.#url(this.#file);
    this.image.alt = text;
    this.open.title = t("enlarge");
    this.slider.setAttribute("aria-valuetext", text);
    this.caption.textContent = text;
    const place = this.#files.indexOf(this.#file);
    for (const near of [place - 1, place + 1]) if (this.#files[near]) new Image().src = this.#url(this.#files[near]);
  }

  #enlarge() {
    const label = t("previewAt", { step: stepOf(this.#file) });
    openDialog({ title: label, kind: "dspo-image" }).body.append(
      h("img", { src: api.previewUrl(this.run, this.#file), alt: label }),
    );
  }
}
