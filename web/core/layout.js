/** Are two images of one shape larger stacked than side by side, in a box with a gap between them? */
export function stacks(box, image, gap) {
  const fit = (width, height) => Math.min(width / image.width, height / image.height);
  return fit(box.width, (box.height - gap) / 2) > fit((box.width - gap) / 2, box.height);
}
