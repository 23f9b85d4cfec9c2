/** A small notice with buttons, which a toast cannot have. */
import { keepKeys } from "./dialog.js";
import { button, h } from "./dom.js";

const STAYS_MS = 30_000;

/** Take the offer back that is shown, if there is one. */
export const dismiss = () => document.querySelectorAll(".dspo-notice").forEach((each) => each.remove());

/** Show `text` with an offer; it disappears by itself unless in use. */
export function notice(text, yes, act, no) {
  const close = () => root.remove();
  const accept = button(yes, () => (close(), act()), { kind: "primary" });
  const root = h(
    "div",
    { class: "dspo dspo-notice", role: "status" },
    h("p", {}, text),
    h("div", { class: "dspo-row" }, accept, button(no, close, { kind: "quiet" })),
  );
  keepKeys(root);
  dismiss();
  document.body.append(root);
  const leave = () => (root.matches(":hover, :focus-within") ? setTimeout(leave, STAYS_MS) : close());
  setTimeout(leave, STAYS_MS);
}
