import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";
import { briefOf, isKnown, sentenceOf } from "../../web/core/taste.js";
import { t, TEXTS } from "../../web/texts.js";

const known = { accuracy: 0.863, low: 0.806, high: 0.899, more: 30, outlook: "more", clicks: 64, enough: 20 };
const few = { accuracy: null, low: null, high: null, more: null, outlook: "few", clicks: 8, enough: 20 };
const say = ({ key, values }) => t(key, values);

test("how well a taste is known, in a sentence", () => {
  const start = "We know your taste to 86% (81 to 90%)";
  assert.equal(say(sentenceOf(known)), `${start}; about 30 more clicks would tell more.`);
  assert.equal(say(sentenceOf({ ...known, more: null, outlook: "little" })), `${start}; more clicks would tell little more.`);
  assert.equal(say(sentenceOf({ ...known, more: null, outlook: "unclear" })), `${start}.`);
  assert.equal(say(sentenceOf(few)), "Too few clicks to know your taste: 8 of about 20.");
  assert.match(say(sentenceOf({ ...few, outlook: "one_prompt", clicks: 40 })), /^All clicks are on one prompt/);
  const chance = { ...known, accuracy: 0.58, low: 0.41, outlook: "chance" };
  assert.equal(say(sentenceOf(chance)), "Your taste is not known yet: 58% (41 to 90%), and a coin has 50%.");
  assert.equal(isKnown(chance), false);
  assert.equal(sentenceOf(null), null);
});

test("in passing it is said from twenty clicks on", () => {
  assert.equal(say(briefOf(known)), "taste known to 86% (81–\u206090%)");
  assert.equal(briefOf({ ...known, clicks: 19 }), null);
  assert.equal(briefOf({ ...known, clicks: 20 }).key, "tasteBrief");
  for (const none of [few, null, undefined, { ...few, clicks: 40 }]) assert.equal(isKnown(none), false);
});

test("every outlook that the server can name has its words", () => {
  const source = fs.readFileSync(new URL("../../dspo_train/taste/assessment.py", import.meta.url), "utf8");
  const outlooks = [...source.match(/^Outlook = Literal\[(.*?)\]/m)[1].matchAll(/"(\w+)"/g)].map(([, name]) => name);
  assert.deepEqual(outlooks, ["few", "one_prompt", "chance", "more", "little", "unclear"]);
  for (const language of ["en", "de", "zh"])
    for (const name of outlooks) assert.ok(TEXTS[language][`taste_${name}`], `${language} ${name}`);
});
