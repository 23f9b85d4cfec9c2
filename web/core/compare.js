/** Pairs images without and with the LoRA: one per seed, then all seeds again for each strength. */

/** {seeds, strengths}, counted from the images shown; null if the two lists do not fit. */
export function layoutOf(base, aligned) {
  const fits = base.length > 0 && aligned.length > 0 && aligned.length % base.length === 0;
  return fits ? { seeds: base.length, strengths: aligned.length / base.length } : null;
}

/** The two images for seed number `seed` and strength number `strength`, counted from 0. */
export function pairAt(base, aligned, seed, strength) {
  return { before: base[seed], after: aligned[strength * base.length + seed] };
}

/** Labels for the strengths: from the widget's text if it has as many, otherwise their ordinals. */
export function strengthLabels(text, count) {
  const written = String(text ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
  return written.length === count ? written : Array.from({ length: count }, (_, n) => `#${n + 1}`);
}

/** Width over height of the view of two images of this size, which is 1 while the size is unknown. */
export function aspectOf(width, height, sideBySide) {
  const one = width > 0 && height > 0 ? width / height : 1;
  return sideBySide ? 2 * one : one;
}
