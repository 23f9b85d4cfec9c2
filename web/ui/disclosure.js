/** A part that is shown on request, and stays as it was left. */
import { h } from "./dom.js";

const KEY = "dspo-studio.open";

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

function remember(name, open) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...remembered(), [name]: open }));
  } catch {
    // a full or forbidden store: it opens all the same
  }
}

/**
 * A <details> with this title. `changed(open)` is called when it opens or closes, and once if it is open at first.
 * @param {string} name under which it is remembered; several parts may share one.
 */
export function disclosure(name, title, { open = false, changed = () => {} } = {}, ...children) {
  const summary = h("summary", { "data-focus": `open:${name}` }, title);
  const root = h("details", { class: "dspo-disclosure", open: remembered()[name] ?? open }, summary, ...children);
  let asked = false; // by the person, not by the attribute above
  summary.addEventListener("click", () => (asked = true));
  root.addEventListener("toggle", () => {
    if (asked) remember(name, root.open);
    asked = false;
    changed(root.open);
  });
  return root;
}
