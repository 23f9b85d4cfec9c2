/** The button on DSPO Collect Pairs: it opens the voting, and says how far that has come. */
import { app } from "../../scripts/app.js";
import * as api from "./api.js";
import { nodesOf, plain, typeOf, valueOf } from "./core/loop.js";
import { t, told } from "./texts.js";
import { openVoting } from "./ui/voting.js";

const BUTTON = "vote_now";
const known = new Map(); // set -> votes with a winner

/** Give a new node its button. */
export function addVoteButton(node, inform) {
  const widget = node.addWidget("button", BUTTON, null, () => voteOn(node, inform), { serialize: false });
  widget.serialize = false;
  for (const name of ["set", "train_after"]) {
    const input = node.widgets.find((each) => each.name === name);
    const { callback } = input ?? {};
    if (input) input.callback = (...values) => (callback?.apply(input, values), label(node));
  }
  label(node);
}

/** So many votes are in a set now. */
export function count(set, votes) {
  known.set(set, votes);
  nodes()
    .filter((node) => plain(valueOf(node, "set")) === set)
    .forEach(label);
}

/** Ask the server once how many votes there are, for a workflow that was opened. */
export async function countAll() {
  if (!nodes().length) return;
  const { sets } = await api.sets();
  for (const { place, set, progress } of sets) if (place === "sets" && progress) count(set, progress.wins);
}

const nodes = () => nodesOf(app.rootGraph ?? app.graph).filter((node) => typeOf(node) === "DSPOCollectPairs");

function label(node) {
  const widget = node.widgets.find(({ name }) => name === BUTTON);
  const votes = known.get(plain(valueOf(node, "set")));
  const wanted = valueOf(node, "train_after");
  const text = votes == null ? null : votes < wanted ? t("votesOf", { votes, wanted }) : t("votesIn", { votes });
  widget.label = text ? `${t("voteNow")} · ${text}` : t("voteNow");
  node.setDirtyCanvas?.(true, true);
}

async function voteOn(node, inform) {
  const set = plain(valueOf(node, "set"));
  try {
    const { sets } = await api.sets();
    const there = sets.some((each) => each.place === "sets" && each.set === set && each.progress);
    if (there) openVoting("sets", set);
    else inform(t("notCollected", { set }));
  } catch (error) {
    inform(told(error));
  }
}
