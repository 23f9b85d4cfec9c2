/** Builds elements: text is inserted as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** `h("p", {class: "x", onclick: f}, "text", node)`: strings become text nodes; null and false are skipped. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** A button with a text, an action, and a class besides "dspo-button". */
export function button(text, onclick, { kind = "", ...attributes } = {}) {
  return h("button", { type: "button", class: `dspo-button ${kind}`.trim(), onclick, ...attributes }, text);
}

export const icon = (name) => h("i", { class: `pi ${name}`, "aria-hidden": "true" });

/** A progress bar with a label for screen readers. */
export function bar(share, label) {
  const now = Math.round(100 * share);
  const done = h("span", { style: `width:${now}%` });
  const range = { "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": now };
  return h("div", { class: "dspo-bar", role: "progressbar", "aria-label": label, ...range }, done);
}

export const stillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
