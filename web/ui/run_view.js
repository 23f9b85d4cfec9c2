/** A run's previews and curves. Fed by events, rebuilt from the server. */
import * as api from "../api.js";
import { CHARTS, knownUpTo, learnedOf, merged, pointsOf, sentenceOf, worded } from "../core/run_state.js";
import { t, told } from "../texts.js";
import { Chart } from "./chart.js";
import { openDialog } from "./dialog.js";
import { disclosure } from "./disclosure.js";
import { bar, h } from "./dom.js";
import { Previews } from "./previews.js";

const ASK_MS = 5000; // events carry only the newest point; previews, warnings and missed steps are requested

export class RunView {
  #row = { state: "running", step: 0, steps: null, previews: [] };
  #reports = [];
  #asked = 0;
  #stop = [];
  #dead = false;

  constructor(run, { large = false } = {}) {
    Object.assign(this, { run, large });
    this.warning = h("p", { class: "dspo-warning", role: "alert", hidden: true });
    this.head = h("div", { class: "dspo-run-head" });
    this.previews = new Previews(run, { large });
    this.empty = h("p", { class: "dspo-muted" }, t("loading"));
    const height = large ? 240 : 110;
    this.charts = CHARTS.map(({ title, series, ...rest }) => ({
      chart: new Chart({ title: t(`chart_${title}`), help: t(`chart_${title}_help`), height, ...rest }),
      series,
    }));
    this.rate = h("p", { class: "dspo-muted" });
    const curves = h("div", { class: "dspo-curves" }, ...this.charts.map(({ chart }) => chart.root));
    this.curves = disclosure(
      "curves",
      t("curves"),
      { changed: () => this.#drawCurves() },
      h("div", { class: "dspo-numbers" }, curves, this.rate),
    );
    const own = large ? [this.warning, this.head] : []; // the card has its own
    this.root = h(
      "div",
      { class: `dspo-run ${large ? "large" : ""}` },
      ...own,
      this.previews.root,
      this.empty,
      this.curves,
    );
    this.#stop.push(
      api.listen("run", (event) => event.run === run && this.#heard(event)),
      api.listen("preview", (event) => event.run === run && this.#preview(event.file)),
      api.listen("run_state", (event) => event.run === run && this.refresh()),
      api.listen("lora_saved", () => this.refresh()), // the last step is reported before the file that completes it
    );
    this.refresh();
  }

  destroy() {
    this.#dead = true;
    this.#stop.forEach((each) => each());
    this.charts.forEach(({ chart }) => chart.destroy());
  }

  async refresh() {
    this.#asked = performance.now();
    try {
      const known = knownUpTo(this.#reports);
      const { reports, ...row } = await api.run(this.run, known);
      this.#row = row;
      this.#reports = merged(this.#reports, reports);
      const now = knownUpTo(this.#reports);
      // one answer holds a limited number of steps
      if (now > known && now < row.step && !this.#dead) await this.refresh();
      this.empty.textContent = t("noCurve");
      if (!this.#dead) this.#draw();
    } catch (error) {
      this.empty.textContent = told(error);
      this.empty.hidden = false;
    }
  }

  #heard({ run, node, step, steps, seconds_left, learned, round = null, ...report }) {
    if (step > 0 && !round) this.#reports = merged(this.#reports, [{ step, ...report }]);
    this.#row = { ...this.#row, state: "running", step, steps, seconds_left, learned, round };
    this.#draw();
    if (step >= steps || performance.now() - this.#asked > ASK_MS) this.refresh();
  }

  #preview(file) {
    if (!this.#row.previews.includes(file)) this.#row.previews = [...this.#row.previews, file];
    this.#draw();
  }

  /** What a card says itself; only the large view has it here. */
  #drawHead() {
    const { state, alarm, step, steps, round } = this.#row;
    const warning = alarm ? t(`alarm_${alarm}`) : "";
    this.warning.hidden = !warning;
    if (this.warning.textContent !== warning) this.warning.textContent = warning;
    const text = worded(t, sentenceOf(this.#row));
    const learned = learnedOf(this.#row);
    const going = learned && h("p", { class: "dspo-muted" }, worded(t, learned));
    const done = state === "running" && round?.going !== false && bar(steps ? step / steps : 0, text);
    this.head.replaceChildren(...[h("strong", {}, text), going, done].filter(Boolean));
  }

  #draw() {
    if (this.large) this.#drawHead();
    this.previews.fill(this.#row.previews);
    const none = this.#reports.length === 0;
    this.empty.hidden = !none;
    this.curves.hidden = none;
    this.#drawCurves();
  }

  #drawCurves() {
    if (!this.curves.open || !this.#reports.length) return;
    for (const { chart, series } of this.charts) {
      chart.draw(
        series.map(({ key, held, name }, tone) => ({
          name: t(`series_${name}`),
          points: pointsOf(this.#reports, key),
          held: pointsOf(this.#reports, held),
          tone,
        })),
      );
    }
    const { pairs_per_second: rate } = this.#reports.at(-1);
    this.rate.textContent = Number.isFinite(rate) ? t("pairsPerSecond", { rate: rate.toPrecision(2) }) : "";
  }
}

/** The run in a large dialog. */
export function openRun(run, title = run) {
  const view = new RunView(run, { large: true });
  const dialog = openDialog({ title, kind: "dspo-run-dialog", onclose: () => view.destroy() });
  dialog.body.append(view.root);
}
