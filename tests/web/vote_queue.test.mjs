import assert from "node:assert/strict";
import { test } from "node:test";
import { storedEntries, VoteQueue } from "../../web/core/vote_queue.js";

const entry = (id, extra = {}) => ({ id, path: "vote", body: { client: "me" }, at: Number(id), ...extra });
const refusal = (message) => Object.assign(new Error(message), { permanent: true });

/** localStorage by hand. */
function storage(content = {}) {
  const map = new Map(Object.entries(content));
  return {
    get length() {
      return map.size;
    },
    key: (n) => [...map.keys()][n] ?? null,
    getItem: (key) => map.get(key) ?? null,
    setItem: (key, value) => map.set(key, value),
    removeItem: (key) => map.delete(key),
  };
}

/** A queue whose server answers as `script` says, one item for each attempt: an Error is thrown, else returned. */
function queueOf(script, kept = storage(), { wait = async () => {} } = {}) {
  const sent = [];
  const pauses = [];
  const queue = new VoteQueue({
    store: storedEntries(kept, ["me"], () => 1_000_000),
    send: async ({ id }) => {
      sent.push(id);
      const answer = script.length ? script.shift() : { ok: id };
      if (answer instanceof Error) throw answer;
      return answer;
    },
    wait: (ms) => (pauses.push(ms), wait(ms)),
  });
  return { queue, sent, pauses, kept };
}

test("entries are sent one at a time, in order, and forgotten once answered", async () => {
  const { queue, sent, kept } = queueOf([]);
  const answers = ["1", "2", "3"].map((id) => queue.add(entry(id)));
  assert.equal(kept.length, 3);
  assert.deepEqual(await Promise.all(answers), [{ ok: "1" }, { ok: "2" }, { ok: "3" }]);
  assert.deepEqual(sent, ["1", "2", "3"]);
  assert.equal(kept.length, 0);
  assert.equal(queue.pending().length, 0);
});

test("what does not reach the server is sent again under the same id, after growing pauses", async () => {
  const { queue, sent, pauses } = queueOf([new Error("offline"), new Error("offline"), { ok: 1 }]);
  const later = queue.add(entry("2"));
  assert.deepEqual(await later, { ok: 1 });
  assert.deepEqual(sent, ["2", "2", "2"]);
  assert.deepEqual(pauses, [500, 1000]);
  assert.equal(queue.waiting, false);
});

test("pauses stop growing at a quarter of a minute", async () => {
  const { queue, pauses } = queueOf(Array.from({ length: 8 }, () => new Error("offline")));
  await queue.add(entry("1"));
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
});

test("a refused entry leaves the line, is kept and does not hold up the next", async () => {
  const { queue, kept } = queueOf([refusal("no such pair")]);
  const first = queue.add(entry("1"));
  const second = queue.add(entry("2"));
  await assert.rejects(first, /no such pair/);
  assert.deepEqual(await second, { ok: "2" });
  assert.deepEqual(
    queue.failed.map(({ id, refused }) => [id, refused]),
    [["1", "no such pair"]],
  );
  assert.equal(kept.length, 1);
  queue.discard("1");
  assert.equal(kept.length, 0);
  assert.equal(queue.failed.length, 0);
});

test("a refused entry can be tried again", async () => {
  const { queue, sent, kept } = queueOf([refusal("busy"), { ok: "now" }]);
  await assert.rejects(queue.add(entry("1")));
  assert.deepEqual(await queue.retry("1"), { ok: "now" });
  assert.deepEqual(sent, ["1", "1"]);
  assert.equal(kept.length, 0);
});

test("a new page sends what the old one could not, oldest first, and shows what was refused", async () => {
  const kept = storage();
  const store = storedEntries(kept, ["me"], () => 0);
  for (const each of [entry("7"), entry("5"), entry("6", { refused: "gone" })]) store.save(each);
  const { queue, sent } = queueOf([], kept);
  queue.resume();
  await queue.idle();
  assert.deepEqual(sent, ["5", "7"]);
  assert.deepEqual(
    queue.failed.map(({ id }) => id),
    ["6"],
  );
});

test("another tab's entries are taken up only after a minute", () => {
  const kept = storage();
  const of = (id, client, at) => entry(id, { body: { client }, at });
  const store = storedEntries(kept, ["me"], () => 100_000);
  for (const each of [of("1", "me", 99_000), of("2", "them", 50_000), of("3", "them", 39_999)]) store.save(each);
  assert.deepEqual(
    store
      .load()
      .map(({ id }) => id)
      .sort(),
    ["1", "3"],
  );
});

test("foreign and broken storage content is left alone", () => {
  const kept = storage({ "Comfy.Locale": "en", "dspo-studio.vote.x": "{cut sh", "dspo-studio.client": "me" });
  assert.deepEqual(storedEntries(kept, ["me"], () => 0).load(), []);
  assert.equal(kept.length, 3);
});

test("a full storage does not lose a vote of the living page", async () => {
  const full = storage();
  full.setItem = () => {
    throw new Error("QuotaExceededError");
  };
  const { queue } = queueOf([], full);
  assert.deepEqual(await queue.add(entry("1")), { ok: "1" });
});

test("kick ends the pause", async () => {
  const { queue, sent } = queueOf([new Error("offline")], storage(), { wait: () => new Promise(() => {}) });
  const answer = queue.add(entry("1"));
  while (!queue.waiting) await new Promise(setImmediate);
  assert.deepEqual(sent, ["1"]);
  queue.kick();
  assert.deepEqual(await answer, { ok: "1" });
});

test("idle waits for what is added while it waits", async () => {
  const { queue, sent } = queueOf([]);
  queue.add(entry("1")).then(() => queue.add(entry("2")));
  await queue.idle();
  assert.deepEqual(sent, ["1", "2"]);
});

test("a set that cannot be written holds up no other, and its vote can be discarded after three attempts", async () => {
  const kept = storage();
  const sent = [];
  const queue = new VoteQueue({
    store: storedEntries(kept, ["me"], () => 0),
    send: async ({ id, body }) => {
      sent.push(id);
      if (body.set === "full") throw new Error("HTTP 500");
      return { ok: id };
    },
    wait: () => new Promise(setImmediate),
  });
  const of = (id, set) => entry(id, { body: { client: "me", place: "sets", set } });
  const stuck = queue.add(of("1", "full"));
  assert.deepEqual(await queue.add(of("2", "fine")), { ok: "2" });
  await queue.idle({ place: "sets", set: "fine" });
  assert.ok(queue.waiting);
  while (!queue.stuck.length) await new Promise(setImmediate);
  assert.deepEqual(
    queue.stuck.map(({ entry, reason }) => [entry.id, reason]),
    [["1", "HTTP 500"]],
  );
  assert.equal(sent.filter((id) => id === "1").length, 3);
  queue.discard("1");
  await assert.rejects(stuck, { discarded: true });
  await queue.idle();
  assert.deepEqual([queue.pending().length, queue.waiting, kept.length, queue.failed.length], [0, false, 0, 0]);
});

test("the votes of this tab's earlier pages are taken up at once", () => {
  const store = storedEntries(storage(), ["before", "now"], () => 0);
  store.save(entry("1", { body: { client: "before" }, at: 0 }));
  store.save(entry("2", { body: { client: "other" }, at: 0 }));
  assert.deepEqual(
    store.load().map(({ id }) => id),
    ["1"],
  );
});
