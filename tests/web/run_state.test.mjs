import assert from "node:assert/strict";
import { test } from "node:test";
import { isOf } from "../../web/core/blind.js";
import { actionsOf, factsOf, learnedOf, sentenceOf, stepOf, timeLeft, worded } from "../../web/core/run_state.js";
import { speak, t } from "../../web/texts.js";

const row = (values) => ({ run: "my-taste-01", step: 25, steps: 60, resumes_from: 20, objective: "dspo", ...values });
const says = (values) => worded(t, sentenceOf(row(values)));

test("one plain sentence for each state", () => {
  speak("en");
  assert.equal(says({ state: "running", seconds_left: 70 }), "Training: step 25 of 60, about 1 minute left");
  assert.equal(says({ state: "running", seconds_left: null }), "Training: step 25 of 60");
  assert.equal(says({ state: "running", step: 0, seconds_left: null }), "Preparing the pictures");
  assert.equal(says({ state: "running", step: 60, seconds_left: 0 }), "Saving the LoRA");
  assert.equal(says({ state: "stopped" }), "Stopped at step 25 of 60");
  assert.equal(says({ state: "stopped", step: 0 }), "Stopped before the first step");
  assert.equal(says({ state: "crashed" }), "Crashed at step 25: Resume goes on from step 20");
  assert.equal(
    says({ state: "crashed", resumes_from: 0 }),
    "Crashed at step 25, before the first checkpoint: Resume starts again",
  );
  assert.equal(says({ state: "crashed", step: 0 }), "Crashed before the first step");
  const lora = "dspo/my-taste-01.safetensors";
  assert.equal(says({ state: "finished", step: 60, lora }), "Finished: my-taste-01 · 60 steps · dspo");
  assert.equal(
    says({ state: "finished", step: 40, early: true, lora }),
    "Finished early: my-taste-01 · 40 of 60 steps, as held-out pairs improved no further",
  );
  assert.match(says({ state: "finished", step: 60, lora: null }), /^Finished, but its LoRA file is not in/);
});

test("of rounds: which is trained, what it waits for, and which is kept", () => {
  speak("en");
  const round = (values) => ({ number: 2, asked: null, going: false, set: null, open: 0, ...values });
  const lora = "dspo/my-taste-01-r2.safetensors";
  assert.equal(
    says({ state: "running", seconds_left: 70, round: round({ going: true }) }),
    "Round 2 · Training: step 25 of 60, about 1 minute left",
  );
  assert.equal(says({ state: "running", round: round() }), "Round 2 is trained: drawing and checking");
  assert.equal(says({ state: "stopped", round: round({ going: true }) }), "Round 2 · Stopped at step 25 of 60");
  assert.equal(says({ state: "stopped", round: round() }), "Stopped after round 2");
  assert.equal(says({ state: "stopped", round: round({ open: 4 }) }), "Waiting for 4 clicks on new images");
  assert.equal(says({ state: "stopped", round: round({ open: 1 }) }), "Waiting for 1 click on new images");
  assert.equal(says({ state: "finished", lora, round: round({ asked: 3 }) }), "Finished: my-taste-01-r2 · round 2 of 3");
  assert.match(says({ state: "finished", lora: null, round: round({ asked: 3 }) }), /^Finished, but its LoRA file/);
  assert.equal(says({ state: "crashed", round: round() }), "Crashed at step 25: Resume goes on from step 20");
});

test("a failure says why, and what it says last is no double stop", () => {
  speak("en");
  assert.equal(says({ state: "failed", reason: "not enough memory" }), "Failed after step 25: not enough memory");
  const reason = "step 26: it is\nnan. Lower it.";
  assert.equal(says({ state: "failed", reason }), "Failed at step 26: it is\nnan. Lower it");
  assert.equal(says({ state: "failed", reason: null }), "Failed after step 25: ");
  assert.equal(says({ state: "failed", step: 0, reason: "Lower it. " }), "Failed: Lower it");
  speak("de");
  assert.equal(
    says({ state: "failed", reason: "not enough memory" }),
    "Gescheitert nach Schritt 25: nicht genug Speicher",
  );
  speak("en");
});

test("every state has its words in every language", () => {
  for (const language of ["en", "de", "zh"]) {
    speak(language);
    for (const state of ["running", "stopped", "failed", "crashed", "finished"]) {
      for (const step of [0, 25, 60]) {
        const text = says({ state, step, reason: "x", seconds_left: 300, lora: step === 25 ? null : "a" });
        assert.doesNotMatch(text, /[{}]|undefined|null|^run[A-Z]/, text);
        for (const [going, open] of [[true, 0], [false, 1], [false, 4]]) {
          const round = { number: 2, asked: state === "finished" ? 3 : null, going, set: "a-fresh", open };
          assert.doesNotMatch(
            says({ state, step, reason: "x", seconds_left: 300, lora: "a", round }),
            /[{}]|undefined|null|^run[A-Z]/,
          );
        }
      }
      assert.notEqual(t(`state_${state}`), `state_${state}`);
    }
  }
  speak("en");
});

test("what follows the state: what a running one may do is not what an ended one may", () => {
  const lora = "dspo/a.safetensors";
  assert.deepEqual(
    ["running", "stopped", "failed", "crashed", "finished"].map((state) => actionsOf({ state, lora })),
    [["stop"], ["resume"], ["resume"], ["resume"], ["nextRound", "blindTest"]],
  );
  assert.deepEqual(actionsOf({ state: "finished", lora: null }), ["resume"]);
  const round = { number: 1, asked: null, going: false, set: "a-fresh", open: 2 };
  assert.deepEqual(actionsOf({ state: "stopped", lora, round }), ["vote"]);
  assert.deepEqual(actionsOf({ state: "stopped", lora, round: { ...round, open: 0 } }), ["resume"]);
  for (const name of ["stop", "resume", "vote", "nextRound", "blindTest"]) assert.notEqual(t(`run_${name}`), `run_${name}`);
});

test("time left in words: rounded, in the largest unit that fits", () => {
  speak("en");
  assert.deepEqual(
    [0, 29, 30, 100, 3500, 3590, 4000, 9100].map((seconds) => worded(t, timeLeft(seconds))),
    [
      "less than a minute left",
      "less than a minute left",
      "about 1 minute left",
      "about 2 minutes left",
      "about 58 minutes left",
      "about 1 hour left",
      "about 1 hour left",
      "about 3 hours left",
    ],
  );
});

test("how it goes: held-out pairs before training ones, and nothing before the first step", () => {
  speak("en");
  const learned = (values) => learnedOf({ learned: values });
  assert.equal(
    worded(t, learned({ share: 0.784, right: 8, pairs: 10 })),
    "The model now prefers your winners in 8 of 10 held-out pairs",
  );
  assert.equal(
    worded(t, learned({ share: 0.784, right: null, pairs: null })),
    "The model now prefers your winners in 78% of the training pairs (50% is chance)",
  );
  assert.equal(learned({ share: null, right: null, pairs: null }), null);
  assert.equal(learned(undefined), null);
});

test("what a run is made of; what is unknown is left out", () => {
  const files = { parent: "dspo/old.safetensors", lora: "dspo/a.safetensors" };
  const all = { set: "cats", preset: "Gentle", base: "dream", ...files };
  assert.deepEqual(
    factsOf(all).map(({ key, name }) => [t(key), name]),
    [
      ["Set", "cats"],
      ["Preset", "Gentle"],
      ["Model", "dream"],
      ["Builds on", "old"],
      ["LoRA", "a"],
    ],
  );
  assert.deepEqual(
    factsOf(all).filter(({ copy }) => copy).map(({ value }) => value),
    ["dspo/a.safetensors"],
  );
  const two = "styles\\ink v1.safetensors, dspo/x/my taste-01.safetensors";
  assert.deepEqual(
    factsOf({ set: "my/cats.v2", parent: two }).map(({ name }) => name),
    ["my/cats.v2", "ink v1, my taste-01"],
  );
  assert.deepEqual(factsOf({ set: "cats", preset: null, base: null, parent: null, lora: null }).length, 1);
});

test("the step of a preview's file", () => {
  assert.deepEqual(["step-000050.png", "step-1234567.png", "x.png"].map(stepOf), [50, 1234567, 0]);
});

test("a test's name for a LoRA and the file it means", () => {
  assert.ok(isOf("dspo/my-taste-01.safetensors", "dspo/my-taste-01.safetensors"));
  assert.ok(isOf("my-taste-01", "dspo\\my-taste-01.safetensors"));
  assert.ok(!isOf("my-taste-1", "dspo/my-taste-01.safetensors"));
  assert.ok(!isOf("", "dspo/my-taste-01.safetensors") && !isOf(undefined, "a"));
});
