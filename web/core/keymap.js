/** The keys of the voting dialog. */

const KEYS = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowDown: "tie",
  s: "skip",
  u: "undo",
  z: "zoom",
  f: "flicker",
  "+": "zoomIn",
  "=": "zoomIn",
  "-": "zoomOut",
  "?": "help",
  Escape: "close",
};

const SHIFTED = { ArrowLeft: "panLeft", ArrowRight: "panRight", ArrowUp: "panUp", ArrowDown: "panDown" };

const REPEATING = new Set(["zoomIn", "zoomOut", "panLeft", "panRight", "panUp", "panDown"]);

/**
 * The action of a keydown event, or null. Browser and system shortcuts are left alone; a held key votes once.
 * Letters are matched by the character typed, so they follow the keyboard layout.
 */
export function actionOf({ key, ctrlKey, metaKey, altKey, shiftKey, repeat, isComposing }) {
  if (ctrlKey || metaKey || altKey || isComposing) return null;
  const action = (shiftKey && SHIFTED[key]) || KEYS[key.length === 1 ? key.toLowerCase() : key] || null;
  return repeat && !REPEATING.has(action) ? null : action;
}

/** Does the element use keys itself, as text fields, sliders and selects do? */
export function takesKeys({ tagName = "", isContentEditable = false } = {}) {
  return isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(tagName.toUpperCase());
}
