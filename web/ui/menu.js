/** A button that opens a small menu. Arrow keys, Home, End and first letters move in it; Escape closes it. */
import { button, h, icon } from "./dom.js";

let close = () => {};

/**
 * @param {string} label of the button, which shows three dots.
 * @param {() => ({label: string, act: () => void, name: string, danger?: boolean} | false)[]} entries asked for when
 *   the menu opens; `name` becomes its data-action.
 */
export function menuButton(label, entries, attributes = {}) {
  const anchor = button("", () => toggle(anchor, label, entries), {
    kind: "quiet icon dspo-dots",
    "aria-label": label,
    "aria-haspopup": "menu",
    "aria-expanded": "false",
    title: label,
    onkeydown: (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      event.preventDefault();
      open(anchor, label, entries, event.key === "ArrowUp" ? -1 : 0);
    },
    ...attributes,
  });
  anchor.append(icon("pi-ellipsis-v"));
  return anchor;
}

function toggle(anchor, label, entries) {
  if (anchor.getAttribute("aria-expanded") === "true") close();
  else open(anchor, label, entries, 0);
}

function open(anchor, label, entries, first) {
  close();
  const items = entries()
    .filter(Boolean)
    .map((each) => item(each));
  const menu = h("div", { class: "dspo-menu", role: "menu", "aria-label": label, popover: "manual" }, items);
  const outside = (event) => !menu.contains(event.target) && !anchor.contains(event.target) && close();
  const host = anchor.closest(".dspo");
  close = () => {
    close = () => {};
    removeEventListener("pointerdown", outside, true);
    host.removeEventListener("scroll", follow);
    removeEventListener("resize", follow);
    anchor.setAttribute("aria-expanded", "false");
    if (menu.contains(document.activeElement)) anchor.focus({ preventScroll: true });
    menu.remove();
  };
  const follow = () => (anchor.isConnected ? place(menu, anchor) : close());
  menu.addEventListener("keydown", (event) => key(event, items));
  menu.addEventListener("focusout", ({ relatedTarget }) => relatedTarget && !menu.contains(relatedTarget) && close());
  addEventListener("pointerdown", outside, true);
  host.addEventListener("scroll", follow);
  addEventListener("resize", follow);
  host.append(menu);
  menu.showPopover?.();
  place(menu, anchor);
  anchor.setAttribute("aria-expanded", "true");
  items.at(first).focus({ preventScroll: true });
}

function item({ label, act, name, danger }) {
  const chosen = () => {
    close(); // gives the focus back to the button first, where a dialog returns it to
    act();
  };
  return h(
    "button",
    {
      type: "button",
      role: "menuitem",
      tabindex: -1,
      class: danger ? "danger" : null,
      "data-action": name,
      onclick: chosen,
    },
    label,
  );
}

function key(event, items) {
  const here = items.indexOf(document.activeElement);
  const to = (place) => {
    event.preventDefault();
    items.at(place % items.length).focus();
  };
  if (event.key === "ArrowDown") to(here + 1);
  else if (event.key === "ArrowUp") to(here - 1);
  else if (event.key === "Home") to(0);
  else if (event.key === "End") to(-1);
  else if (event.key === "Escape" || event.key === "Tab") {
    if (event.key === "Escape") event.preventDefault();
    event.stopPropagation();
    close();
  } else if (event.key.length === 1) {
    const after = [...items.slice(here + 1), ...items.slice(0, here + 1)];
    after.find((each) => each.textContent.toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
  }
}

/** Below the button, or above it where there is no room, and inside the page. */
function place(menu, anchor) {
  const at = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = at.bottom + 4 + height <= innerHeight;
  menu.style.left = `${Math.max(4, Math.min(at.right - width, innerWidth - width - 4))}px`;
  menu.style.top = `${below ? at.bottom + 4 : Math.max(4, at.top - height - 4)}px`;
}
