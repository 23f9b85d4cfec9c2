import assert from "node:assert/strict";
import { test } from "node:test";
import { actionOf } from "../../web/core/keymap.js";
import { spanIn, stacks, tiling } from "../../web/core/layout.js";
import { Marks } from "../../web/core/marks.js";
import { Prefetcher } from "../../web/core/prefetch.js";
import { Rate } from "../../web/core/rate.js";
import { VotingSession } from "../../web/core/session.js";
import { VoteQueue } from "../../web/core/vote_queue.js";

const settle = async () => {
  for (let n = 0; n < 20; n++) await new Promise(setImmediate);
};

/** A server of groups of four, by the book; `down` while it does not answer. */
class Server {
  judged = [];
  undos = [];
  down = false;
  constructor(groups) {
    this.groups = Array.from({ length: groups }, (_, n) => ({
      group: `g${n + 1}`,
      prompt: `prompt ${n + 1}`,
      images: ["a", "b", "c", "d"].map((name) => name + (n + 1)),
    }));
  }
  progress() {
    const done = this.judged.length;
    const total = this.groups.length;
    return { answered: 3 * done, open: 0, total: 6 * total, groups_answered: done, groups_total: total };
  }
  ask = async (grid, count, skip, find) => {
    if (this.down) throw new Error("offline");
    const done = new Set([...skip, ...this.judged.map(({ group }) => group)]);
    const open = this.groups.filter(({ group, prompt }) => !done.has(group) && prompt.includes(find));
    const pairs = open.map(({ group, prompt, images: [left, right] }) => ({ pair: `${group}.1.2`, group, prompt, left, right }));
    const questions = (grid ? open : pairs).filter((each) => !skip.includes(each.pair)).slice(0, count);
    return { questions, progress: this.progress() };
  };
  send = async ({ path, body }) => {
    if (path === "undo") {
      this.undos.push({ vote: body.vote, earlier: body.earlier });
      const last = this.judged.pop();
      const question = this.groups.find(({ group }) => group === last?.group) ?? null;
      const status = last ? "undone" : "nothing";
      return { status, pair: null, group: last?.group ?? null, question, progress: this.progress() };
    }
    this.judged.push({ path, group: body.group ?? body.pair.split(".")[0], ...body });
    return { status: "recorded", progress: this.progress() };
  };
}

function sitting(server, { grid = true, load = async () => ({}), ...more } = {}) {
  const store = { load: () => [], save() {}, remove() {} };
  const queue = new VoteQueue({ store, send: server.send, wait: () => new Promise(setImmediate) });
  const clock = { now: 0 };
  let id = 0;
  const session = new VotingSession({
    ...{ place: "sets", set: "s", client: "me", queue, rate: new Rate(), grid },
    prefetcher: new Prefetcher({ ask: (count, skip) => server.ask(session.grid, count, skip, session.find), load }),
    now: () => clock.now,
    newId: () => String(++id),
    changed() {},
    ...more,
  });
  return { session, queue, clock };
}

test("a choice on a grid is sent as it was made, and the next one is shown in the same turn", async () => {
  const server = new Server(5);
  const { session, queue, clock } = sitting(server);
  await session.start();
  await settle();
  const [a, b, , d] = session.shown.question.images;
  clock.now = 1500;
  assert.equal(session.judge({ best: [b], bad: [d] }), true);
  assert.equal(session.shown.question.group, "g2");
  assert.deepEqual(session.counts, { answered: 1, total: 5, left: 4 });
  session.judge({ best: [] });
  assert.equal(session.last.kind, "none");
  await settle();
  session.judge({ skip: true });
  await queue.idle();
  const sent = server.judged.map(({ path, group, best, bad, skip }) => [path, group, best, bad, skip]);
  assert.deepEqual(sent, [
    ["judge", "g1", [b], [d], false],
    ["judge", "g2", [], [], false],
    ["judge", "g3", [], [], true],
  ]);
  assert.equal(server.judged[0].seconds, 1.5);
  assert.equal(server.judged[0].images.length, 4);
  assert.ok(a);
});

test("what is said of each choice", async () => {
  const server = new Server(5);
  const { session } = sitting(server);
  await session.start();
  const kinds = [];
  for (const choose of [
    ([a]) => ({ best: [a] }),
    ([a, b]) => ({ best: [a, b] }),
    ([a]) => ({ bad: [a] }),
    (all) => ({ bad: all }),
  ]) {
    await settle();
    session.judge(choose(session.shown.question.images));
    kinds.push(session.last.kind);
  }
  assert.deepEqual(kinds, ["best", "ranked", "marked", "allBad"]);
  assert.equal(session.vote("left"), false, "a grid has no sides");
});

test("undo shows the grid again, the interrupted one after it", async () => {
  const server = new Server(4);
  const { session, queue } = sitting(server);
  await session.start();
  await settle();
  session.judge({ best: [session.shown.question.images[0]] });
  await queue.idle();
  await session.undo();
  assert.deepEqual([session.shown.question.group, server.judged.length], ["g1", 0]);
  session.judge({ best: [session.shown.question.images[1]] });
  assert.equal(session.shown.question.group, "g2");
});

test("with no vote of its own, a page asks for those of the pages that were closed", async () => {
  const server = new Server(3);
  server.judged.push({ group: "g1" });
  const { session } = sitting(server, { earlier: () => ["old", "older"] });
  await session.start();
  await session.undo();
  assert.deepEqual(server.undos, [{ vote: undefined, earlier: ["old", "older"] }]);
  assert.equal(session.shown.question.group, "g1");
});

test("no answer counts before the images are painted and a moment has passed", async () => {
  const server = new Server(3);
  const { session, clock } = sitting(server, { settle: 250 });
  await session.start();
  const choice = { best: [session.shown.question.images[0]] };
  clock.now = 10_000;
  assert.equal(session.judge(choice), false, "not painted");
  session.painted();
  clock.now += 249;
  assert.equal(session.judge(choice), false);
  assert.equal(session.last.kind, "early");
  clock.now += 1;
  assert.equal(session.judge(choice), true);
  await settle();
  assert.equal(session.judge({ best: [] }), false, "the next one has not been painted");
  assert.deepEqual([server.judged.length, server.judged[0].seconds], [1, 0.25]);
});

test("the view turns from grids to pairs and back, and nothing held of the one is shown in the other", async () => {
  const { session } = sitting(new Server(6));
  await session.start();
  await settle();
  await session.showGrid(false);
  assert.equal(session.shown.question.pair, "g1.1.2");
  await settle();
  assert.equal(session.vote("bad"), true);
  assert.ok(session.shown.question.pair);
  await settle();
  await session.showGrid(true);
  assert.deepEqual([session.shown.question.group, session.shown.question.pair], ["g2", undefined]);
});

test("only prompts that hold the text are asked about", async () => {
  const { session } = sitting(new Server(6));
  await session.start();
  await session.search("prompt 5");
  assert.equal(session.shown.question.group, "g5");
  await session.search("no such");
  assert.equal(session.state, "done");
  await session.search("");
  assert.equal(session.shown.question.group, "g1");
});

test("a group judged in another tab leaves what is held", async () => {
  const server = new Server(6);
  const { session } = sitting(server);
  await session.start();
  await settle();
  server.judged.push({ group: "g2" });
  session.elsewhere(null, null, "g2");
  session.judge({});
  assert.equal(session.shown.question.group, "g3");
  session.elsewhere(null, null, "g3");
  assert.deepEqual([session.shown.question.group, session.last.kind], ["g3", "elsewhere"]);
});

test("when the server answers again, the session goes on by itself, after longer and longer pauses", async () => {
  const server = new Server(2);
  const pauses = [];
  server.down = true;
  const wait = async (ms) => {
    pauses.push(ms);
    if (pauses.length === 5) server.down = false;
    await new Promise(setImmediate);
  };
  const { session } = sitting(server, { wait });
  const states = [];
  await session.start();
  states.push(session.state);
  await settle();
  await settle();
  assert.deepEqual([...states, session.state], ["error", "asking"]);
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 8000]);
});

test("a closed dialog asks no more", async () => {
  const server = new Server(2);
  server.down = true;
  let woken;
  const { session } = sitting(server, { wait: () => new Promise((done) => (woken = done)) });
  await session.start();
  session.close();
  server.down = false;
  woken();
  await settle();
  assert.equal(session.state, "error");
});

test("images that a server which was gone did not give are loaded again by themselves", async () => {
  let works = false;
  const wait = async () => {
    works = true;
  };
  const { session } = sitting(new Server(1), { wait, load: async () => ({ broken: !works }) });
  await session.start();
  await settle();
  assert.equal(session.shown.images.broken, false);
});

test("marks: ranks close up, and an image is ranked or bad, not both", () => {
  const marks = new Marks();
  for (const image of ["a", "b", "c"]) marks.rank(image);
  marks.rank("a");
  assert.deepEqual([marks.of("b").rank, marks.of("c").rank, marks.of("a").rank], [1, 2, 0]);
  marks.reject("b");
  assert.deepEqual([marks.best, marks.bad], [["c"], ["b"]]);
  marks.rank("b");
  assert.deepEqual([marks.best, marks.bad], [["c", "b"], []]);
  marks.reject("d");
  marks.reject("d");
  assert.equal(marks.of("d").bad, false);
  marks.clear();
  assert.equal(marks.any, false);
});

test("the columns in which images are largest", () => {
  const square = { width: 1, height: 1 };
  const wide = { width: 1600, height: 800 };
  const tall = { width: 400, height: 800 };
  const columns = (...given) => tiling(...given).columns;
  assert.equal(columns({ width: 1700, height: 800 }, square, 4, 0), 4, "425 in a row, 400 in two");
  assert.equal(columns(wide, square, 4, 0), 2, "400 either way: the fewest columns");
  assert.equal(columns({ width: 1000, height: 1000 }, square, 4, 0), 2);
  assert.equal(columns({ width: 1000, height: 1000 }, square, 9, 0), 3);
  assert.equal(columns(wide, square, 8, 0), 4);
  assert.equal(columns(tall, square, 3, 0), 1, "800 / 3 = 267 in a column, 200 in two");
  const portrait = { width: 2, height: 3 };
  assert.deepEqual(tiling({ width: 1000, height: 300 }, portrait, 4, 10), { columns: 4, width: 200, height: 300 });
  assert.deepEqual(spanIn(wide, square), { left: 400, width: 800 });
  assert.deepEqual(spanIn(tall, square), { left: 0, width: 400 });
  assert.ok(stacks(tall, square, 10) && !stacks(wide, square, 10));
});

test("keys of a grid, and of images that stack", () => {
  const grid = { Enter: "done", t: "tie", x: "allBad", r: "ranking", b: "markBad", z: "enlarge", ArrowUp: "focusUp", s: "skip" };
  for (const [key, action] of Object.entries(grid)) assert.equal(actionOf({ key }, "grid"), action, key);
  assert.equal(actionOf({ key: "3", code: "Digit3" }, "grid"), "pick3");
  assert.equal(actionOf({ key: "#", code: "Digit3", shiftKey: true }, "grid"), "rank3");
  assert.equal(actionOf({ key: "é", code: "Digit2" }, "grid"), "pick2", "a French keyboard");
  assert.equal(actionOf({ key: "0", code: "Digit0" }, "grid"), null);
  assert.equal(actionOf({ key: "1", code: "Digit1", repeat: true }, "grid"), null);
  assert.equal(actionOf({ key: "1", code: "Digit1" }, "pair"), null);
  const stacked = { ArrowUp: "left", ArrowDown: "right", ArrowLeft: null, t: "tie", b: "bad" };
  for (const [key, action] of Object.entries(stacked)) assert.equal(actionOf({ key }, "stacked"), action, key);
  assert.deepEqual(["b", "t", "c", "i", "v"].map((key) => actionOf({ key })), ["bad", "tie", "slider", "info", "view"]);
});
