/** All images of a prompt: click the best, rank several, or mark the bad ones. */
import { tiling } from "../core/layout.js";
import { Marks } from "../core/marks.js";
import { t } from "../texts.js";
import { button, h, icon } from "./dom.js";
import { stillUntilMoved } from "./still.js";

const GAP_PX = 12; // as in voting.css

export class Grid {
  tool = "best"; // what a click does: "best", "ranking" or "markBad"
  marks = new Marks();
  #names = [];
  #cells = [];
  #at = 0; // the cell last pointed at or focused

  /** `choose({best, bad})` is called for an answer, `changed()` when a mark or the tool has changed. */
  constructor({ choose, changed }) {
    Object.assign(this, { choose, changed });
    this.cells = h("div", { class: "dspo-cells" });
    this.large = h("div", { class: "dspo-large", hidden: true });
    this.root = h(
      "div",
      { class: "dspo-grid-stage", role: "group", "aria-label": t("gridLabel"), tabindex: -1, hidden: true },
      this.cells,
      this.large,
    );
    this.rest = stillUntilMoved(this.root);
    this.observer = new ResizeObserver(() => this.#arrange());
    this.observer.observe(this.root);
  }

  destroy() {
    this.observer.disconnect();
  }

  /** Show the images of a group, {names, elements, broken}; null clears the grid. */
  show(images) {
    this.marks.clear();
    this.closeLarge();
    this.#names = images?.names ?? [];
    this.#at = 0;
    this.#cells = this.#names.map((name, n) => this.#cell(name, images.elements[n], n, images.broken));
    this.cells.replaceChildren(...this.#cells.map(({ root }) => root));
    this.rest();
    this.#arrange();
    this.#draw();
  }

  #cell(name, image, n, broken) {
    const shown = image.dataset.broken ? h("span", { class: "dspo-broken" }, t("imageBroken")) : image;
    const badge = h("span", { class: "dspo-badge-mark", hidden: true });
    const choice = h(
      "button",
      { type: "button", class: "dspo-choice", disabled: broken },
      h("span", { class: "dspo-screen" }, shown),
      h("kbd", { class: "dspo-number-key", "aria-hidden": "true" }, n + 1),
      badge,
    );
    choice.addEventListener("click", (event) => {
      if (event.detail <= 1) this.pick(n, event.shiftKey); // a double click votes once
    });
    choice.addEventListener("contextmenu", (event) => {
      event.preventDefault();
      this.reject(n);
    });
    choice.addEventListener("focus", () => (this.#at = n));
    choice.addEventListener("pointerenter", () => (this.#at = n));
    const larger = button("", () => this.enlarge(n), {
      kind: "icon dspo-enlarge",
      "aria-label": t("enlargeImage", { n: n + 1 }),
      title: t("enlarge"),
    });
    larger.append(icon("pi-search-plus"));
    return { root: h("div", { class: "dspo-cell" }, choice, larger), choice, badge, name };
  }

  #arrange() {
    const image = this.cells.querySelector("img");
    const { width, height } = this.root.getBoundingClientRect();
    if (!image?.naturalWidth || !width) return;
    const shape = { width: image.naturalWidth, height: image.naturalHeight };
    const tile = tiling({ width, height }, shape, this.#cells.length, GAP_PX);
    this.columns = tile.columns;
    this.cells.style.setProperty("--dspo-columns", tile.columns);
    this.cells.style.setProperty("--dspo-width", `${Math.floor(tile.width)}px`);
    this.cells.style.setProperty("--dspo-height", `${Math.floor(tile.height)}px`);
  }

  /** What a click on image number `n` means with the tool in hand. */
  pick(n, ranked = false) {
    const { name } = this.#cells[n] ?? {};
    if (!name) return;
    if (ranked || this.tool === "ranking") this.#mark(() => this.marks.rank(name));
    else if (this.tool === "markBad") this.#mark(() => this.marks.reject(name));
    else if (this.marks.best.length) this.#mark(() => this.marks.rank(name)); // a ranking that has been begun goes on
    else this.choose({ best: [name], bad: this.marks.bad });
  }

  reject(n) {
    const { name } = this.#cells[n] ?? {};
    if (name) this.#mark(() => this.marks.reject(name));
  }

  #mark(change) {
    change();
    this.#draw();
    this.changed();
  }

  /** Send what is marked. */
  done() {
    if (this.marks.any) this.choose({ best: this.marks.best, bad: this.marks.bad });
  }

  allBad() {
    this.choose({ best: [], bad: this.#names });
  }

  /** Take a tool, or lay it down. */
  use(tool) {
    this.tool = this.tool === tool ? "best" : tool;
    this.#draw();
    this.changed();
  }

  #draw() {
    this.root.dataset.tool = this.tool;
    this.#cells.forEach(({ choice, badge, name, root }, n) => {
      const { rank, bad } = this.marks.of(name);
      root.classList.toggle("ranked", rank > 0);
      root.classList.toggle("bad", bad);
      badge.hidden = !rank && !bad;
      badge.textContent = bad ? "✕" : rank || "";
      const state = bad ? t("markedBad") : rank ? t("markedRank", { rank }) : "";
      choice.setAttribute("aria-label", [t("imageNumber", { n: n + 1 }), state].filter(Boolean).join(": "));
    });
  }

  /** Move the focus between the images. */
  focus(dx, dy) {
    const held = this.#focused;
    const next = held < 0 ? 0 : held + dx + dy * (this.columns ?? 1);
    this.#cells[next]?.choice.focus();
    if (!this.large.hidden && this.#cells[next]) this.enlarge(next);
  }

  get #focused() {
    return this.#cells.findIndex(({ choice }) => choice === document.activeElement);
  }

  /** Show one image as large as fits; its number, or the one that has the focus or was pointed at last. */
  enlarge(n = this.#focused < 0 ? this.#at : this.#focused) {
    const { choice } = this.#cells[n] ?? {};
    const image = choice?.querySelector("img");
    if (!image) return;
    this.#at = n;
    const copy = h("img", { src: this.sourceOf?.(this.#names[n]) ?? image.src, alt: "" });
    const label = { type: "button", "aria-label": t("closeLarge"), onclick: () => this.closeLarge() };
    this.large.replaceChildren(h("button", label, copy), h("kbd", { "aria-hidden": "true" }, n + 1));
    this.large.hidden = false;
  }

  closeLarge() {
    const had = this.large.contains(document.activeElement);
    this.large.hidden = true;
    this.large.replaceChildren();
    if (had) this.#cells[this.#at]?.choice.focus();
  }
}
