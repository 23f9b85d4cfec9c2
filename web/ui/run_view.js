/** A live training run: curves, previews, time left. Fed by events, rebuilt from the server. */
import * as api from "../api.js";
import { clock, percent } from "../core/format.js";
import { CHARTS, knownUpTo, lastOf, merged, pointsOf, secondsLeft } from "../core/run_state.js";
import { t } from "../texts.js";
import { Chart } from "./chart.js";
import { openDialog } from "./dialog.js";
import { bar, button, h } from "./dom.js";

const ASK_MS = 5000; // events carry only the newest point; previews, warnings and missed steps are requested

export class RunView {
  #state = { step: 0, steps: 0, finished: false, stopped: false, reports: [], previews: [], alarm: null };
  #asked = 0;
  #stop = [];
  #dead = false;

  constructor(run, { large = false } = {}) {
    Object.assign(this, { run, large });
    this.warning = h("p", { class: "dspo-warning", role: "alert", hidden: true });
    this.head = h("div", { class: "dspo-run-head" });
    this.charts = CHARTS.map(({ title, series, ...rest }) => ({
      chart: new Chart({ title: t(`chart_${title}`), height: large ? 240 : 110, ...rest }),
      series,
    }));
    this.empty = h("p", { class: "dspo-muted" }, t("loading"));
    this.curves = h(
      "div",
      { class: "dspo-curves" },
      this.charts.map(({ chart }) => chart.root),
    );
    this.curves.hidden = true;
    this.images = h("div", { class: "dspo-previews" });
    this.root = h(
      "div",
      { class: `dspo-run ${large ? "large" : ""}` },
      this.warning,
      this.head,
      this.empty,
      this.curves,
      this.images,
    );
    this.#stop.push(
      api.listen("run", (event) => event.run === run && this.#heard(event)),
      api.listen("preview", (event) => event.run === run && this.#preview(event.file)),
      api.listen("lora_saved", () => this.refresh()), // the last step is reported before the file that completes the run
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
      const known = knownUpTo(this.#state.reports);
      const { reports, ...news } = await api.run(this.run, known);
      this.#state = { ...this.#state, ...news, reports: merged(this.#state.reports, reports) };
      const now = knownUpTo(this.#state.reports);
      if (now > known && now < news.step && !this.#dead) await this.refresh(); // one answer holds a limited number of steps
      this.empty.textContent = t("noCurve");
      if (!this.#dead) this.#draw();
    } catch (error) {
      this.empty.textContent = error.permanent ? error.message : t("serverSilent");
      this.empty.hidden = false;
    }
  }

  #heard({ run, node, step, steps, seconds_left, ...report }) {
    const reports = step > 0 ? merged(this.#state.reports, [{ step, ...report }]) : this.#state.reports;
    this.#state = { ...this.#state, step, steps, reports, left: seconds_left, rate: report.pairs_per_second };
    this.#draw();
    if (step >= steps || performance.now() - this.#asked > ASK_MS) this.refresh();
  }

  #preview(file) {
    if (!this.#state.previews.includes(file)) this.#state.previews = [...this.#state.previews, file];
    this.#draw();
  }

  #draw() {
    const { reports, alarm } = this.#state;
    const warning = alarm ? t(`alarm_${alarm}`) : "";
    this.warning.hidden = !warning;
    if (this.warning.textContent !== warning) this.warning.textContent = warning;
    this.#drawHead();
    this.empty.hidden = reports.length > 0;
    this.curves.hidden = !reports.length;
    for (const { chart, series } of this.charts) {
      chart.draw(
        series.map(({ key, held, name }, tone) => ({
          name: t(`series_${name}`),
          points: pointsOf(reports, key),
          held: pointsOf(reports, held),
          tone,
        })),
      );
    }
    this.#drawPreviews();
  }

  #drawHead() {
    const { step, steps, finished, stopped, left, rate, reports } = this.#state;
    const text = t("step", { step, steps: steps ?? "?" });
    const measured = lastOf(reports, "held_out_accuracy");
    const remaining = finished || stopped ? null : (left ?? secondsLeft(this.#state));
    const facts = [
      h("strong", {}, text),
      finished ? h("span", { class: "dspo-badge counts win" }, t(stopped ? "stopped" : "finished")) : null,
      measured === null ? null : h("span", {}, t("heldOutAccuracy", { accuracy: percent(measured) })),
      Number.isFinite(remaining) ? h("span", {}, t("timeLeft", { time: clock(remaining) })) : null,
      Number.isFinite(rate) && !finished
        ? h("span", { class: "dspo-muted" }, t("pairsPerSecond", { rate: rate.toPrecision(2) }))
        : null,
    ];
    const line = h("div", { class: "dspo-run-facts" }, facts);
    this.head.replaceChildren(line, bar(steps ? step / steps : 0, text));
  }

  #drawPreviews() {
    const known = new Set([...this.images.children].map((each) => each.dataset.file));
    for (const file of this.#state.previews.filter((each) => !known.has(each))) {
      const label = t("previewAt", { step: Number(file.match(/\d+/)?.[0] ?? 0) });
      const image = h("img", { src: api.previewUrl(this.run, file), alt: label, loading: "lazy" });
      const open = h(
        "button",
        { type: "button", class: "dspo-preview", onclick: () => openImage(label, image.src) },
        image,
      );
      const caption = h("figcaption", {}, label);
      this.images.prepend(h("figure", { "data-file": file }, open, caption));
    }
  }
}

function openImage(title, source) {
  openDialog({ title, kind: "dspo-image" }).body.append(h("img", { src: source, alt: title }));
}

/** The run in a large dialog. */
export function openRun(run) {
  const view = new RunView(run, { large: true });
  const dialog = openDialog({ title: run, kind: "dspo-run-dialog", onclose: () => view.destroy() });
  dialog.body.append(view.root);
}

/** A run in the sidebar: its state, refreshed by `update`, and its curves while open. */
export function runItem({ run, step, steps, finished, stopped }, open) {
  let view = null;
  const inside = h("div", {});
  const state = h("span", { class: "dspo-muted" });
  const update = (news) => {
    const ended = news.finished && t(news.stopped ? "stopped" : "finished");
    state.textContent = ended || t("step", { step: news.step, steps: news.steps ?? "?" });
  };
  update({ step, steps, finished, stopped });
  const summary = h("summary", {}, h("span", { class: "dspo-name" }, run), state);
  const root = h("details", { class: "dspo-item", open }, summary, inside);
  const show = () => {
    view?.destroy();
    view = root.open ? new RunView(run) : null;
    inside.replaceChildren(...(view ? [button(t("details"), () => openRun(run), { kind: "small" }), view.root] : []));
  };
  root.addEventListener("toggle", show);
  return { root, run, update, destroy: () => view?.destroy() };
}
