/** What is special about blind tests. */

/** The key of node.properties for the node's latest test; saved with the workflow. */
export const TEST = "dspo_blind";

/** Remember the test named in the node's own output, {dspo_blind: [name]}. */
export function remember(node, output) {
  const name = output?.[TEST]?.[0];
  if (name) (node.properties ??= {})[TEST] = name;
}

/** The name of the node's own test if the server still lists it in `sets`, or null. */
export function testOf(node, sets) {
  const name = node.properties?.[TEST];
  return sets.some(({ place, set }) => place === "blind" && set === name) ? name : null;
}

/** May the winner be changed afterwards? Votes of a blind test are final. */
export const changeable = (place, { status }) => place !== "blind" && status === "counts";

/** Does the name that a test shows for its LoRA mean this file of ComfyUI's list? The one may lack folder and suffix. */
export function isOf(shown, lora) {
  const stem = (name) => name.replaceAll("\\", "/").split("/").at(-1).replace(/\.safetensors$/, "");
  return Boolean(shown) && stem(shown) === stem(lora);
}
