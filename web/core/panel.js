/** What the panel says of sets, tests and runs, and which of them it shows: values in, texts and numbers out. */
import { percent, wholePercent } from "./format.js";

/** Entries from which on the panel offers a filter. */
export const MANY = 9;

/** A text's key and values; the key's own form for one thing, if there is one of it. */
const said = (key, count, values = {}) => ({ key: count === 1 ? `${key}One` : key, values: { count, ...values } });

/** What is said of a set or a test: {key, values} of a text. */
export function stateOf({ place, state, progress, result }) {
  if (state === "unread" || state === "unreadable") return { key: state, values: {} };
  const { answered, total, wins } = progress;
  const test = place === "blind";
  if (!total) return { key: "pairsNone", values: {} };
  if (!answered) return said(test ? "testNew" : "pairsNew", total);
  if (state !== "voted") return { key: test ? "testOf" : "pairsOf", values: { answered, total } };
  if (!test) return { key: wins ? "voted" : "votedEqual", values: {} };
  if (!Number.isFinite(result?.rate)) return { key: "votedEqual", values: {} };
  const { rate, low, high } = result;
  return { key: "testResult", values: { rate: percent(rate), low: wholePercent(low), high: percent(high) } };
}

/** What is said of a folder that was looked into: {key, values} of a text. */
export function contentsOf({ pairs, rated, images }) {
  if (pairs) return said("folderPairs", pairs);
  if (rated) return said("folderRated", rated);
  return said("folderImages", images);
}

/** Nothing was made here yet: the start is all there is to do. */
export const isEmpty = (sets, runs) => runs.length === 0 && !sets.some(({ layout }) => layout === "collected");

/** The rows of GET /dspo/sets by section, the example last of its section. */
export function bySection(sets) {
  const found = { sets: [], blind: [], folders: [] };
  for (const row of sets) found[row.layout === "folder" ? "folders" : row.place].push(row);
  found.folders.sort((a, b) => Number(a.example ?? false) - Number(b.example ?? false)); // stable: else newest first
  return found;
}

/** Does a text hold every word of the filter, in any case and order? */
export function fits(text, filter) {
  const folded = text.toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => folded.includes(word));
}
