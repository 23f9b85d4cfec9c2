/** The blind test of a LoRA: opened where there is one. */
import * as api from "../api.js";
import { isOf } from "../core/blind.js";
import { openResult } from "./result.js";
import { openVoting } from "./voting.js";

/** Vote on the newest test of the LoRA, or show its result if all is answered; without a test, call `none`. */
export async function openTestOf(lora, none) {
  const tests = (await api.sets()).sets.filter(({ place, progress }) => place === "blind" && progress?.total);
  for (const { set, progress } of tests) {
    const { names } = await api.result(set);
    if (!isOf(names.lora, lora)) continue;
    if (progress.open) openVoting("blind", set);
    else openResult(set);
    return;
  }
  none();
}
