import assert from "node:assert/strict";
import { test } from "node:test";
import { mayBeImage, outcome, Selection } from "../../web/core/gather.js";
import { TEXTS } from "../../web/texts.js";

const fox = { key: "f", prompt: "a fox", count: 12 };
const dog = { key: "d", prompt: "a dog", count: 3 };
const cat = { key: "c", prompt: "a cat", count: 1 };
const bare = { key: "none", prompt: "", count: 4 };
const PROMPTED = 15; // images of fox and dog

test("nothing is chosen at first", () => {
  const selection = new Selection();
  assert.equal(selection.total(PROMPTED), 0);
  assert.equal(selection.has(fox, "1.png"), false);
  assert.deepEqual(selection.order(""), { everything: false, groups: [] });
});

test("single images of a group", () => {
  const selection = new Selection();
  selection.toggleImage(fox, "1.png");
  assert.equal(selection.comparable(PROMPTED), false);
  selection.toggleImage(dog, "2.png");
  assert.equal(selection.comparable(PROMPTED), false, "of two prompts");
  selection.toggleImage(fox, "3.png");
  assert.equal(selection.comparable(PROMPTED), true);
  assert.equal(selection.total(PROMPTED), 3);
  selection.toggleImage(fox, "3.png");
  assert.deepEqual(selection.order(""), {
    everything: false,
    groups: [
      { group: "f", whole: false, images: ["1.png"] },
      { group: "d", whole: false, images: ["2.png"] },
    ],
  });
});

test("a whole group but one image", () => {
  const selection = new Selection();
  selection.toggleGroup(fox);
  selection.toggleImage(fox, "1.png");
  assert.equal(selection.count(fox), 11);
  assert.deepEqual([selection.has(fox, "1.png"), selection.has(fox, "2.png")], [false, true]);
  selection.toggleGroup(fox);
  assert.equal(selection.count(fox), 12, "first the rest comes in");
  selection.toggleGroup(fox);
  assert.equal(selection.count(fox), 0);
});

test("everything leaves out what cannot be compared or has no prompt", () => {
  const selection = new Selection();
  selection.all(true);
  assert.deepEqual([fox, dog, cat, bare].map((group) => selection.count(group)), [12, 3, 0, 0]);
  assert.equal(selection.total(PROMPTED), 15);
  assert.equal(selection.comparable(PROMPTED), true);
  selection.toggleImage(fox, "1.png");
  selection.toggleGroup(dog);
  assert.equal(selection.total(PROMPTED), 11);
  selection.toggleGroup(bare);
  assert.equal(selection.total(PROMPTED), 15);
  assert.deepEqual(selection.order("a bird"), {
    everything: true,
    groups: [
      { group: "f", whole: true, images: ["1.png"] },
      { group: "d", whole: false, images: [] },
      { group: "none", whole: true, images: [], prompt: "a bird" },
    ],
  });
  selection.all(false);
  assert.equal(selection.total(PROMPTED), 0);
});

test("everything without everything has nothing to compare", () => {
  const selection = new Selection();
  selection.all(true);
  selection.toggleGroup(fox);
  selection.toggleGroup(dog);
  assert.equal(selection.comparable(PROMPTED), false);
  assert.equal(new Selection().comparable(0), false);
});

test("the outcome of a collecting in words", () => {
  const job = { state: "done", set: "s", added: 9, groups: 2, pairs: 16, already: 0, alone: 1, unreadable: 0 };
  assert.deepEqual(outcome(job), [
    ["gatherDone", { added: 9, pairs: 16, set: "s" }],
    ["gatherAlone", { count: 1 }],
  ]);
  assert.deepEqual(outcome({ ...job, added: 0, alone: 0, already: 9 }), [
    ["gatherNothing", { set: "s" }],
    ["gatherAlready", { count: 9 }],
  ]);
  assert.deepEqual(outcome({ ...job, added: 2, pairs: 1, alone: 0 }), [["gatherDoneOne", { added: 2, set: "s" }]]);
  for (const reason of ["full", "locked", "failed"]) {
    const [[key]] = outcome({ ...job, state: "failed", reason });
    assert.ok(key in TEXTS.en, key);
  }
  assert.equal(outcome({ ...job, state: "cancelled" })[0][0], "gatherCancelled");
});

test("which files are worth sending", () => {
  for (const type of ["image/png", "image/jpeg", "image/webp"]) assert.ok(mayBeImage({ type, name: "x" }), type);
  assert.ok(mayBeImage({ type: "", name: "A.JPG" }));
  for (const file of [
    { type: "image/gif", name: "a.png" },
    { type: "image/svg+xml", name: "a.svg" },
    { type: "", name: "a.txt" },
    { type: "text/html", name: "a.png" },
  ])
    assert.equal(mayBeImage(file), false, file.name);
});
