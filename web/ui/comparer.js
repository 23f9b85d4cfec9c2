/** Images without and with the LoRA, compared inside the node. */
import { viewUrl } from "../api.js";
import { layoutOf, pairAt, strengthLabels } from "../core/compare.js";
import { t } from "../texts.js";
import { keepKeys } from "./dialog.js";
import { h, stillness } from "./dom.js";

const MODES = ["slider", "sideBySide", "flicker"];
const SWAP_MS = 333;

export class Comparer {
  #base = [];
  #aligned = [];
  #timer = 0;
  mode = "slider";

  constructor() {
    this.before = h("img", { alt: t("without"), draggable: "false" });
    this.after = h("img", { alt: t("with"), draggable: "false" });
    this.divider = h("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 1,
      value: 50,
      "aria-label": t("divider"),
      oninput: () => this.#slide(),
    });
    this.view = h(
      "div",
      { class: "dspo-compare-view" },
      this.after,
      this.before,
      tag("without"),
      tag("with"),
      this.divider,
    );
    this.swap = h("button", { type: "button", class: "dspo-button small", onclick: () => this.#swap() }, t("swap"));
    this.seed = picker("image", () => this.#show());
    this.strength = picker("strength", () => this.#show());
    this.modes = MODES.map((mode) =>
      h("button", { type: "button", class: "dspo-button small", onclick: () => this.choose(mode) }, t(mode)),
    );
    const modes = h("div", { class: "dspo-modes", role: "group", "aria-label": t("filter") }, this.modes, this.swap);
    this.choices = h("div", { class: "dspo-compare-bar" }, this.seed.root, this.strength.root, modes);
    this.empty = h("p", { class: "dspo-muted" }, t("compareEmpty"));
    this.root = h("div", { class: "dspo dspo-compare" }, this.empty, this.choices, this.view);
    keepKeys(this.root);
    for (const type of ["pointerdown", "pointermove"]) this.view.addEventListener(type, (event) => this.#drag(event));
    this.choose("slider");
    this.set([], []);
  }

  /** Set the images to compare; `strengths` is the text of the widget. */
  set(base, aligned, strengths = "") {
    const layout = layoutOf(base, aligned);
    this.empty.hidden = Boolean(layout);
    this.choices.hidden = this.view.hidden = !layout;
    if (!layout) return;
    [this.#base, this.#aligned] = [base, aligned];
    this.seed.fill(Array.from({ length: layout.seeds }, (_, n) => String(n + 1)));
    this.strength.fill(strengthLabels(strengths, layout.strengths));
    this.#show();
  }

  #show() {
    const { before, after } = pairAt(this.#base, this.#aligned, this.seed.index, this.strength.index);
    this.before.src = viewUrl(before);
    this.after.src = viewUrl(after);
    this.#slide();
  }

  choose(mode) {
    this.mode = this.view.dataset.mode = mode;
    this.modes.forEach((each, n) => each.setAttribute("aria-pressed", MODES[n] === mode));
    clearInterval(this.#timer);
    this.view.dataset.shown = "before";
    this.swap.hidden = mode !== "flicker" || !stillness();
    if (mode === "flicker" && !stillness()) this.#timer = setInterval(() => this.#swap(), SWAP_MS);
    this.#slide();
  }

  #swap() {
    if (!this.root.isConnected) return;
    this.view.dataset.shown = this.view.dataset.shown === "before" ? "after" : "before";
  }

  /** The divider follows the pointer; the graph behind must not move. */
  #drag(event) {
    event.stopPropagation();
    if (this.mode !== "slider" || !(event.buttons & 1)) return;
    const box = this.view.getBoundingClientRect();
    this.divider.value = (100 * (event.clientX - box.left)) / box.width;
    this.#slide();
  }

  #slide() {
    this.view.style.setProperty("--dspo-cut", `${this.divider.value}%`);
  }

  destroy() {
    clearInterval(this.#timer);
  }
}

const tag = (key) => h("span", { class: `dspo-tag ${key}`, "aria-hidden": "true" }, t(key));

/** A labelled select that keeps its choice when refilled. */
function picker(name, changed) {
  const select = h("select", { onchange: changed });
  return {
    root: h("label", { class: "dspo-field" }, t(name), select),
    get index() {
      return Math.max(0, select.selectedIndex);
    },
    fill(labels) {
      const index = Math.min(Math.max(0, select.selectedIndex), labels.length - 1);
      select.replaceChildren(...labels.map((label) => h("option", {}, label)));
      select.selectedIndex = index;
    },
  };
}
