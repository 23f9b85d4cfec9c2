/** The arithmetic of line charts, drawn by ui/chart.js. A point is {x, y}; the line breaks where y is NaN or null. */

const finite = (value) => typeof value === "number" && Number.isFinite(value);

/** [low, high] of the values, or null without any; a single value gets some room around it. */
export function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!finite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return null;
  if (low === high) {
    const room = Math.abs(low) / 2 || 1;
    return [low - room, high + room];
  }
  return [low, high];
}

/** Round numbers within [low, high], about `count` of them, at steps of 1, 2 or 5 times a power of ten. */
export function ticks(low, high, count = 5) {
  if (!(high > low) || count < 1) return [];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= raw * 0.999999) ?? 10);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n === 0 ? 0 : n * step);
  return found;
}

/** Short labels of an axis, all in one notation: exponential if the values are very small or large. */
export function tickTexts(values) {
  const largest = Math.max(...values.map(Math.abs));
  const step = Math.abs(values[1] - values[0]) || largest || 1;
  if (largest >= 0.01 && largest < 1e5)
    return values.map((value) => (value === 0 ? "0" : value.toFixed(digitsFor(step))));
  return values.map((value) => {
    if (value === 0) return "0";
    const exponent = Math.floor(Math.log10(Math.abs(value)) + 1e-9);
    return value.toExponential(digitsFor(step / 10 ** exponent)).replace("e+", "e");
  });
}

const digitsFor = (step) => Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 1e-9)));

/** A function from [from[0], from[1]] onto [to[0], to[1]]. */
export function scale(from, to) {
  const factor = (to[1] - to[0]) / (from[1] - from[0]);
  return (value) => to[0] + (value - from[0]) * factor;
}

/** SVG path data; the line breaks where y is not a number. An isolated point becomes a zero-length dot. */
export function path(points, toX, toY) {
  let data = "";
  let lone = false;
  let drawing = false;
  for (const { x, y } of points) {
    if (!finite(y)) {
      if (lone) data += "h0";
      drawing = lone = false;
      continue;
    }
    data += `${drawing ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`;
    lone = !drawing;
    drawing = true;
  }
  return lone ? `${data}h0` : data;
}

/**
 * Bias-corrected exponential mean; the last `span` points carry about half of the weight.
 * A value that is not a number stays a break and does not enter the mean.
 */
export function smooth(points, span) {
  const keep = 0.5 ** (1 / Math.max(span, 1));
  let sum = 0;
  let weight = 0;
  return points.map(({ x, y }) => {
    if (!finite(y)) return { x, y: NaN };
    sum = keep * sum + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    return { x, y: sum / weight };
  });
}

/** At most two points, the lowest and the highest, for each of `columns` stretches, in order: no peak is lost. */
export function thin(points, columns) {
  if (points.length <= 2 * columns) return points;
  const kept = [];
  for (let column = 0; column < columns; column++) {
    const part = points.slice(
      Math.floor((column * points.length) / columns),
      Math.floor(((column + 1) * points.length) / columns),
    );
    const known = part.filter(({ y }) => finite(y));
    if (!known.length) kept.push(part[0]);
    else {
      const low = known.reduce((a, b) => (b.y < a.y ? b : a));
      const high = known.reduce((a, b) => (b.y > a.y ? b : a));
      kept.push(...(low === high ? [low] : [low, high].sort((a, b) => a.x - b.x)));
    }
  }
  return kept;
}

/** The point whose x is nearest, or null without points. */
export function nearest(points, x) {
  let best = null;
  for (const point of points)
    if (finite(point.y) && (!best || Math.abs(point.x - x) < Math.abs(best.x - x))) best = point;
  return best;
}

export const SPAN = 12; // steps that carry half of the weight of the smoothed line

/** What the legend says of a series, at step x or else at its end: the points on the lines as they are drawn. */
export function readings({ points, held }, x = Number.MAX_SAFE_INTEGER) {
  return { mean: nearest(smooth(points, SPAN), x), held: nearest(held, x) };
}
