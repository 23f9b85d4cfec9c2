/** A line chart as SVG: axes, labels, legend, a readout under the pointer. */
import { extent, path, readings, scale, smooth, SPAN, thin, ticks, tickTexts } from "../core/chart.js";
import { percent, signed } from "../core/format.js";
import { t } from "../texts.js";
import { h, svg } from "./dom.js";

const MARGIN = { top: 8, right: 10, bottom: 20, left: 50 };

/**
 * A chart with `draw(series)`; a series is {name, points, held, tone}: `held` are the held-out points, tone 0 or 1 the
 * colour. It follows the width of its container until `destroy`.
 */
export class Chart {
  #series = [];

  constructor({ title, help = "", range = null, zero = false, height = 150 }) {
    Object.assign(this, { title, range, zero, height });
    this.legend = h("p", { class: "dspo-legend" });
    this.svg = svg("svg", { class: "dspo-chart", role: "img", height });
    const caption = h("figcaption", {}, title, h("small", {}, help));
    this.root = h("figure", { class: "dspo-figure" }, caption, this.svg, this.legend);
    this.observer = new ResizeObserver(() => this.#paint());
    this.observer.observe(this.root);
    this.svg.addEventListener("pointermove", (event) => this.#point(event));
    this.svg.addEventListener("pointerleave", () => this.#readout(null));
  }

  draw(series) {
    this.#series = series;
    this.#paint();
  }

  destroy() {
    this.observer.disconnect();
  }

  #paint() {
    const width = Math.floor(this.svg.getBoundingClientRect().width);
    const all = this.#series.flatMap(({ points, held }) => [...points, ...held]);
    const xs = extent(all.map(({ x }) => x));
    if (!width || !xs) return;
    this.toX = scale(xs, [MARGIN.left, width - MARGIN.right]);
    const ys = this.range ?? this.#room(extent([...all.map(({ y }) => y), ...(this.zero ? [0] : [])]));
    if (!ys) return;
    const toY = scale(ys, [this.height - MARGIN.bottom, MARGIN.top]);
    this.cursor = svg("line", {
      class: "dspo-cursor",
      y1: MARGIN.top,
      y2: this.height - MARGIN.bottom,
      visibility: "hidden",
    });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.replaceChildren(...this.#axes(xs, ys, toY, width), ...this.#lines(toY, width), this.cursor);
    this.#readout(null);
  }

  #room(range) {
    if (!range) return null;
    const room = 0.06 * (range[1] - range[0]);
    return [range[0] - room, range[1] + room];
  }

  #axes(xs, ys, toY, width) {
    const marksY = ticks(...ys, Math.max(2, Math.round(this.height / 45)));
    const marksX = ticks(...xs, Math.max(2, Math.round(width / 70))).filter(Number.isInteger);
    const bottom = this.height - MARGIN.bottom;
    const texts = tickTexts(marksY);
    const rows = marksY.map((value, n) => [
      svg("line", {
        class: value === 0 ? "dspo-zero" : "dspo-grid",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: toY(value),
        y2: toY(value),
      }),
      svg("text", { x: MARGIN.left - 6, y: toY(value) + 3.5, "text-anchor": "end" }, texts[n]),
    ]);
    const columns = marksX.map((value) =>
      svg("text", { x: this.toX(value), y: bottom + 14, "text-anchor": "middle" }, String(value)),
    );
    return [...rows.flat(), ...columns];
  }

  #lines(toY, width) {
    return this.#series.flatMap(({ points, held, tone }) => {
      const draw = (each, kind) =>
        svg("path", { class: `dspo-line tone${tone} ${kind}`, d: path(thin(each, width), this.toX, toY) });
      return [draw(points, "raw"), draw(smooth(points, SPAN), "mean"), held.length ? draw(held, "held") : null].filter(
        Boolean,
      );
    });
  }

  #point(event) {
    const box = this.svg.getBoundingClientRect();
    if (!this.toX || !box.width) return;
    const points = this.#series.flatMap((each) => each.points);
    const near = points.reduce((best, each) => {
      const away = Math.abs(this.toX(each.x) - (event.clientX - box.left));
      return !best || away < best.away ? { x: each.x, away } : best;
    }, null);
    this.#readout(near?.x ?? null);
  }

  /** The legend with the values of the lines at step x, or the latest ones. */
  #readout(x) {
    const items = this.#series.flatMap((each) => {
      const { name, held: measured, tone } = each;
      const { mean, held } = readings(each, x ?? undefined);
      const heldName = `${this.#series.length > 1 ? `${name}, ` : ""}${t("heldOut")}`;
      return [
        this.#item(name, mean, `tone${tone}`),
        measured.length ? this.#item(heldName, held, `tone${tone} held`) : null,
      ];
    });
    const step = x === null ? null : h("span", { class: "dspo-muted" }, `${t("stepAxis")} ${x}`);
    this.legend.replaceChildren(...[...items, step].filter(Boolean));
    this.svg.setAttribute("aria-label", `${this.title}: ${this.legend.textContent}`);
    if (!this.cursor) return;
    this.cursor.setAttribute("visibility", x === null ? "hidden" : "visible");
    if (x !== null) for (const name of ["x1", "x2"]) this.cursor.setAttribute(name, this.toX(x));
  }

  #item(name, point, tone) {
    const text = point ? (this.range ? percent(point.y) : signed(point.y, 2)) : "–";
    return h(
      "span",
      { class: "dspo-key" },
      h("i", { class: `dspo-swatch ${tone}`, "aria-hidden": "true" }),
      `${name} `,
      h("b", {}, text),
      " ",
    );
  }
}
