/** Dialogs to import a folder of pairs and to export a set. */
import * as api from "../api.js";
import { counted, t, told } from "../texts.js";
import { openDialog } from "./dialog.js";
import { button, h } from "./dom.js";
import { openGather } from "./gather.js";

const LAYOUTS = ["suffix", "subfolders", "ranked", "jsonl", "csv", "opinions"];

/**
 * One field, one button and the outcome; `act(value)` resolves to the texts to show, and `instead(close)` gives a button
 * for what may be done where the server refuses.
 */
function ask({ title, label, field, go, act, instead = () => "" }) {
  const { body, close } = openDialog({ title, kind: "dspo-narrow" });
  const answer = h("div", { role: "status" });
  const start = h("button", { type: "submit", class: "dspo-button primary" }, go);
  const submit = async (event) => {
    event.preventDefault();
    start.disabled = true;
    answer.replaceChildren(t("loading"));
    try {
      answer.replaceChildren(...(await act(field.value.trim())).map((text) => h("p", {}, text)));
    } catch (error) {
      answer.replaceChildren(h("p", {}, told(error)));
      if (error.permanent) answer.append(instead(close));
    } finally {
      start.disabled = false;
    }
  };
  const row = h("div", { class: "dspo-row" }, start, button(t("close"), close, { kind: "quiet" }));
  body.append(h("form", { onsubmit: submit }, h("label", { class: "dspo-field" }, label, field), row), answer);
  field.focus();
}

export function openExport(place, set) {
  const options = LAYOUTS.map((layout) => h("option", { value: layout }, t(`layout_${layout}`)));
  ask({
    title: t("exportTitle", { set }),
    label: t("layout"),
    field: h("select", {}, options),
    go: t("export"),
    act: async (layout) => {
      const done = await api.exportSet(place, set, layout);
      return [layout === "opinions" ? counted("exportedImages", done.images, done) : t("exported", done)];
    },
  });
}

/** `done` is called when pairs were imported. */
export function openImport(set, done) {
  const leaf = set.split("/").at(-1);
  ask({
    title: t("importTitle", { set }),
    label: t("into"),
    field: h("input", {
      type: "text",
      required: true,
      value: `${leaf}-voted`,
      spellcheck: "false",
      autocomplete: "off",
    }),
    go: t("import"),
    instead: (close) => button(t("gatherLoose"), () => (close(), openGather(done, { source: "input", folder: set }))),
    act: async (into) => {
      const counts = await api.importSet(set, into);
      done();
      const { defects } = counts;
      return [
        t("imported", counts),
        ...(defects.length ? [t("defects", { count: defects.length }), ...defects.slice(0, 20)] : []),
      ];
    },
  });
}
