/** What is said of a taste, {accuracy, low, high, more, outlook, clicks, enough}: values in, texts and numbers out. */
import { percent, wholePercent } from "./format.js";

/** Whether an estimate is better than chance and rests on enough clicks to be told in passing. */
export const isKnown = (taste) =>
  Number.isFinite(taste?.accuracy) && taste.outlook !== "chance" && taste.clicks >= taste.enough;

const figures = ({ accuracy, low, high }) => ({
  accuracy: percent(accuracy),
  low: wholePercent(low),
  high: percent(high),
});

/** The whole sentence: {key, values} of a text; null where there is no taste. */
export function sentenceOf(taste) {
  if (!taste) return null;
  const { outlook, more, clicks, enough } = taste;
  if (Number.isFinite(taste.accuracy)) return { key: `taste_${outlook}`, values: { ...figures(taste), more } };
  return { key: `taste_${outlook}`, values: { clicks, enough } };
}

/** In a few words: {key, values} of a text; null before it is known. */
export const briefOf = (taste) => (isKnown(taste) ? { key: "tasteBrief", values: figures(taste) } : null);
