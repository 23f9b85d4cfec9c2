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

const FEW = 4; // shown whole; of more, a reduced image has all the pixels that a screen has for it
const REDUCED = 1024; // pixels

/** The images of a question: {left, right, broken} of a pair, {names, elements, broken} of a group. */
export async function loadQuestion(place, set, question) {
  const names = question.images ?? [question.left, question.right];
  const size = names.length > FEW ? REDUCED : undefined;
  const elements = await Promise.all(
    names.map((name) => decoded((attempt) => imageUrl(place, set, name, size, attempt))),
  );
  const broken = elements.some((image) => Boolean(image.dataset.broken));
  if (question.images) return { names, elements, broken };
  return { left: elements[0], right: elements[1], broken };
}
