/** A list of cards of which only those near the visible part exist, so that a thousand cost no more than thirty. */
import { ago } from "../core/format.js";
import { spoken, t } from "../texts.js";
import { button, h } from "./dom.js";

const FIRST = 12; // cards, so that the sections below are near
const STEP = 30; // cards added when the end comes near, once more were asked for

export class CardList {
  #rows = [];
  #most = FIRST;
  #cards = new Map();
  #watch = null;

  /**
   * @param {(row) => string} key the same for the same thing.
   * @param {(row, place: number) => {root: Element, update?: (row) => void, destroy?: () => void}} make a card, in an
   *   <li>; without `update` it is made anew when its row has changed.
   */
  constructor({ key, make }) {
    Object.assign(this, { key, make });
    this.root = h("ul", { class: "dspo-list" });
    this.more = button("", () => this.#grow(), { kind: "quiet small" });
    this.end = h("li", { class: "dspo-list-end" }, this.more);
    this.#watch = new IntersectionObserver(
      (seen) => seen.some(({ isIntersecting }) => isIntersecting) && this.#grow(),
      { rootMargin: "600px", scrollMargin: "600px" }, // before it is seen; the second inside what scrolls
    );
  }

  /** Show these rows, in this order; cards of rows that are known stay, with their focus and what is open in them. */
  show(rows) {
    this.#rows = rows;
    this.#render();
  }

  /** The card of a key, if it is there. */
  card(key) {
    return this.#cards.get(key)?.card;
  }

  destroy() {
    this.#watch.disconnect();
    this.#cards.forEach(({ card }) => card.destroy?.());
  }

  #grow() {
    if (this.#most >= this.#rows.length) return;
    this.#most += STEP;
    this.#render();
  }

  #render() {
    const active = document.activeElement;
    const inside = this.root.contains(active);
    const shown = this.#rows.slice(0, this.#most);
    const cards = new Map(shown.map((row, place) => [this.key(row), this.#current(row, place)]));
    for (const [key, { card }] of this.#cards) if (cards.get(key)?.card !== card) card.destroy?.();
    this.#cards = cards;
    arrange(this.root, [...[...cards.values()].map(({ card }) => card.root), ...this.#ending()]);
    if (inside && document.activeElement !== active) this.#refocus(active);
  }

  #current(row, place) {
    const mark = JSON.stringify(row);
    const known = this.#cards.get(this.key(row));
    if (known?.mark === mark) {
      retime(known.card.root);
      return known;
    }
    if (!known?.card.update) return { mark, card: this.make(row, place) };
    known.card.update(row);
    return { ...known, mark };
  }

  #ending() {
    this.#watch.unobserve(this.end);
    const left = this.#rows.length - this.#most;
    if (left <= 0) return [];
    this.more.textContent = `${t("more")} (${left})`;
    if (this.#most > FIRST) this.#watch.observe(this.end); // anew: it may be in sight still
    return [this.end];
  }

  /** A card that is made anew, or moved, loses the focus. */
  #refocus(active) {
    if (active.isConnected) return active.focus({ preventScroll: true });
    const name = active.dataset.focus;
    const heir = name && this.root.querySelector(`[data-focus="${CSS.escape(name)}"]`);
    const other = name && this.root.querySelector(`[data-focus$="${CSS.escape(name.slice(name.indexOf(":")))}"]`);
    (heir || other || this.root.closest(".dspo-panel"))?.focus({ preventScroll: true });
  }
}

/** Make these the children, moving as few as possible: what moves loses its focus and the place scrolled to. */
function arrange(root, children) {
  const wanted = new Set(children);
  for (const child of [...root.children]) if (!wanted.has(child)) child.remove();
  let next = root.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else root.insertBefore(child, next);
  }
}

function retime(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const text = ago(time.dateTime, Date.now(), spoken());
    if (time.textContent !== text) time.textContent = text;
  }
}
