/** Images of one shape in a box. */

const fit = (width, height, image) => Math.min(width / image.width, height / image.height);

/** Are two images larger stacked than side by side, with a gap between them? */
export function stacks(box, image, gap) {
  return fit(box.width, (box.height - gap) / 2, image) > fit((box.width - gap) / 2, box.height, image);
}

/** The number of columns in which `count` images are largest; of equals, the fewest. */
export function columnsFor(box, image, count, gap) {
  let best = { columns: 1, size: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const width = (box.width - gap * (columns - 1)) / columns;
    const size = fit(width, (box.height - gap * (rows - 1)) / rows, image);
    if (size > best.size * 1.001) best = { columns, size };
  }
  return best.columns;
}

/** Where an image lies that is as large as fits in the middle of a box: {left, width}. */
export function spanIn(box, image) {
  const width = image.width * fit(box.width, box.height, image);
  return { left: (box.width - width) / 2, width };
}
