import assert from "node:assert/strict";
import { test } from "node:test";
import { Prefetcher } from "../../web/core/prefetch.js";
import { Rate } from "../../web/core/rate.js";
import { VotingSession } from "../../web/core/session.js";
import { VoteQueue } from "../../web/core/vote_queue.js";

const question = (n) => ({ pair: `p${n}`, group: "g", prompt: `prompt ${n}`, left: `l${n}`, right: `r${n}` });
const settle = async () => {
  for (let n = 0; n < 20; n++) await new Promise(setImmediate);
};

/** A server of `total` pairs by the book: open ones in order, votes by id, undo of the newest vote. */
class Server {
  votes = [];
  asked = [];
  undos = []; // the votes that were named
  elsewhere = {}; // pair -> how a vote on it is answered
  gate = null; // a promise that votes wait for
  constructor(total, { opened = () => total } = {}) {
    this.total = total;
    this.opened = opened; // how many pairs can be asked after so many answers
  }
  progress() {
    const answered = this.votes.length;
    const count = (kind) => this.votes.filter(({ outcome }) => outcome === kind).length;
    return {
      answered,
      open: this.total - answered,
      total: this.total,
      wins: count("win"),
      ties: count("tie"),
      skips: count("skip"),
    };
  }
  next = async (count, skip) => {
    this.asked.push({ count, skip });
    const done = new Set([...skip, ...this.votes.map(({ pair }) => pair)]);
    const all = Array.from({ length: this.opened(this.votes.length) }, (_, n) => question(n + 1));
    return { questions: all.filter(({ pair }) => !done.has(pair)).slice(0, count), progress: this.progress() };
  };
  send = async ({ path, body }) => {
    await this.gate;
    if (path === "vote") {
      const status = this.elsewhere[body.pair];
      if (status) return { status, vote: null, progress: this.progress() };
      this.votes.push(body);
      return { status: "recorded", vote: body.id, progress: this.progress() };
    }
    this.undos.push(body.vote);
    const vote = body.vote ? this.votes.find(({ id }) => id === body.vote) : this.votes.at(-1);
    this.votes = this.votes.filter((each) => each !== vote);
    const shown = vote && question(Number(vote.pair.slice(1)));
    return { status: vote ? "undone" : "nothing", pair: vote?.pair, question: shown, progress: this.progress() };
  };
}

function sitting(server, { load = async () => ({}), looking } = {}) {
  const store = { load: () => [], save() {}, remove() {} };
  const queue = new VoteQueue({ store, send: server.send, wait: () => new Promise(setImmediate) });
  let id = 0;
  const session = new VotingSession({
    place: "sets",
    set: "s",
    client: "me",
    queue,
    prefetcher: new Prefetcher({ ask: server.next, load }),
    rate: new Rate(),
    now: () => 1000 * id,
    newId: () => String(++id),
    changed() {},
    looking,
  });
  return { session, queue };
}

test("after a vote the next pair is shown in the same turn, before the server has answered", async () => {
  const server = new Server(5);
  const { session } = sitting(server);
  await session.start();
  await settle();
  server.gate = new Promise(() => {});
  assert.equal(session.shown.question.pair, "p1");
  assert.equal(session.vote("left"), true);
  assert.equal(session.shown.question.pair, "p2");
  assert.equal(session.state, "asking");
  assert.deepEqual(session.counts, { answered: 1, total: 5, left: 4 });
  assert.equal(server.votes.length, 0);
});

test("what is chosen is what was shown", async () => {
  const server = new Server(4);
  const { session, queue } = sitting(server);
  await session.start();
  for (const kind of ["left", "right", "tie", "skip"]) {
    await settle();
    session.vote(kind);
  }
  await queue.idle();
  await settle();
  assert.deepEqual(
    server.votes.map(({ pair, outcome, winner }) => [pair, outcome, winner]),
    [
      ["p1", "win", "l1"],
      ["p2", "win", "r2"],
      ["p3", "tie", null],
      ["p4", "skip", null],
    ],
  );
  assert.equal(session.state, "done");
  assert.equal(session.vote("left"), false);
});

test("no pair is asked twice while its vote is on its way", async () => {
  const server = new Server(10);
  const { session } = sitting(server);
  await session.start();
  await settle();
  let open;
  server.gate = new Promise((done) => (open = done));
  const shown = [];
  for (let n = 0; n < 6; n++) {
    shown.push(session.shown.question.pair);
    session.vote("left");
    await settle();
  }
  assert.deepEqual(shown, ["p1", "p2", "p3", "p4", "p5", "p6"]);
  assert.ok(server.asked.at(-1).skip.includes("p1"));
  open();
});

test("undo waits for the votes before it and shows the pair again, the interrupted one after it", async () => {
  const server = new Server(5);
  const { session, queue } = sitting(server);
  await session.start();
  await settle();
  session.vote("left");
  await settle();
  let open;
  server.gate = new Promise((done) => (open = done));
  session.vote("right");
  const undone = session.undo();
  await settle();
  assert.equal(session.state, "loading");
  open();
  await undone;
  assert.equal(session.shown.question.pair, "p2");
  assert.deepEqual(session.counts, { answered: 1, total: 5, left: 4 });
  await settle();
  session.vote("tie");
  assert.equal(session.shown.question.pair, "p3");
  await queue.idle();
  assert.deepEqual(
    server.votes.map(({ pair, outcome }) => [pair, outcome]),
    [
      ["p1", "win"],
      ["p2", "tie"],
    ],
  );
});

test("undo with nothing to take back leaves the shown pair", async () => {
  const { session } = sitting(new Server(2));
  await session.start();
  await session.undo();
  assert.equal(session.last.kind, "nothing");
  assert.equal(session.shown.question.pair, "p1");
});

test("undo from the end goes back to asking", async () => {
  const server = new Server(1);
  const { session, queue } = sitting(server);
  await session.start();
  session.vote("left");
  await queue.idle();
  await settle();
  assert.equal(session.state, "done");
  await session.undo();
  assert.equal(session.state, "asking");
  assert.equal(session.shown.question.pair, "p1");
});

test("a round that opens only after the last vote has arrived is not taken for the end", async () => {
  const server = new Server(4, { opened: (answers) => (answers >= 2 ? 4 : 2) });
  const { session, queue } = sitting(server);
  await session.start();
  await settle();
  session.vote("left");
  await settle();
  session.vote("left");
  await queue.idle();
  await settle();
  assert.equal(session.state, "asking");
  assert.equal(session.shown.question.pair, "p3");
});

test("a pair whose images did not load is passed over without a vote, and comes again when asked for", async () => {
  const server = new Server(2);
  const broken = new Set(["p1"]);
  const { session, queue } = sitting(server, { load: async ({ pair }) => ({ broken: broken.has(pair) }) });
  await session.start();
  assert.equal(session.vote("left"), false);
  assert.equal(session.vote("skip"), true);
  await settle();
  assert.equal(session.shown.question.pair, "p2");
  assert.equal(session.passed, 1);
  session.vote("tie");
  await queue.idle();
  await settle();
  assert.equal(session.state, "done");
  assert.deepEqual(
    server.votes.map(({ pair }) => pair),
    ["p2"],
  );
  broken.clear();
  await session.retry();
  assert.deepEqual([session.state, session.shown.question.pair, session.passed], ["asking", "p1", 0]);
});

test("images that did not load are loaded again on request", async () => {
  let works = false;
  const { session } = sitting(new Server(1), { load: async () => ({ broken: !works }) });
  await session.start();
  works = true;
  await session.reload();
  assert.equal(session.shown.images.broken, false);
  assert.equal(session.vote("left"), true);
});

test("a vote on a pair judged elsewhere is said, and undo does not take an older one back for it", async () => {
  for (const status of ["already", "gone"]) {
    const server = new Server(5);
    const { session, queue } = sitting(server);
    await session.start();
    await settle();
    session.vote("left");
    await queue.idle();
    server.elsewhere.p2 = status;
    session.vote("right");
    await queue.idle();
    await settle();
    assert.equal(session.last.kind, status);
    await session.undo();
    assert.equal(session.last.kind, "unrecorded");
    assert.deepEqual(
      server.votes.map(({ pair }) => pair),
      ["p1"],
    );
    assert.deepEqual(server.undos, []);
    await session.undo();
    assert.deepEqual([server.votes.length, server.undos.length, session.shown.question.pair], [0, 1, "p1"]);
  }
});

test("undo names the votes of this sitting; before them it asks without a name and shows what comes back", async () => {
  const server = new Server(5);
  server.votes.push({ id: "earlier", pair: "p1", outcome: "tie" });
  const { session, queue } = sitting(server);
  await session.start();
  await settle();
  assert.equal(session.shown.question.pair, "p2");
  session.vote("left");
  await queue.idle();
  const [, { id }] = server.votes;
  await session.undo();
  await session.undo();
  assert.deepEqual(server.undos, [id, undefined]);
  assert.equal(session.shown.question.pair, "p1");
});

test("a pair judged in another tab leaves what is held; the shown one stays while it is looked at", async () => {
  let looking = true;
  const server = new Server(6);
  const { session } = sitting(server, { looking: () => looking });
  await session.start();
  await settle();
  session.elsewhere("p2", null);
  assert.equal(session.last, null);
  session.elsewhere("p1", null);
  assert.deepEqual([session.shown.question.pair, session.last.kind], ["p1", "elsewhere"]);
  server.elsewhere.p1 = "already";
  session.vote("left");
  await settle();
  assert.deepEqual([session.shown.question.pair, session.last.kind], ["p3", "already"]);
  looking = false;
  session.elsewhere("p3", null);
  await settle();
  assert.notEqual(session.shown.question.pair, "p3");
});

test("however often one goes back, six pairs are held at most", async () => {
  const server = new Server(40);
  const prefetcher = new Prefetcher({ ask: server.next, load: async ({ pair }) => ({ pair }) });
  await prefetcher.fill();
  for (let n = 40; n > 20; n--) prefetcher.putBack(question(n), {});
  assert.equal(prefetcher.skip.length, 6);
  assert.equal(prefetcher.takeReady().question.pair, "p21");
});

test("a server that does not answer is said, and asked again", async () => {
  const server = new Server(2);
  const working = server.next;
  const { session } = sitting({
    ...server,
    send: server.send,
    next: (...all) => (broken ? Promise.reject(new Error("offline")) : working(...all)),
  });
  let broken = true;
  await session.start();
  assert.equal(session.state, "error");
  broken = false;
  await session.retry();
  assert.equal(session.state, "asking");
});

test("the prefetcher holds three pairs ahead and asks no more than it needs", async () => {
  const server = new Server(50);
  const prefetcher = new Prefetcher({ ask: server.next, load: async () => ({}) });
  await prefetcher.fill();
  await settle();
  assert.deepEqual(
    server.asked.map(({ count }) => count),
    [4],
  );
  assert.equal(prefetcher.skip.length, 4);
  assert.equal(prefetcher.takeReady().question.pair, "p1");
  assert.equal(prefetcher.takeReady().question.pair, "p2");
  await settle();
  assert.ok(prefetcher.skip.length >= 5);
});
