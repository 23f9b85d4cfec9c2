/** A section that folds, and stays as it was left. */
import { h } from "./dom.js";
import { kept } from "./kept.js";

const FOLDED = kept("dspo-studio.folded");

/**
 * A section below a heading that folds it: {root, body, count(n), toggle(folded)}.
 *
 * `count` shows a number beside the title, or nothing for null; `kept: false` forgets.
 */
export function fold(name, title, { folded = false, kept = true, level = "h3" } = {}) {
  const id = `dspo-fold-${name}`;
  const number = h("span", { class: "dspo-count" });
  const head = h(
    "button",
    { type: "button", class: "dspo-fold", "aria-controls": id, "data-focus": `fold:${name}` },
    h("span", { class: "dspo-fold-title" }, title),
    number,
  );
  const body = h("div", { id, class: "dspo-fold-body" });
  const toggle = (now) => {
    head.setAttribute("aria-expanded", String(!now));
    body.hidden = now;
  };
  head.addEventListener("click", () => {
    const now = !body.hidden;
    toggle(now);
    if (kept) FOLDED.set(name, now);
  });
  toggle((kept ? FOLDED.of(name) : undefined) ?? folded);
  const root = h("section", { "aria-label": title, "data-section": name }, h(level, {}, head), body);
  return { root, body, count: (value) => (number.textContent = value ?? ""), toggle };
}
