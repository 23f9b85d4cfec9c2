/** The loop in a graph: which nodes it is made of, and what the next round's values are. */

const CANDIDATES = "DSPOCandidates";
const COLLECT = "DSPOCollectPairs";
const TRAIN = "DSPOTrainLora";

/** Checkpoints whose images are 1024 pixels wide; others' are 512. */
const LARGE = /xl|pony|illustrious|noob|animagine|flux|sd_?3|sd-?3|z[-_]?image/i;

/** Every node of a graph, those in subgraphs too. */
export function nodesOf(graph) {
  return (graph?._nodes ?? graph?.nodes ?? []).flatMap((node) => [node, ...(node.subgraph ? nodesOf(node.subgraph) : [])]);
}

export const typeOf = (node) => node.comfyClass ?? node.type;

export const valueOf = (node, name) => node.widgets?.find((widget) => widget.name === name)?.value;

/** Set a widget as a person would; false if the node has none of that name. */
export function setValue(node, name, value) {
  const widget = node?.widgets?.find((each) => each.name === name);
  if (!widget) return false;
  widget.value = value;
  widget.callback?.(value);
  return true;
}

/** The loop in a graph, {candidates, collect, train}, that fills `set`, or the first of any set; null without one. */
export function loopOf(graph, set) {
  const nodes = nodesOf(graph);
  const found = nodes
    .filter((node) => typeOf(node) === COLLECT && (set == null || plain(valueOf(node, "set")) === set))
    .map((collect) => ({ collect, candidates: source(nodes, collect), train: target(nodes, collect) }));
  return found.find(({ candidates, train }) => candidates && train) ?? null;
}

export const plain = (set) => String(set ?? "").trim().replaceAll("\\", "/");

const linked = (found, nodes, type) =>
  typeOf(found ?? {}) === type ? found : (nodes.find((node) => typeOf(node) === type) ?? null);

const source = (nodes, collect) => {
  const slot = (collect.inputs ?? []).findIndex(({ name }) => name === "images");
  return linked(slot >= 0 ? collect.getInputNode?.(slot) : null, nodes, CANDIDATES);
};

const target = (nodes, collect) =>
  linked((collect.getOutputNodes?.(0) ?? []).find((node) => typeOf(node) === TRAIN), nodes, TRAIN);

/** The next name that is not taken: my-taste, my-taste-2, my-taste-3. */
export function nextName(name, taken) {
  const [, stem, number] = /^(.*?)(?:-(\d+))?$/s.exec(name);
  let next = Number(number ?? 1) + 1;
  while (taken.includes(`${stem}-${next}`)) next += 1;
  return `${stem}-${next}`;
}

/** Set the loop's values to those of its next round, which draws with a LoRA and refines it; the new set's name. */
export function advance({ candidates, collect, train }, lora, taken) {
  const set = nextName(plain(valueOf(collect, "set")), taken);
  setValue(candidates, "round", Number(valueOf(candidates, "round") ?? 1) + 1);
  setValue(candidates, "lora_name", lora);
  setValue(collect, "set", set);
  setValue(train, "refine_lora", lora);
  return set;
}

/** Do the values of a Train LoRA node name this run, such as my-taste-02? */
export const trains = (train, run) => run.replace(/-\d+$/, "") === plain(valueOf(train, "name"));

export const sizeFor = (checkpoint) => (LARGE.test(checkpoint) ? 1024 : 512);

/** A saved workflow with another checkpoint; without the address of its own, for which the page would ask. */
export function withCheckpoint(workflow, checkpoint) {
  for (const node of workflow.nodes.filter(({ type }) => type === "CheckpointLoaderSimple")) {
    node.widgets_values = [checkpoint];
    delete node.properties?.models;
  }
  return workflow;
}

/** The LoRA that a blind test's name for it means, of those ComfyUI lists: its name, its file, or the last of a name. */
export function loraCalled(called, listed) {
  const parts = (name) => name.replaceAll("\\", "/").split("/");
  const stem = (name) => parts(name).at(-1).replace(/\.safetensors$/, "");
  const ours = listed.filter((name) => parts(name)[0] === "dspo").sort();
  return (
    listed.find((name) => parts(name).join("/") === called) ??
    ours.find((name) => stem(name) === stem(called)) ??
    ours.filter((name) => stem(name).replace(/-\d+$/, "") === stem(called)).at(-1)
  );
}
