/** Which key does what in the voting dialog. */

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
 * The action of a keydown event, or null. Browser and system shortcuts stay theirs; a key held down votes once.
 * Letters count by what is typed, so that they lie where every keyboard layout prints them.
 */
export function actionOf({ key, ctrlKey, metaKey, altKey, shiftKey, repeat, isComposing }) {
  if (ctrlKey || metaKey || altKey || isComposing) return null;
  const action = (shiftKey && SHIFTED[key]) || KEYS[key.length === 1 ? key.toLowerCase() : key] || null;
  return repeat && !REPEATING.has(action) ? null : action;
}

/** True where keys belong to the element itself: text being typed, a value being moved or chosen. */
export function takesKeys({ tagName = "", isContentEditable = false } = {}) {
  return isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(tagName.toUpperCase());
}
