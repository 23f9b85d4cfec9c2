/** Images without and with the LoRA, compared inside the node, or large in a dialog. */
import { viewUrl } from "../api.js";
import { aspectOf, layoutOf, pairAt, strengthLabels } from "../core/compare.js";
import { t } from "../texts.js";
import { keepKeys, openDialog } from "./dialog.js";
import { h, icon, stillness } from "./dom.js";

const MODES = ["slider", "sideBySide", "flicker"];
const SWAP_MS = 333;
const STILL_PX = 4; // a press that moves less is a click

export class Comparer {
  #base = [];
  #aligned = [];
  #strengths = "";
  #timer = 0;
  #pressed = null;
  mode = "slider";

  /** @param {{large?: boolean, resized?: () => void}} options `resized` is called when the images' shape is known. */
  constructor({ large = false, resized = () => {} } = {}) {
    this.before = h("img", { alt: t("without"), draggable: "false" });
    this.after = h("img", { alt: t("with"), draggable: "false", onload: () => this.#fit(resized) });
    this.divider = h("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 1,
      value: 50,
      "aria-label": t("divider"),
      oninput: () => this.#slide(),
    });
    this.view = h("div", { class: "dspo-compare-view" }, this.after, this.before, this.divider);
    this.swap = h("button", { type: "button", class: "dspo-button small", onclick: () => this.#swap() }, t("swap"));
    this.seed = picker("image", () => this.#show());
    this.strength = picker("strength", () => this.#show());
    this.modes = MODES.map((mode) =>
      h("button", { type: "button", class: "dspo-button small", onclick: () => this.choose(mode) }, t(mode)),
    );
    const enlarge =
      !large && h("button", { type: "button", class: "dspo-button small icon", onclick: () => this.enlarge() });
    if (enlarge) {
      enlarge.append(icon("pi-window-maximize"));
      enlarge.setAttribute("aria-label", t("enlarge"));
      enlarge.title = t("enlarge");
    }
    const modes = h("div", { class: "dspo-modes", role: "group", "aria-label": t("filter") }, this.modes, this.swap);
    this.choices = h("div", { class: "dspo-compare-bar" }, this.seed.root, this.strength.root, modes, enlarge);
    this.labels = h("div", { class: "dspo-compare-labels", "aria-hidden": "true" }, label("without"), label("with"));
    this.empty = h("p", { class: "dspo-muted" }, t("compareEmpty"));
    const kind = `dspo dspo-compare ${large ? "large" : ""}`.trim();
    this.root = h("div", { class: kind }, this.empty, this.choices, this.labels, this.view);
    keepKeys(this.root);
    for (const type of ["pointerdown", "pointermove"]) this.view.addEventListener(type, (event) => this.#drag(event));
    if (!large) this.view.addEventListener("click", (event) => this.#click(event));
    this.choose("slider");
    this.set([], []);
  }

  /** Set the images to compare; `strengths` is the text of the widget. */
  set(base, aligned, strengths = "") {
    const layout = layoutOf(base, aligned);
    this.empty.hidden = Boolean(layout);
    this.choices.hidden = this.labels.hidden = this.view.hidden = !layout;
    if (!layout) return;
    [this.#base, this.#aligned, this.#strengths] = [base, aligned, strengths];
    this.seed.fill(Array.from({ length: layout.seeds }, (_, n) => String(n + 1)));
    this.strength.fill(strengthLabels(strengths, layout.strengths));
    this.#show();
  }

  /** The height at which the images fill a width, in pixels; the least there is without images. */
  heightFor(width) {
    if (this.view.hidden) return 120;
    const above = Math.max(64, this.choices.offsetHeight + this.labels.offsetHeight + 36);
    return Math.min(1400, Math.max(260, above + (width - 38) / this.#aspect));
  }

  get #aspect() {
    return aspectOf(this.after.naturalWidth, this.after.naturalHeight, this.mode === "sideBySide");
  }

  /** The images are as wide as the node; its height follows. */
  #fit(resized) {
    this.root.style.setProperty("--dspo-aspect", this.#aspect);
    resized();
  }

  #show() {
    const { before, after } = pairAt(this.#base, this.#aligned, this.seed.index, this.strength.index);
    this.before.src = viewUrl(before);
    this.after.src = viewUrl(after);
    this.#slide();
  }

  choose(mode) {
    this.mode = this.view.dataset.mode = this.labels.dataset.mode = mode;
    this.modes.forEach((each, n) => each.setAttribute("aria-pressed", MODES[n] === mode));
    clearInterval(this.#timer);
    this.#turn("before");
    this.swap.hidden = mode !== "flicker" || !stillness();
    if (mode === "flicker" && !stillness()) this.#timer = setInterval(() => this.#swap(), SWAP_MS);
    this.root.style.setProperty("--dspo-aspect", this.#aspect);
    this.#slide();
  }

  #swap() {
    if (this.root.isConnected) this.#turn(this.view.dataset.shown === "before" ? "after" : "before");
  }

  #turn(shown) {
    this.view.dataset.shown = this.labels.dataset.shown = shown;
  }

  /** The same comparison, as large as the window. */
  enlarge() {
    const large = new Comparer({ large: true });
    large.set(this.#base, this.#aligned, this.#strengths);
    large.choose(this.mode);
    large.seed.choose(this.seed.index);
    large.strength.choose(this.strength.index);
    large.divider.value = this.divider.value;
    large.#show();
    const { body } = openDialog({ title: t("compareTitle"), kind: "dspo-vote", onclose: () => large.destroy() });
    body.append(large.root);
  }

  #click(event) {
    const [x, y] = this.#pressed ?? [event.clientX, event.clientY];
    this.#pressed = null;
    if (event.target === this.divider) return;
    if (Math.hypot(event.clientX - x, event.clientY - y) < STILL_PX) this.enlarge();
  }

  /** The divider follows the pointer; the graph behind must not move. */
  #drag(event) {
    event.stopPropagation();
    if (event.type === "pointerdown") this.#pressed = [event.clientX, event.clientY];
    if (this.mode !== "slider" || !(event.buttons & 1) || event.type === "pointerdown") return;
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

const label = (key) => h("span", { class: key }, t(key));

/** A labelled select that keeps its choice when refilled. */
function picker(name, changed) {
  const select = h("select", { onchange: changed });
  return {
    root: h("label", { class: "dspo-field" }, t(name), select),
    get index() {
      return Math.max(0, select.selectedIndex);
    },
    choose(index) {
      select.selectedIndex = index;
    },
    fill(labels) {
      const index = Math.min(Math.max(0, select.selectedIndex), labels.length - 1);
      select.replaceChildren(...labels.map((text) => h("option", {}, text)));
      select.selectedIndex = index;
    },
  };
}
