/** Images, loaded and decoded before they are needed. */
import { imageUrl } from "../api.js";

const AGAIN_MS = 700;

/** An <img> ready to be painted; `dataset.broken` marks one that failed to load twice. */
async function decoded(urlOf) {
  const first = await attempted(urlOf());
  if (!first.dataset.broken) return first;
  await new Promise((done) => setTimeout(done, AGAIN_MS));
  return attempted(urlOf(Date.now()));
}

async function attempted(url) {
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

/** Both images of a question: {left, right, broken}. */
export async function loadPair(place, set, question) {
  const [left, right] = await Promise.all(
    [question.left, question.right].map((name) => decoded((attempt) => imageUrl(place, set, name, undefined, attempt))),
  );
  return { left, right, broken: [left, right].some((image) => image.dataset.broken) };
}
