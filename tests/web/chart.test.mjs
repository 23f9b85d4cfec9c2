import assert from "node:assert/strict";
import { test } from "node:test";
import { extent, nearest, path, readings, scale, smooth, SPAN, thin, ticks, tickTexts } from "../../web/core/chart.js";

const points = (...ys) => ys.map((y, n) => ({ x: n + 1, y }));
const same = (value) => value;

test("the range of what is a number", () => {
  assert.deepEqual(extent([3, NaN, -1, null, Infinity]), [-1, 3]);
  assert.equal(extent([NaN]), null);
  assert.deepEqual(extent([4, 4]), [2, 6]);
  assert.deepEqual(extent([0]), [-1, 1]);
});

test("ticks are round and inside", () => {
  assert.deepEqual(tickTexts(ticks(0, 1, 5)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
  assert.deepEqual(ticks(1, 200, 4), [50, 100, 150, 200]);
  assert.deepEqual(ticks(3, 3), []);
  for (const [low, high] of [
    [-0.00131, 0.0027],
    [1, 47],
    [-8.2, 9000],
  ]) {
    const found = ticks(low, high, 4);
    assert.ok(found.length >= 2 && found.length <= 9, `${found}`);
    assert.ok(found.every((value) => value >= low - 1e-12 && value <= high + 1e-12));
  }
});

test("an axis keeps to one notation", () => {
  assert.deepEqual(tickTexts([-0.0005, 0, 0.0005, 0.001, 0.0015]), ["-5e-4", "0", "5e-4", "1.0e-3", "1.5e-3"]);
  assert.deepEqual(tickTexts([0, 50, 100]), ["0", "50", "100"]);
});

test("neighbouring ticks read differently", () => {
  for (const [low, high] of [
    [-0.00031, 0.0017],
    [0.001, 0.0013],
    [0, 250000],
    [0.98, 0.99],
  ]) {
    const found = ticks(low, high, 5);
    const texts = tickTexts(found);
    assert.equal(new Set(texts).size, texts.length, `${texts}`);
  }
});

test("a scale maps the ends onto the ends, and may turn", () => {
  const toY = scale([0, 10], [100, 0]);
  assert.deepEqual([toY(0), toY(10), toY(2.5)], [100, 0, 75]);
});

test("the line breaks where there is no number, and a lone point stays visible", () => {
  assert.equal(path(points(1, 2, NaN, 4, NaN, 6, 7), same, same), "M1.0 1.0L2.0 2.0M4.0 4.0h0M6.0 6.0L7.0 7.0");
  assert.equal(path([], same, same), "");
});

test("the smoothed line starts at the first value and keeps a constant", () => {
  assert.deepEqual(
    smooth(points(5, 5, 5), 10).map(({ y }) => Number(y.toFixed(9))),
    [5, 5, 5],
  );
  const [first, second] = smooth(points(0, 1), 1).map(({ y }) => y);
  assert.equal(first, 0);
  assert.ok(Math.abs(second - 0.5 / 0.75) < 1e-12); // weights 1/4 and 1/2 of three quarters
  assert.ok(Number.isNaN(smooth(points(1, NaN, 1), 3)[1].y));
});

test("thinning keeps peaks, order and short lines", () => {
  const long = Array.from({ length: 5000 }, (_, n) => ({ x: n, y: n === 3210 ? 99 : n === 77 ? -99 : Math.sin(n) }));
  const short = thin(long, 200);
  assert.ok(short.length <= 400);
  assert.ok(short.some(({ y }) => y === 99) && short.some(({ y }) => y === -99));
  assert.ok(short.every(({ x }, n) => n === 0 || x > short[n - 1].x));
  assert.equal(thin(points(1, 2), 200).length, 2);
});

test("the nearest known point", () => {
  assert.deepEqual(nearest(points(1, NaN, 3), 2.1), { x: 3, y: 3 });
  assert.equal(nearest([], 1), null);
});

test("the legend says what the lines show: the smoothed value, not the last step's own", () => {
  const noisy = points(...Array.from({ length: 60 }, (_, n) => (n % 2 ? 1 : 0.28)));
  const { mean, held } = readings({ points: noisy, held: [{ x: 50, y: 0.5 }] });
  assert.deepEqual(mean, smooth(noisy, SPAN).at(-1));
  assert.ok(Math.abs(mean.y - 0.64) < 0.03, `${mean.y}: the last step alone has 1`);
  assert.deepEqual(held, { x: 50, y: 0.5 });
  assert.deepEqual(readings({ points: noisy, held: [] }, 7.2), { mean: smooth(noisy, SPAN)[6], held: null });
});
