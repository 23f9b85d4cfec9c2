/**
 * A run as the page knows it: its row from GET /dspo/runs and from events, and its reports by step. What is said of it
 * is {key, values} of a text; a value may be such a text itself.
 */
import { wholePercent } from "./format.js";

export const CHARTS = [
  { title: "margin", zero: true, series: [{ key: "margin", held: "held_out_margin", name: "training" }] },
  { title: "accuracy", range: [0, 1], series: [{ key: "accuracy", held: "held_out_accuracy", name: "training" }] },
  {
    title: "errors",
    zero: true,
    series: [
      { key: "winner_change", held: "held_out_winner_change", name: "winner" },
      { key: "loser_change", held: "held_out_loser_change", name: "loser" },
    ],
  },
];

const NO_MEMORY = "not enough memory"; // as the server records it

const said = (key, values = {}) => ({ key, values });

/** The text of {key, values} by `t`. */
export function worded(t, { key, values }) {
  const filled = Object.entries(values).map(([name, value]) => [name, value?.key ? worded(t, value) : value]);
  return t(key, Object.fromEntries(filled));
}

/** One plain sentence on what the run does, or how it ended. */
export function sentenceOf(row) {
  return row.round ? sentenceOfRound(row) : sentenceOfSteps(row);
}

/** `round`: {number, asked, going, set, open}; of the round that is `going`, the steps are told as the run's. */
function sentenceOfRound(row) {
  const { state, lora, round } = row;
  const { number, asked, going, set, open } = round;
  if (going) return said("runRound", { round: number, going: sentenceOfSteps(row) });
  if (state === "running") return said("runRoundDraws", { round: number });
  if (state === "finished" && lora) return said("runFinishedRounds", { name: nameOf(lora), round: number, asked });
  if (state !== "stopped") return sentenceOfSteps(row);
  if (open) return said(open === 1 ? "runRoundAsksOne" : "runRoundAsks", { open, set });
  return said("runRoundStopped", { round: number });
}

function sentenceOfSteps(row) {
  const { state, run, lora, objective, early, step } = row;
  const steps = row.steps ?? "?";
  if (state === "running") return goingOf(row);
  if (state === "failed") return failureOf(row);
  if (state === "crashed") return crashOf(row);
  if (state !== "finished") return step > 0 ? said("runStopped", { step, steps }) : said("runNotBegun");
  if (!lora) return said("runUndelivered");
  const name = run;
  return early ? said("runFinishedEarly", { name, step, steps }) : said("runFinished", { name, steps, objective });
}

function goingOf({ step, steps, seconds_left: left }) {
  if (!step) return said("runPreparing");
  if (step >= steps) return said("runSaving");
  if (!Number.isFinite(left)) return said("runGoingOnly", { step, steps: steps ?? "?" });
  return said("runGoing", { step, steps, left: timeLeft(left) });
}

function failureOf({ step, reason }) {
  const [, at, rest] = (reason ?? "").match(/^(?:step (\d+): )?(.*?)[\s.]*$/s);
  const why = rest === NO_MEMORY ? said("noMemory") : rest;
  if (at) return said("runFailedAt", { step: at, reason: why });
  return step > 0 ? said("runFailed", { step, reason: why }) : said("runFailedFirst", { reason: why });
}

function crashOf({ step, resumes_from: from }) {
  if (!step) return said("runCrashedFirst");
  return from > 0 ? said("runCrashed", { step, from }) : said("runCrashedEarly", { step });
}

/** "about 2 minutes left". */
export function timeLeft(seconds) {
  if (seconds < 30) return said("leftSoon");
  const minutes = Math.round(seconds / 60);
  const [key, count] = minutes < 60 ? ["leftMinutes", minutes] : ["leftHours", Math.round(seconds / 3600)];
  return said(count === 1 ? `${key}One` : key, { count });
}

/** One plain sentence on how it goes, or null before the first step. */
export function learnedOf({ learned }) {
  if (Number.isFinite(learned?.pairs)) return said("learnedHeldOut", { right: learned.right, pairs: learned.pairs });
  if (!Number.isFinite(learned?.share)) return null;
  return said("learnedTraining", { share: wholePercent(learned.share) });
}

/** What the run is made of, as far as it is known: [{key, value, name}]; `copy` if it is to be used elsewhere. */
export function factsOf({ set, preset, base, parent, lora }) {
  const facts = [
    { key: "factSet", value: set },
    { key: "factPreset", value: preset },
    { key: "factBase", value: base },
    { key: "factParent", value: parent },
    { key: "factLora", value: lora, copy: true },
  ];
  return facts.filter(({ value }) => value).map((each) => ({ ...each, name: namesOf(each.value) }));
}

/** Names of LoRA files without folder and suffix; other names as they are. */
const namesOf = (value) => value.split(", ").map(nameOf).join(", ");
const nameOf = (each) => (each.endsWith(".safetensors") ? each.split(/[\\/]/).at(-1).slice(0, -12) : each);

/** What can be done, the best first. */
export function actionsOf({ state, lora, round }) {
  if (state === "running") return ["stop"];
  if (state === "stopped" && round?.open) return ["vote"];
  return state === "finished" && lora ? ["nextRound", "blindTest"] : ["resume"];
}

/** The step of a preview's file. */
export const stepOf = (file) => Number(file.match(/\d+/)?.[0] ?? 0);

/** Both lists merged by step; a later report of a step adds to the earlier one. */
export function merged(known, more) {
  const bySteps = new Map(known.map((report) => [report.step, report]));
  for (const report of more) bySteps.set(report.step, { ...bySteps.get(report.step), ...report });
  return [...bySteps.values()].sort((a, b) => a.step - b.step);
}

/** The last step before the first gap: everything after it is requested again. */
export function knownUpTo(reports) {
  let last = reports.length ? reports[0].step - 1 : 0;
  if (last > 0) return 0;
  for (const { step } of reports) {
    if (step !== last + 1) break;
    last = step;
  }
  return last;
}

/** Points of one key, in order. */
export function pointsOf(reports, key) {
  return reports.filter((report) => key in report).map((report) => ({ x: report.step, y: report[key] }));
}
