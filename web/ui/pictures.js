/** Pictures loaded and decoded before they are needed. */
import { imageUrl } from "../api.js";

/** An <img> that is ready to be painted; `dataset.broken` marks one that cannot be. */
export async function decoded(url) {
  const image = new Image();
  image.alt = "";
  image.draggable = false;
  image.src = url;
  try {
    await image.decode();
  } catch {
    image.dataset.broken = "true";
  }
  return image;
}

/** Both pictures of a question: {left, right, broken}. */
export async function loadPair(place, set, question) {
  const [left, right] = await Promise.all(
    [question.left, question.right].map((name) => decoded(imageUrl(place, set, name))),
  );
  return { left, right, broken: [left, right].some((image) => image.dataset.broken) };
}
