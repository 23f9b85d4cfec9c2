/** The card of a run: what its LoRA does, how a blind test of it went, and how it was made. */
import * as api from "../api.js";
import { t, told } from "../texts.js";
import { openDialog } from "./dialog.js";
import { button, h } from "./dom.js";

const theme = () => (document.body.classList.contains("dark-theme") ? "dark" : "light");

/** Show the card of a finished run, with a link that saves it. */
export function openCard(run) {
  const { body } = openDialog({ title: t("cardTitle", { run }), kind: "dspo-image" });
  const shown = h("div", { class: "dspo-card-shown", role: "status" }, t("loading"));
  const load = () =>
    api.runCard(run, theme()).then(
      (source) => {
        const save = h("a", { class: "dspo-button", href: source, download: `${run}.png` }, t("saveImage"));
        shown.replaceChildren(h("img", { src: source, alt: t("cardImage", { run }) }), save); // never revoked: see result
      },
      (error) =>
        shown.replaceChildren(
          h("p", {}, told(error)),
          button(t("tryAgain"), load),
        ),
    );
  body.append(shown);
  load();
}
