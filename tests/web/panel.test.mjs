import assert from "node:assert/strict";
import { test } from "node:test";
import { bySection, contentsOf, fits, isEmpty, stateOf } from "../../web/core/panel.js";
import { TEXTS } from "../../web/texts.js";

const set = (answered, open, wins = answered) => ({
  place: "sets",
  layout: "collected",
  state: answered ? (open ? "voting" : "voted") : "new",
  progress: { answered, open, total: answered + open, wins },
});

test("the state of a set in words", () => {
  assert.deepEqual(stateOf(set(0, 0)), { key: "pairsNone", values: {} });
  assert.deepEqual(stateOf(set(0, 96)), { key: "pairsNew", values: { count: 96 } });
  assert.deepEqual(stateOf(set(0, 1)), { key: "pairsNewOne", values: { count: 1 } });
  assert.deepEqual(stateOf(set(23, 73)), { key: "pairsOf", values: { answered: 23, total: 96 } });
  assert.deepEqual(stateOf(set(96, 0)), { key: "voted", values: {} });
  assert.deepEqual(stateOf(set(3, 0, 0)), { key: "votedEqual", values: {} }); // ties and skips teach nothing
  assert.equal(stateOf({ state: "unread", progress: null }).key, "unread");
});

test("a blind test tells its result only once it is finished", () => {
  const result = { rate: 0.684, low: 0.544, high: 0.801 };
  const row = { ...set(40, 10), place: "blind", result: null };
  assert.deepEqual(stateOf(row), { key: "testOf", values: { answered: 40, total: 50 } });
  const done = { ...set(50, 0), place: "blind", result };
  assert.deepEqual(stateOf(done), { key: "testResult", values: { rate: "68%", low: 54, high: "80%" } });
  assert.equal(stateOf({ ...done, result: { rate: null, low: null, high: null } }).key, "votedEqual");
});

test("a folder is what it holds", () => {
  const keys = [
    [{ pairs: 24, rated: 0, images: 48 }, "folderPairs", 24],
    [{ pairs: 1, rated: 0, images: 2 }, "folderPairsOne", 1],
    [{ pairs: 0, rated: 7, images: 9 }, "folderRated", 7],
    [{ pairs: 0, rated: 0, images: 5 }, "folderImages", 5],
  ];
  for (const [found, key, count] of keys) assert.deepEqual(contentsOf(found), { key, values: { count } });
});

test("every key has its words, in every language", () => {
  const keys = ["pairsNone", "pairsOf", "testOf", "testResult", "voted", "votedEqual", "unread", "unreadable"];
  const counted = ["pairsNew", "testNew", "folderPairs", "folderRated", "folderImages"];
  const kinds = ["sets", "blind", "runs"].flatMap((kind) => [`kind_${kind}`, `eraseText_${kind}`]);
  for (const language of Object.keys(TEXTS))
    for (const key of [...keys, ...counted, ...counted.map((each) => `${each}One`), ...kinds])
      assert.ok(TEXTS[language][key], `${language} ${key}`);
});

test("folders come apart from sets, the example last", () => {
  const folder = (name, example = false) => ({ place: "sets", set: name, layout: "folder", example });
  const rows = [folder("example", true), set(1, 2), { ...set(0, 1), place: "blind" }, folder("a"), folder("b")];
  const found = bySection(rows);
  assert.deepEqual(found.sets, [rows[1]]);
  assert.deepEqual(found.blind, [rows[2]]);
  assert.deepEqual(
    found.folders.map(({ set: name }) => name),
    ["a", "b", "example"],
  );
});

test("there is nothing yet while only folders are there", () => {
  assert.equal(isEmpty([{ layout: "folder" }], []), true);
  assert.equal(isEmpty([set(0, 1)], []), false);
  assert.equal(isEmpty([], [{ run: "a-01" }]), false);
});

test("a filter wants every word, in any case and order", () => {
  assert.ok(fits("my-taste voted: ready to train", "TRAIN  taste"));
  assert.ok(!fits("my-taste voted: ready to train", "taste dogs"));
});
