import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { advance, loopOf, loraCalled, nextName, nodesOf, setValue, sizeFor, trains, valueOf, withCheckpoint } from "../../web/core/loop.js";
import { pngText } from "../../web/core/png_text.js";

const node = (type, values = {}, more = {}) => ({
  type,
  widgets: Object.entries(values).map(([name, value]) => ({ name, value })),
  inputs: [],
  ...more,
});

function graph(set = "my-taste") {
  const candidates = node("DSPOCandidates", { round: 1, lora_name: "none" });
  const train = node("DSPOTrainLora", { name: "my-taste", refine_lora: "none" });
  const collect = node("DSPOCollectPairs", { set, train_after: 50 }, { inputs: [{ name: "images" }] });
  collect.getInputNode = () => candidates;
  collect.getOutputNodes = () => [node("PreviewImage"), train];
  return { nodes: [collect, candidates, train], candidates, train, collect };
}

test("the loop of a graph is what is wired to Collect Pairs", () => {
  const first = graph();
  const other = graph("another");
  const both = { nodes: [...first.nodes, ...other.nodes] };
  assert.equal(loopOf(both).collect, first.collect);
  assert.deepEqual(
    ["collect", "candidates", "train"].map((part) => loopOf(both, "another")[part] === other[part]),
    [true, true, true],
  );
  assert.equal(loopOf(both, "no such set"), null);
  assert.equal(loopOf({ nodes: [first.collect, first.candidates].map((each) => ({ ...each, getOutputNodes: null })) }), null);
});

test("nodes in subgraphs are found", () => {
  const inner = graph();
  const outer = { _nodes: [{ type: "some-id", subgraph: { nodes: inner.nodes } }] };
  assert.equal(nodesOf(outer).length, 4);
  assert.equal(loopOf(outer).train, inner.train);
});

test("the next round draws with the LoRA and refines it, in a new set", () => {
  const loop = graph();
  assert.equal(advance(loop, "dspo/my-taste-01.safetensors", ["my-taste"]), "my-taste-2");
  assert.equal(valueOf(loop.candidates, "round"), 2);
  assert.equal(valueOf(loop.candidates, "lora_name"), "dspo/my-taste-01.safetensors");
  assert.equal(valueOf(loop.train, "refine_lora"), "dspo/my-taste-01.safetensors");
  assert.equal(valueOf(loop.train, "name"), "my-taste");
  assert.equal(advance(loop, "dspo/my-taste-02.safetensors", ["my-taste", "my-taste-2"]), "my-taste-3");
  assert.equal(valueOf(loop.candidates, "round"), 3);
});

test("a new set never takes the name of another", () => {
  assert.equal(nextName("a", []), "a-2");
  assert.equal(nextName("a-2", ["a-3", "a-4"]), "a-5");
  assert.equal(nextName("portraits 9", []), "portraits 9-2");
});

test("setting a widget calls what listens to it", () => {
  const heard = [];
  const one = node("X", { a: 1 });
  one.widgets[0].callback = (value) => heard.push(value);
  assert.equal(setValue(one, "a", 2), true);
  assert.equal(setValue(one, "b", 2), false);
  assert.deepEqual([valueOf(one, "a"), heard], [2, [2]]);
});

test("a run's number is not part of the node's name, and sizes go by the checkpoint", () => {
  const train = node("DSPOTrainLora", { name: "my-taste" });
  assert.equal(trains(train, "my-taste-02"), true);
  assert.equal(trains(train, "my-taste-x-02"), false);
  assert.deepEqual(["v1-5-pruned.safetensors", "noobaiXL.safetensors", "ponyDiffusionV6.ckpt"].map(sizeFor), [512, 1024, 1024]);
});

test("the workflow in a PNG file", () => {
  const chunk = (type, data) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(data.length);
    head.write(type, 4, "latin1");
    return Buffer.concat([head, data, Buffer.alloc(4)]);
  };
  const file = Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", Buffer.alloc(13)),
    chunk("tEXt", Buffer.from('prompt\0{"1": {}}')),
    chunk("tEXt", Buffer.from('workflow\0{"nodes": []}')),
    chunk("IDAT", deflateSync(Buffer.alloc(4))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
  assert.equal(pngText(new Uint8Array(file), "workflow"), '{"nodes": []}');
  assert.equal(pngText(new Uint8Array(file), "parameters"), null);
  assert.equal(pngText(new Uint8Array(file).subarray(0, 20), "workflow"), null);
});

test("a checkpoint of one's own replaces the template's", () => {
  const loader = { type: "CheckpointLoaderSimple", widgets_values: ["old"], properties: { models: [{}], other: 1 } };
  const workflow = { nodes: [loader, { type: "Note", widgets_values: ["text"] }] };
  assert.deepEqual(withCheckpoint(workflow, "mine").nodes, [
    { type: "CheckpointLoaderSimple", widgets_values: ["mine"], properties: { other: 1 } },
    { type: "Note", widgets_values: ["text"] },
  ]);
});

test("the LoRA of a blind test, by its name in the list, its file, or the last of its name", () => {
  const listed = ["a.safetensors", "dspo/a-01.safetensors", "dspo/a-02.safetensors", "dspo\\b-01.safetensors"];
  assert.equal(loraCalled("dspo/a-01.safetensors", listed), "dspo/a-01.safetensors");
  assert.equal(loraCalled("a-01", listed), "dspo/a-01.safetensors");
  assert.equal(loraCalled("a", listed), "dspo/a-02.safetensors");
  assert.equal(loraCalled("b-01", listed), "dspo\\b-01.safetensors");
  assert.equal(loraCalled("c", listed), undefined);
});
