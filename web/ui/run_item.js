/** What a run's card shows: a picture, one plain sentence, what it is made of, and what can be done. */
import * as api from "../api.js";
import { actionsOf, factsOf, learnedOf, sentenceOf, stepOf, worded } from "../core/run_state.js";
import * as loop from "../loop.js";
import { t, told } from "../texts.js";
import { openTestOf } from "./blind_of.js";
import { disclosure } from "./disclosure.js";
import { bar, button, h, icon } from "./dom.js";
import { openRun, RunView } from "./run_view.js";
import { openVoting } from "./voting.js";

const SIZE = 320; // pixels of the thumbnail's both halves, for twice as dense screens
const SILENT_MS = 10_000; // a run of another program sends no events

export class RunItem {
  #row;
  #view = null;
  #busy = null; // the action that is under way
  #heard = performance.now();

  /** @param row of GET /dspo/runs; `open`: show previews and curves at first. */
  constructor(row, open) {
    this.#row = row;
    const { run } = row;
    this.picture = h("button", { type: "button", class: "dspo-run-picture", onclick: () => this.#enlarge() });
    this.name = h("span", { class: "dspo-name", title: run }, row.title || run);
    this.state = h("p", { class: "dspo-state" });
    this.progress = h("div", {});
    this.learned = h("p", { class: "dspo-muted" });
    this.warning = h("p", { class: "dspo-warning", hidden: true });
    this.facts = h("dl", { class: "dspo-run-about" });
    this.actions = h("div", { class: "dspo-row" });
    this.message = h("p", { class: "dspo-muted", role: "status" });
    this.inside = h("div", {});
    this.details = disclosure(`run:${run}`, t("runDetails"), { open, changed: () => this.#unfold() }, this.inside);
    const head = h("div", { class: "dspo-title" }, this.name);
    const beside = h("div", { class: "dspo-run-body" }, head, this.state, this.progress);
    const said = [this.learned, this.warning, this.facts, this.actions, this.message];
    const below = h("div", { class: "dspo-run-body below" }, ...said);
    this.root = h("div", { class: "dspo-run-item" }, this.picture, beside, below, this.details);
    this.stop = api.listen("preview", (event) => event.run === run && this.#preview(event.file));
    this.timer = setInterval(() => this.#ask(), SILENT_MS);
    this.#draw();
    if (this.details.open) this.#unfold();
  }

  destroy() {
    this.stop();
    clearInterval(this.timer);
    this.#view?.destroy();
  }

  /** Show a newer row, or parts of one. */
  update(news) {
    this.#heard = performance.now();
    const before = this.#row;
    this.#row = { ...before, ...news };
    if (this.#row.state !== before.state) this.#busy = null;
    this.#draw();
  }

  #ask() {
    if (this.#row.state !== "running" || performance.now() - this.#heard < SILENT_MS) return;
    api.run(this.#row.run, this.#row.step).then(
      ({ reports, ...row }) => this.update(row),
      () => {}, // asked again soon
    );
  }

  #preview(file) {
    const { previews } = this.#row;
    this.update({ previews: previews.includes(file) ? previews : [...previews, file] });
  }

  #draw() {
    const row = this.#row;
    const text = worded(t, sentenceOf(row));
    const learned = learnedOf(row);
    this.root.dataset.state = row.state;
    put(this.name, row.title || row.run);
    put(this.state, text);
    put(this.learned, learned ? worded(t, learned) : "");
    put(this.warning, row.alarm ? t(`alarm_${row.alarm}`) : "");
    const steps = row.state === "running" && row.round?.going !== false; // between rounds none are trained
    this.progress.hidden = !steps;
    if (steps) this.progress.replaceChildren(bar(row.steps ? row.step / row.steps : 0, text));
    this.#drawPicture();
    redraw(this.facts, JSON.stringify(factsOf(row)), () => factsOf(row).map((each) => fact(each, this.message)));
    redraw(this.actions, actionsOf(row).join() + (this.#busy ?? ""), () =>
      actionsOf(row).map((name, n) => this.#button(name, n === 0)),
    );
  }

  #drawPicture() {
    const { run, previews } = this.#row;
    const file = previews.at(-1) ?? "";
    const label = file ? t("previewAt", { step: stepOf(file) }) : t("details");
    redraw(this.picture, file, () => {
      this.picture.setAttribute("aria-label", `${this.name.textContent}: ${label}`);
      const source = file && api.previewUrl(run, file, SIZE);
      return [source ? h("img", { src: source, alt: "", loading: "lazy", draggable: "false" }) : icon("pi-chart-line")];
    });
  }

  /** While its action is under way it is marked, not disabled: that would take the focus away. */
  #button(name, first) {
    const kind = first && name !== "stop" ? "primary" : "";
    const busy = this.#busy === name;
    const act = () => busy || this.#act(name);
    const label = t(busy && name === "stop" ? "stopping" : `run_${name}`);
    return button(label, act, { kind, "aria-disabled": busy && "true", "data-focus": `${name}:run:${this.#row.run}` });
  }

  async #act(name) {
    this.#busy = name;
    put(this.message, "");
    this.#draw();
    try {
      await ACTS[name](this.#row, (text) => put(this.message, text));
      if (name === "stop") return; // until the run has stopped
    } catch (error) {
      put(this.message, told(error));
      if (error.permanent) this.#heard = -Infinity; // what is shown is out of date
      this.#ask();
    }
    this.#busy = null;
    this.#draw();
  }

  #enlarge() {
    openRun(this.#row.run, this.name.textContent);
  }

  #unfold() {
    this.#view?.destroy();
    this.#view = this.details.open ? new RunView(this.#row.run) : null;
    this.inside.replaceChildren(...(this.#view ? [this.#view.root] : []));
  }
}

const ACTS = {
  stop: ({ run }) => api.stopRun(run),
  resume: (row) => loop.resume(row),
  vote: async ({ round }) => openVoting("sets", round.set),
  nextRound: ({ lora }) => loop.nextRound(lora),
  blindTest: ({ lora }, say) => openTestOf(lora, () => say(t("noTestYet"))),
};

function fact({ key, value, name, copy }, message) {
  const copied = () =>
    navigator.clipboard.writeText(value).then(
      () => put(message, t("copied", { value })),
      () => put(message, t("notCopied")),
    );
  const copies = { kind: "quiet small dspo-copy", title: t("copy"), "data-focus": `copy:${value}` };
  const shown = copy ? button(value, copied, copies) : h("span", { title: value }, name);
  return h("div", {}, h("dt", {}, t(key)), h("dd", {}, shown));
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

/** Make the children anew only if what they show has changed; what has the focus keeps it. */
function redraw(element, mark, children) {
  if (element.dataset.mark === mark) return;
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  element.dataset.mark = mark;
  element.replaceChildren(...children());
  if (!focused) return;
  const heir = element.querySelector(`[data-focus="${CSS.escape(focused)}"]`) ?? element.querySelector("button");
  heir?.focus({ preventScroll: true });
}
