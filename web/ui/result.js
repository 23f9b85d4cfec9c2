/** Results of blind tests. */
import * as api from "../api.js";
import { percent } from "../core/format.js";
import { t } from "../texts.js";
import { openDialog } from "./dialog.js";
import { button, h } from "./dom.js";

const theme = () => (document.body.classList.contains("dark-theme") ? "dark" : "light");

/** The result of a blind test; while pairs are open, it is shown only on request. */
export function resultPanel(set) {
  const root = h("div", { class: "dspo-result", role: "status" }, t("loading"));
  const load = () =>
    api.result(set).then(
      (result) => root.replaceChildren(...(result.open > 0 ? warning(root, set, result) : figures(set, result))),
      (error) =>
        root.replaceChildren(
          h("p", {}, error.permanent ? error.message : t("serverSilent")),
          button(t("tryAgain"), load),
        ),
    );
  load();
  return root;
}

function warning(root, set, result) {
  const show = () => root.replaceChildren(...figures(set, result));
  return [h("p", {}, t("stillOpen", result)), button(t("showAnyway"), show)];
}

function figures(set, result) {
  const known = Number.isFinite(result.win_rate);
  return [
    h("p", { class: "dspo-verdict" }, result.text),
    known && h("p", { class: "dspo-number" }, percent(result.win_rate), h("small", {}, t("winRate"))),
    known && interval(result),
    h("p", { class: "dspo-muted" }, t("wonTiedLost", result)),
    known && card(set),
  ].filter(Boolean);
}

/** The result as an image, with a link that saves it. */
function card(set) {
  const img = h("img", { class: "dspo-result-image", alt: t("resultImage") });
  const save = h("a", { class: "dspo-button", download: `${set.replaceAll("/", "-")}.png` }, t("saveImage"));
  const root = h("div", { class: "dspo-result-share", hidden: true }, img, save);
  api.resultImage(set, theme()).then(
    (source) => {
      img.src = save.href = source; // never revoked: it may be saved at any time
      root.hidden = false;
    },
    () => root.remove(), // the figures say the same
  );
  return root;
}

/** The interval as a bar on a line from 0 to 100%, with a mark at one half. */
function interval({ win_rate, low, high }) {
  const text = t("interval", { low: percent(low), high: percent(high) });
  const span = h("span", { class: "dspo-span", style: `left:${100 * low}%;width:${100 * (high - low)}%` });
  const dot = h("span", { class: "dspo-dot", style: `left:${100 * win_rate}%` });
  const half = h("span", { class: "dspo-half" });
  return h(
    "div",
    { class: "dspo-interval" },
    h("div", { class: "dspo-scale", "aria-hidden": "true" }, half, span, dot),
    h("p", {}, text),
  );
}

export function openResult(set) {
  const { body } = openDialog({ title: t("result"), kind: "dspo-narrow" });
  body.append(h("p", { class: "dspo-muted" }, set), resultPanel(set));
}
