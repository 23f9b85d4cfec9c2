/** The keys of the voting dialog. */

const ALWAYS = { s: "skip", u: "undo", t: "tie", i: "info", v: "view", "?": "help", Escape: "close" };
const LOOKING = { z: "zoom", f: "flicker", c: "slider", "+": "zoomIn", "=": "zoomIn", "-": "zoomOut" };
const PAIR = { ...ALWAYS, ...LOOKING, b: "bad" };

/** By what is on screen: two images beside each other, two stacked, or all of a prompt. */
const KEYS = {
  pair: { ...PAIR, ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" },
  stacked: { ...PAIR, ArrowUp: "left", ArrowDown: "right" },
  grid: {
    ...ALWAYS,
    b: "markBad",
    r: "ranking",
    x: "allBad",
    z: "enlarge",
    Enter: "done",
    ArrowLeft: "focusLeft",
    ArrowRight: "focusRight",
    ArrowUp: "focusUp",
    ArrowDown: "focusDown",
  },
};

const SHIFTED = { ArrowLeft: "panLeft", ArrowRight: "panRight", ArrowUp: "panUp", ArrowDown: "panDown" };

const REPEATING = new Set([
  ...["zoomIn", "zoomOut", "panLeft", "panRight", "panUp", "panDown"],
  ...["focusLeft", "focusRight", "focusUp", "focusDown"],
]);

/**
 * The action of a keydown event, or null; on a grid, a digit is "pick3", or "rank3" with Shift. Browser and system
 * shortcuts are left alone; a held key votes once. Letters are matched by the character typed, so they follow the
 * keyboard layout; digits by the place of the key, as some layouts type them with Shift.
 */
export function actionOf(event, screen = "pair") {
  const { key, ctrlKey, metaKey, altKey, shiftKey, repeat, isComposing } = event;
  if (ctrlKey || metaKey || altKey || isComposing) return null;
  const digit = screen === "grid" ? digitOf(event) : null;
  if (digit) return repeat ? null : `${shiftKey ? "rank" : "pick"}${digit}`;
  const shifted = shiftKey && screen !== "grid" ? SHIFTED[key] : null;
  const action = shifted || KEYS[screen][key.length === 1 ? key.toLowerCase() : key] || null;
  return repeat && !REPEATING.has(action) ? null : action;
}

const digitOf = ({ key, code = "" }) =>
  code.match(/^(?:Digit|Numpad)([1-9])$/)?.[1] ?? (/^[1-9]$/.test(key) ? key : null);

/** Does the element use keys itself, as text fields, sliders and selects do? */
export function takesKeys({ tagName = "", isContentEditable = false } = {}) {
  return isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(tagName.toUpperCase());
}
