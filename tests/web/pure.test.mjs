import assert from "node:assert/strict";
import { test } from "node:test";
import { aspectOf, layoutOf, pairAt, strengthLabels } from "../../web/core/compare.js";
import { ago, clock, percent, share, signed } from "../../web/core/format.js";
import { actionOf, takesKeys } from "../../web/core/keymap.js";
import { Rate } from "../../web/core/rate.js";
import { knownUpTo, merged, pointsOf } from "../../web/core/run_state.js";
import { uuid } from "../../web/core/uuid.js";

test("every key of the dialog", () => {
  const expected = {
    ArrowLeft: "left",
    ArrowRight: "right",
    ArrowDown: "tie",
    s: "skip",
    S: "skip",
    u: "undo",
    z: "zoom",
    f: "flicker",
    "?": "help",
    Escape: "close",
    w: null,
    Enter: null,
    Tab: null,
    "/": null,
  };
  for (const [key, action] of Object.entries(expected)) assert.equal(actionOf({ key }), action, key);
});

test("shortcuts of browser and system stay theirs, and a held key votes once", () => {
  for (const held of ["ctrlKey", "metaKey", "altKey", "isComposing"])
    assert.equal(actionOf({ key: "z", [held]: true }), null, held);
  assert.equal(actionOf({ key: "ArrowLeft", repeat: true }), null);
  assert.equal(actionOf({ key: "+", repeat: true }), "zoomIn");
  assert.equal(actionOf({ key: "ArrowLeft", shiftKey: true }), "panLeft");
});

test("fields keep their keys", () => {
  assert.ok(
    takesKeys({ tagName: "input" }) && takesKeys({ tagName: "SELECT" }) && takesKeys({ isContentEditable: true }),
  );
  assert.ok(!takesKeys({ tagName: "BUTTON" }) && !takesKeys(undefined));
});

test("votes a minute: three votes ten seconds apart are six a minute; a long break counts half a minute", () => {
  const rate = new Rate();
  rate.note(0);
  rate.note(10_000);
  assert.equal(rate.perMinute(), null);
  rate.note(20_000);
  assert.equal(rate.perMinute(), 6);
  rate.note(3_600_000);
  assert.equal(rate.perMinute().toFixed(6), (3 / ((10 + 10 + 30) / 60)).toFixed(6));
  rate.drop();
  assert.equal(rate.perMinute(), 6);
});

test("an old pace is forgotten after twenty votes", () => {
  const rate = new Rate();
  for (let n = 0; n < 20; n++) rate.note(20_000 * n);
  for (let n = 1; n <= 20; n++) rate.note(380_000 + 6000 * n);
  assert.equal(Math.round(rate.perMinute()), 10);
});

test("times, shares and small figures", () => {
  assert.deepEqual([0, 65, 3599.6, 7389, -3].map(clock), ["0:00", "1:05", "1:00:00", "2:03:09", "0:00"]);
  assert.deepEqual(
    [0.005, 0.125, 0.375, 0.625, 0.629, 0.995, 1, NaN, undefined].map((value) => percent(value)),
    ["0%", "12%", "38%", "62%", "63%", "100%", "100%", "–", "–"], // as Python's .0%
  );
  assert.deepEqual(
    [0.0012, -0.034, 0, 2, NaN].map((value) => signed(value)),
    ["+1.20e-3", "−0.034", "0.000", "+2.000", "–"],
  );
  assert.deepEqual([share(1, 4), share(5, 4), share(0, 0)], [0.25, 1, 0]);
});

test("how long ago", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  assert.equal(ago("2026-11-21T11:55:00Z", now, "en"), "5 minutes ago");
  assert.equal(ago("2026-11-19T11:00:00Z", now, "de"), "vorgestern");
  assert.equal(ago("2026-11-21T12:00:30Z", now, "en"), "this minute");
  assert.equal(ago("never", now, "en"), "");
});

test("one image per seed, then the seeds again for each strength", () => {
  const base = ["b1", "b2"];
  const aligned = ["b1 at .5", "b2 at .5", "b1 at 1", "b2 at 1"];
  assert.deepEqual(layoutOf(base, aligned), { seeds: 2, strengths: 2 });
  assert.deepEqual(pairAt(base, aligned, 1, 1), { before: "b2", after: "b2 at 1" });
  for (const wrong of [
    [[], []],
    [["a"], []],
    [
      ["a", "b"],
      ["c", "d", "e"],
    ],
  ])
    assert.equal(layoutOf(...wrong), null);
  assert.deepEqual(strengthLabels("0.5, 1.0", 2), ["0.5", "1.0"]);
  assert.deepEqual(strengthLabels("0.5", 2), ["#1", "#2"]);
});

test("reports from events and from the server become one list", () => {
  const list = merged(
    [
      { step: 1, margin: 1 },
      { step: 4, margin: 4 },
    ],
    [
      { step: 2, margin: 2 },
      { step: 4, loss: 9 },
    ],
  );
  assert.deepEqual(list, [
    { step: 1, margin: 1 },
    { step: 2, margin: 2 },
    { step: 4, margin: 4, loss: 9 },
  ]);
  assert.equal(knownUpTo(list), 2);
  assert.equal(knownUpTo([]), 0);
  assert.equal(knownUpTo([{ step: 7 }]), 0);
  assert.deepEqual(pointsOf(list, "loss"), [{ x: 4, y: 9 }]);
});

test("a UUID of version 4", () => {
  assert.equal(
    uuid((bytes) => bytes.fill(255)),
    "ffffffff-ffff-4fff-bfff-ffffffffffff",
  );
  assert.equal(new Set(Array.from({ length: 100 }, () => uuid())).size, 100);
});

test("the view of a comparison has the images' shape, twice as wide side by side", () => {
  assert.equal(aspectOf(1024, 512, false), 2);
  assert.equal(aspectOf(1024, 512, true), 4);
  assert.equal(aspectOf(0, 0, false), 1);
});
