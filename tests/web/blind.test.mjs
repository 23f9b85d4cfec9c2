import assert from "node:assert/strict";
import { test } from "node:test";
import { changeable, remember, testOf } from "../../web/core/blind.js";

const SETS = [
  { place: "blind", set: "b-1" },
  { place: "blind", set: "b-2" },
  { place: "sets", set: "s" },
];

test("a node opens the test that its own output named, also after the workflow was saved and loaded", () => {
  const node = { id: 7, properties: {} };
  remember(node, { dspo_blind: ["b-1"] });
  const loaded = JSON.parse(JSON.stringify(node));
  assert.equal(testOf(loaded, SETS), "b-1");
});

test("the node with the same number in another workflow opens nothing, nor does a test that is gone", () => {
  assert.equal(testOf({ id: 7, properties: {} }, SETS), null);
  assert.equal(testOf({ id: 7 }, SETS), null);
  assert.equal(testOf({ id: 7, properties: { dspo_blind: "gone" } }, SETS), null);
  assert.equal(testOf({ id: 7, properties: { dspo_blind: "s" } }, SETS), null);
});

test("an output without a test changes nothing", () => {
  const node = { properties: { dspo_blind: "b-2" } };
  remember(node, { text: ["x"] });
  assert.equal(testOf(node, SETS), "b-2");
});

test("a vote can be changed afterwards where it counts, but never in a blind test", () => {
  assert.equal(changeable("sets", { status: "counts" }), true);
  assert.equal(changeable("sets", { status: "undone" }), false);
  assert.equal(changeable("blind", { status: "counts" }), false);
});
