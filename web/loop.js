/** The loop as buttons: each opens or sets the workflow, queues it, and leads on to voting. */
import { app } from "../../scripts/app.js";
import * as api from "./api.js";
import {
  advance,
  loopOf,
  loraCalled,
  nextName,
  nodesOf,
  plain,
  setValue,
  sizeFor,
  trains,
  typeOf,
  valueOf,
  withCheckpoint,
} from "./core/loop.js";
import { pngText } from "./core/png_text.js";
import { t, told } from "./texts.js";
import { notice } from "./ui/notice.js";
import { openVoting } from "./ui/voting.js";

const PLAYGROUND = "0 The loop on the playground";
const LOOP = "1 The loop";
const FOLDER = "2 Train from a folder of pairs";

const FRESH = "-fresh"; // of a run's name: the set of the clicks that it asks for between rounds

let awaited = null; // the set whose candidates a button asked for: its voting opens by itself

const inform = (detail) =>
  app.extensionManager?.toast?.add({ severity: "info", summary: "DSPO Studio", detail, life: 6000 });

const graph = () => app.rootGraph ?? app.graph;

/** ComfyUI's list of checkpoint names. */
export const checkpoints = () => api.checkpoints();

/** Draw candidates with the model that comes with the pack, and vote. */
export async function startPlayground() {
  const rows = await ofSets();
  await open(PLAYGROUND);
  const { collect } = loopOf(graph());
  const own = plain(valueOf(collect, "set"));
  const known = rows.find(({ set }) => set === own);
  if (known && !known.progress?.open) setValue(collect, "set", nextName(own, names(rows)));
  return draw(collect);
}

/** Draw candidates with a checkpoint, and vote. */
export async function startWith(checkpoint) {
  const taken = names(await ofSets());
  await open(LOOP, (workflow) => withCheckpoint(workflow, checkpoint));
  for (const node of nodesOf(graph())) {
    if (!typeOf(node).startsWith("DSPO")) continue;
    for (const side of ["width", "height"]) setValue(node, side, sizeFor(checkpoint));
  }
  const { collect } = loopOf(graph());
  const own = plain(valueOf(collect, "set"));
  if (taken.includes(own)) setValue(collect, "set", nextName(own, taken));
  return draw(collect);
}

/** What can be done after the last vote: [{key, label, act}]; `act()` closes nothing and returns a promise. */
export function nextSteps(place, set) {
  if (place === "sets" && set.endsWith(FRESH))
    return [{ key: "goOn", label: t("goOn"), act: () => said(goOnAfter(set)) }];
  if (place === "sets") return [{ key: "train", label: t("trainNow"), act: () => said(trainOn(set)) }];
  return [{ key: "next", label: t("nextRound"), act: () => said(nextRoundAfter(set)) }];
}

/** Go on with the run whose fresh clicks the set holds; where there is no such run, it is a set like others. */
async function goOnAfter(set) {
  const run = (await api.runs()).runs.find((row) => row.run + FRESH === set);
  return run ? resume(run) : trainOn(set);
}

/** Draw with a LoRA, new seeds and a new set, and refine it: in the open graph, or in a workflow opened for it. */
export async function nextRound(loraName) {
  const rows = await ofSets();
  const run = loopOf(graph()) ? null : await runOf(loraName);
  if (!loopOf(graph()) && !(run?.set && (await openOwn(run.set, rows)))) await open(LOOP);
  awaited = advance(loopOf(graph()), loraName, names(rows));
  return queue();
}

/** Queue a run's workflow again: the open graph if it is the run's, or the one kept with the run or its images. */
export async function resume(run) {
  const train = () => nodesOf(graph()).find((node) => typeOf(node) === "DSPOTrainLora" && trains(node, run.run));
  const kept = train() ? null : await api.workflowOf(run.run);
  if (kept) await app.loadGraphData(kept, true, true, run.run);
  if (!train() && !(run.set && (await openOwn(run.set, await ofSets())) && train())) return inform(t("noWorkflow"));
  return queue();
}

/** A notice for what was collected, or the voting itself where a button asked for it. */
export function collected({ set, added, open: waiting, votes, train_after: wanted }) {
  if (awaited === set && waiting > 0) return vote(set);
  const few = votes < Math.max(1, wanted);
  const text =
    added > 0 ? t(added === 1 ? "collectedOne" : "collected", { added, set }) : few && t("tooFew", { votes, wanted, set });
  if (!text) return;
  if (waiting > 0 && !document.querySelector("dialog.dspo[open]"))
    notice(text, t("voteNow"), () => openVoting("sets", set), t("later"));
  else inform(text);
}

/** A graph has run: where all was cached, nothing is reported as collected. */
export async function finished() {
  if (awaited === null) return;
  const row = (await ofSets()).find(({ set }) => set === awaited);
  if (row?.progress?.open) vote(row.set);
}

/** A graph has failed or was cancelled. */
export const failed = () => (awaited = null);

function vote(set) {
  awaited = null;
  openVoting("sets", set);
}

/** Train on a set with the votes there are; with none there is nothing to train on. */
async function trainOn(set) {
  const rows = await ofSets();
  const row = rows.find((each) => each.set === set);
  if (!loopOf(graph(), set) && !(await openOwn(set, rows))) {
    await open(FOLDER);
    for (const node of nodesOf(graph())) setValue(node, "dataset", set);
    return; // the checkpoint is the person's to choose
  }
  const { collect } = loopOf(graph(), set) ?? loopOf(graph());
  setValue(collect, "set", set);
  const votes = row?.progress?.wins ?? 0;
  if (votes && votes < valueOf(collect, "train_after")) setValue(collect, "train_after", votes);
  return queue();
}

async function nextRoundAfter(test) {
  const { names: called } = await api.result(test);
  const lora = loraCalled(called.lora, await api.loras());
  return lora ? nextRound(lora) : inform(t("noLora", { name: called.lora }));
}

const draw = (collect) => {
  awaited = plain(valueOf(collect, "set"));
  inform(t("drawing"));
  return queue();
};

const queue = () => app.queuePrompt(0, 1);

/** Open a workflow of the pack; the person's own stays open in its tab. */
const open = async (name, changed = (workflow) => workflow) =>
  app.loadGraphData(changed(await api.template(name)), true, true, name);

/** Open the workflow that a set's images carry; false if they carry none with a loop in it. */
async function openOwn(set, rows) {
  const image = await imageOf(set, rows);
  const text = image && pngText(await api.imageBytes("sets", set, image), "workflow");
  if (!text) return false;
  const workflow = JSON.parse(text);
  if (!text.includes('"DSPOCollectPairs"') || !text.includes('"DSPOTrainLora"')) return false;
  await app.loadGraphData(workflow, true, true, set);
  return Boolean(loopOf(graph()));
}

async function imageOf(set, rows) {
  const row = rows.find((each) => each.set === set);
  if (row?.thumbnails?.length) return row.thumbnails[0];
  const { votes } = await api.history("sets", set, 0, 1);
  return votes[0]?.images[0] ?? null;
}

const ofSets = async () => (await api.sets()).sets.filter(({ place }) => place === "sets");
const names = (rows) => rows.map(({ set }) => set);
const runOf = async (lora) => (await api.runs()).runs.find((run) => run.lora === lora);

/** Report an error of a button in words. */
async function said(work) {
  try {
    return await work;
  } catch (error) {
    inform(told(error));
  }
}
