/** A part that is shown on request, and stays as it was left. */
import { h } from "./dom.js";
import { kept } from "./kept.js";

const OPEN = kept("dspo-studio.open");

/**
 * A <details> with this title. `changed(open)` is called when it opens or closes, and once if it is open at first.
 * @param {string} name under which it is remembered; several parts may share one.
 */
export function disclosure(name, title, { open = false, changed = () => {} } = {}, ...children) {
  const summary = h("summary", { "data-focus": `open:${name}` }, title);
  const root = h("details", { class: "dspo-disclosure", open: OPEN.of(name) ?? open }, summary, ...children);
  let asked = false; // by the person, not by the attribute above
  summary.addEventListener("click", () => (asked = true));
  root.addEventListener("toggle", () => {
    if (asked) OPEN.set(name, root.open);
    asked = false;
    changed(root.open);
  });
  return root;
}
