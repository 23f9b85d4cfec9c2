/**
 * One view of both images: `scale`, and the point at the centre of the frame, 0 to 1 on each axis.
 * Frame points use the same units, so both images follow one view.
 */

export const WHOLE = Object.freeze({ scale: 1, x: 0.5, y: 0.5 });
export const LARGEST = 12;
export const STEP = 1.25;
export const CLOSE = 3; // the scale of Z

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function inside({ scale, x, y }) {
  const half = 0.5 / scale;
  return { scale, x: clamp(x, half, 1 - half), y: clamp(y, half, 1 - half) };
}

/** Zoom by `factor`, keeping what is under the frame point (px, py) in place. */
export function zoomAt(view, factor, px = 0.5, py = 0.5) {
  const scale = clamp(view.scale * factor, 1, LARGEST);
  const x = view.x + (px - 0.5) * (1 / view.scale - 1 / scale);
  const y = view.y + (py - 0.5) * (1 / view.scale - 1 / scale);
  return inside({ scale, x, y });
}

/** Drag the image by (dx, dy) frame widths and heights. */
export function panBy(view, dx, dy) {
  return inside({ scale: view.scale, x: view.x - dx / view.scale, y: view.y - dy / view.scale });
}

/** Z: zoom in on a frame point, or back to the whole image. */
export function toggled(view, px = 0.5, py = 0.5) {
  return view.scale > 1 ? WHOLE : zoomAt(WHOLE, CLOSE, px, py);
}

/** The CSS transform of an image that fills its frame, with transform-origin 0 0. */
export function transformOf({ scale, x, y }) {
  const shift = (centre) => `${((0.5 - centre * scale) * 100).toFixed(4)}%`;
  return scale === 1 ? "none" : `translate(${shift(x)}, ${shift(y)}) scale(${scale.toFixed(4)})`;
}

/** Zoom factor of a wheel event: about 25% per notch of a mouse, finer for a touchpad. */
export function wheelFactor({ deltaY, deltaMode = 0 }) {
  const pixels = deltaY * (deltaMode === 1 ? 33 : deltaMode === 2 ? 400 : 1);
  return Math.exp(-clamp(pixels, -300, 300) / 450);
}
