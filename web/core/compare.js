/** Which picture without the LoRA belongs to which with it: one per seed, then the seeds again for each strength. */

/** {seeds, strengths} counted from what the node showed; null where the lists do not fit each other. */
export function layoutOf(base, aligned) {
  const fits = base.length > 0 && aligned.length > 0 && aligned.length % base.length === 0;
  return fits ? { seeds: base.length, strengths: aligned.length / base.length } : null;
}

/** The two pictures for seed number `seed` and strength number `strength`, counted from 0. */
export function pairAt(base, aligned, seed, strength) {
  return { before: base[seed], after: aligned[strength * base.length + seed] };
}

/** Labels for the strengths: those of the widget's text while it still has as many, else their numbers. */
export function strengthLabels(text, count) {
  const written = String(text ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
  return written.length === count ? written : Array.from({ length: count }, (_, n) => `#${n + 1}`);
}
