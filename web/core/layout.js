/** Whether two pictures of one shape are larger one above the other than side by side, in a box with a gap between. */
export function stacks(box, picture, gap) {
  const fit = (width, height) => Math.min(width / picture.width, height / picture.height);
  return fit(box.width, (box.height - gap) / 2) > fit((box.width - gap) / 2, box.height);
}
