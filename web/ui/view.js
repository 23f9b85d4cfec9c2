/** How this person votes, remembered by the browser, and which prompts are asked about. */
import { t } from "../texts.js";
import { h } from "./dom.js";
import { keep, recall } from "./kept.js";

const VIEW = "dspo-studio.view"; // the key of localStorage
const TYPING_MS = 300;

/** The view chosen last, "grid" or "pairs"; null before the first choice. */
export const rememberedView = () => recall(VIEW);
export const rememberView = (view) => keep(VIEW, view);

/** A field that narrows the prompts asked about; `search(text)` is called when the typing rests. */
export function finder(search) {
  let typing = 0;
  const label = t("findPrompt");
  const box = h("input", { type: "search", class: "dspo-find", placeholder: label, "aria-label": label, hidden: true });
  box.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => search(box.value.trim()), TYPING_MS);
  });
  return box;
}
