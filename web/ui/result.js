/** Results of blind tests. */
import * as api from "../api.js";
import { percent } from "../core/format.js";
import { counted, t, told } from "../texts.js";
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
          h("p", {}, told(error)),
          button(t("tryAgain"), load),
        ),
    );
  load();
  return root;
}

function warning(root, set, result) {
  const show = () => root.replaceChildren(...figures(set, result));
  return [h("p", {}, counted("stillOpen", result.open)), button(t("showAnyway"), show)];
}

/** Each thing once: the rate, what it means, how sure that is, and on how many votes it rests. */
function figures(set, result) {
  const known = Number.isFinite(result.win_rate);
  const votes = [t("wonTiedLost", result), counted("overPrompts", result.prompts)].join(t("comma"));
  return [
    known && h("p", { class: "dspo-number" }, percent(result.win_rate), h("small", {}, t("winRate"))),
    h("p", { class: "dspo-verdict" }, verdict(result)),
    known && interval(result),
    known && h("p", { class: "dspo-muted" }, votes),
    known && saving(set),
  ].filter(Boolean);
}

/** What the figures mean, in one sentence without any of them. */
export function verdict({ votes, win_rate, low, high, prompts, to_settle: more }) {
  if (!Number.isFinite(win_rate)) return t("verdict_none");
  if (prompts === 1 && votes > 1) return t("verdict_onePrompt");
  if (low > 0.5) return t("verdict_better");
  if (high < 0.5) return t("verdict_worse");
  return more == null ? t("verdict_even") : counted("verdict_open", more);
}

/** A link that saves the result as an image. */
function saving(set) {
  const save = h("a", { class: "dspo-button", download: `${set.replaceAll("/", "-")}.png`, hidden: true }, t("saveImage"));
  api.resultImage(set, theme()).then(
    (source) => {
      save.href = source; // never revoked: it may be saved at any time
      save.hidden = false;
    },
    () => save.remove(), // the figures say the same
  );
  return save;
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
