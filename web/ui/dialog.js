/** A modal dialog that traps keys and focus. */
import { t } from "../texts.js";
import { button, h, icon } from "./dom.js";

/** Keys must not reach ComfyUI, whose shortcuts act on the graph behind the dialog. */
export function keepKeys(root) {
  for (const type of ["keydown", "keyup", "keypress"]) root.addEventListener(type, (event) => event.stopPropagation());
}

/** The element, or its replacement in a list that has been rebuilt. */
function again(element) {
  if (element?.isConnected) return element;
  const name = element?.dataset?.focus;
  return name ? document.querySelector(`[data-focus="${CSS.escape(name)}"]`) : null;
}

let counter = 0;

/**
 * Open a dialog with a title. `close` removes it and restores the focus.
 * @param {{title: string, kind?: string, onkey?: (event) => void, onclose?: () => void}} options
 *   `onkey` gets keydown first; Escape closes unless it called preventDefault.
 */
export function openDialog({ title, kind = "", onkey = () => {}, onclose = () => {} }) {
  const before = document.activeElement;
  const id = `dspo-title-${++counter}`;
  const heading = h("h2", { id, tabindex: -1 }, title);
  const header = h("header", { class: "dspo-dialog-head" }, heading);
  const body = h("div", { class: "dspo-dialog-body" });
  const root = h("dialog", { class: `dspo dspo-dialog ${kind}`.trim(), "aria-labelledby": id }, header, body);
  let open = true;

  function key(event) {
    onkey(event);
    if (event.key !== "Escape" || event.defaultPrevented) return;
    event.preventDefault();
    close();
  }

  /** When the focused element is disabled or removed, the focus falls to the page; the keys are still ours. */
  function stray(event) {
    const top = [...document.querySelectorAll("dialog[open]")].at(-1);
    if (top !== root || root.contains(event.target)) return;
    event.stopPropagation();
    heading.focus({ preventScroll: true });
    key(event);
  }

  function close() {
    if (!open) return;
    open = false;
    removeEventListener("keydown", stray, true);
    if (root.open) root.close();
    root.remove();
    onclose();
    again(before)?.focus?.();
  }

  header.append(
    h("span", { class: "dspo-spring" }),
    button("", close, { kind: "quiet icon", "aria-label": t("close") }),
  );
  header.lastChild.append(icon("pi-times"));
  keepKeys(root);
  root.addEventListener("keydown", key);
  addEventListener("keydown", stray, true);
  root.addEventListener("cancel", (event) => {
    event.preventDefault(); // Android's back gesture comes without a key
    close();
  });
  root.addEventListener("close", close);
  document.body.append(root);
  root.showModal();
  return { root, header, body, heading, close };
}
