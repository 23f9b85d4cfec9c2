/** Images of one shape in a box. */

const fit = (width, height, image) => Math.min(width / image.width, height / image.height);

/** Are two images larger stacked than side by side, with a gap between them? */
export function stacks(box, image, gap) {
  return fit(box.width, (box.height - gap) / 2, image) > fit((box.width - gap) / 2, box.height, image);
}

/** The grid in which `count` images are largest: {columns, width, height} of each; of equals, the fewest columns. */
export function tiling(box, image, count, gap) {
  let best = { columns: 1, scale: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const width = (box.width - gap * (columns - 1)) / columns;
    const scale = fit(width, (box.height - gap * (rows - 1)) / rows, image);
    if (scale > best.scale * 1.001) best = { columns, scale };
  }
  return { columns: best.columns, width: image.width * best.scale, height: image.height * best.scale };
}

/** Where an image lies that is as large as fits in the middle of a box: {left, width}. */
export function spanIn(box, image) {
  const width = image.width * fit(box.width, box.height, image);
  return { left: (box.width - width) / 2, width };
}
