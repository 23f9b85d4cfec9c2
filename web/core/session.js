import { isGrid, keyOf } from "./question.js";

const REMEMBERED = 3; // questions whose images are kept for undo
const FIRST_PAUSE_MS = 1000; // before a server that did not answer is asked again
const LONGEST_PAUSE_MS = 8000;

/**
 * One voting session: the question shown and the votes cast. No DOM; `changed` is called on every change.
 *
 * state: "loading", "asking" (a question is shown), "done" (every one is answered), "error" (no answer from the server).
 */
export class VotingSession {
  #queue;
  #prefetcher;
  #changed;
  #now;
  #newId;
  #seen = new Map(); // name of a question -> what was shown, the last few, for undo
  #given = []; // votes and ballots of this session, {id, answered: Promise of a status}, newest last
  #undoing = Promise.resolve(); // undos run one after another
  #passed = []; // questions passed over because images could not be loaded
  #shownAt = 0;
  #paintedAt = null; // nobody has seen it before
  #turn = 0; // a newer request for the next question cancels an older one
  #pause = FIRST_PAUSE_MS;
  state = "loading";
  shown = null; // {question, images}
  progress = null;
  last = null; // the last action, {kind}, worded by the texts said_*

  /**
   * `looking()`: is the page visible? A pair judged elsewhere is not replaced while someone looks at it.
   * `earlier()`: ids of the pages that this browser has closed. `settle`: milliseconds from when a question is painted
   * until an answer counts. `wait(ms)`: a promise; without it, nothing is tried again by itself.
   */
  constructor({ queue, prefetcher, now, newId, changed, ...options }) {
    const defaults = { grid: false, looking: () => true, earlier: () => [], settle: 0, wait: null };
    Object.assign(this, { ...defaults, ...options }); // place, set, client, rate, and what is named above
    this.find = "";
    this.#queue = queue;
    this.#prefetcher = prefetcher;
    this.#now = now;
    this.#newId = newId;
    this.#changed = changed;
    prefetcher.heard = (progress) => this.heard(progress);
  }

  /** Counts from the server, whoever voted. */
  heard(progress) {
    if (progress) this.progress = progress;
    this.#changed();
  }

  /** Another tab voted on a pair, or on a whole group where `pair` is null, or undid that. */
  elsewhere(pair, progress, group = null) {
    const same = (question) => (pair ? question.pair === pair : Boolean(group) && question.group === group);
    this.#prefetcher.drop(same);
    const shown = this.state === "asking" && same(this.shown.question);
    if (shown) this.last = { kind: "elsewhere" };
    this.heard(progress);
    if (!shown || this.looking()) return;
    this.#prefetcher.release(keyOf(this.shown.question));
    this.#advance();
  }

  /** Show whole groups, or pairs. */
  showGrid(grid) {
    this.grid = grid;
    return this.#anew();
  }

  /** Ask only about prompts that hold this text. */
  search(text) {
    this.find = text;
    return this.#anew();
  }

  #anew() {
    if (this.shown) this.#prefetcher.release(keyOf(this.shown.question));
    this.#prefetcher.reset();
    return this.#advance();
  }

  /** The question shown is on the screen. */
  painted() {
    this.#paintedAt ??= this.#now();
  }

  /** Nothing is tried again after this. */
  close() {
    this.#turn += 1;
    this.wait = null;
  }

  /** Number of questions passed over. */
  get passed() {
    return this.#passed.length;
  }

  #mine = ({ body }) => body.place === this.place && body.set === this.set;

  /** Votes on this set that the server has not yet confirmed. */
  get unsent() {
    return this.#queue.pending(this.#mine).length;
  }

  /** {answered, total, left} of pairs, or of groups, counting unsent votes as answered; null before the first answer. */
  get counts() {
    if (!this.progress) return null;
    const { answered, total } = this.grid
      ? { answered: this.progress.groups_answered, total: this.progress.groups_total }
      : this.progress;
    const votes = this.#queue.pending((entry) => this.#mine(entry) && entry.path !== "undo").length;
    const now = Math.min(total, answered + votes);
    return { answered: now, total, left: total - now };
  }

  start() {
    return this.#advance();
  }

  /** Vote "left", "right", "tie", "bad" or "skip" on the shown pair; false if there is nothing to vote on. */
  vote(kind) {
    const { question } = this.shown ?? {};
    if (isGrid(question)) return false;
    const winner = { left: question?.left, right: question?.right }[kind] ?? null;
    return this.#answer("vote", kind, () => ({
      pair: question.pair,
      outcome: winner ? "win" : kind,
      winner,
      relabel: false,
    }));
  }

  /**
   * Judge the shown group: `best` in order, `bad`; neither, if none is better; or skip it. False if there is none.
   * @param {{best?: string[], bad?: string[], skip?: boolean}} choice
   */
  judge({ best = [], bad = [], skip = false }) {
    const { question } = this.shown ?? {};
    if (!isGrid(question)) return false;
    const { group, images } = question;
    const all = bad.length === images.length;
    const kind = skip ? "skip" : best.length ? (best.length > 1 ? "ranked" : "best") : bad.length ? (all ? "allBad" : "marked") : "none";
    return this.#answer("judge", kind, () => ({ group, images, best, bad, skip }));
  }

  #answer(path, kind, bodyOf) {
    if (this.state !== "asking" || (this.shown.images.broken && kind !== "skip")) return false;
    if (this.shown.images.broken) return this.#passOver();
    if (this.#early) {
      this.last = { kind: "early" };
      this.#changed();
      return false;
    }
    this.#remember(this.shown);
    this.rate.note(this.#now());
    this.last = { kind };
    this.#send(path, this.shown.question, bodyOf());
    this.#advance();
    return true;
  }

  /** A key that was pressed before anybody could see the question is no answer to it. */
  get #early() {
    return this.settle > 0 && (this.#paintedAt === null || this.#now() - this.#paintedAt < this.settle);
  }

  #send(path, question, answer) {
    const since = this.#paintedAt ?? this.#shownAt;
    const body = { ...answer, seconds: Math.round((this.#now() - since) / 10) / 100 };
    const id = this.#newId();
    const answered = this.#enqueue(path, body, id).then(
      ({ status, progress }) => {
        this.#prefetcher.release(keyOf(question));
        if (status !== "recorded") this.last = { kind: status };
        this.heard(progress);
        return status;
      },
      (error) => {
        if (error?.discarded) this.#prefetcher.release(keyOf(question));
        this.#changed(); // refused: the queue keeps and shows it
        return "refused";
      },
    );
    this.#given.push({ id, answered });
  }

  /** What cannot be seen is not judged: nothing is sent, and it returns in the next session. */
  #passOver() {
    this.#passed.push(keyOf(this.shown.question));
    this.last = { kind: "passed" };
    this.#advance();
    return true;
  }

  #remember(shown) {
    const key = keyOf(shown.question);
    this.#seen.delete(key);
    this.#seen.set(key, shown);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.keys().next().value);
  }

  #enqueue(path, body, id = this.#newId()) {
    const whole = { place: this.place, set: this.set, client: this.client, id, ...body };
    return this.#queue.add({ id, path, body: whole, at: this.#now() });
  }

  /**
   * Take back the newest vote or ballot, once it has arrived, and show its question again. A vote that the server did not record
   * is not taken back, and no older one in its place.
   */
  async undo() {
    const turn = ++this.#turn;
    const interrupted = this.state === "asking" ? this.shown : null;
    this.#show("loading", null);
    this.#undoing = this.#undoing.then(() => this.#takeBack());
    const answer = await this.#undoing;
    if (interrupted) this.#prefetcher.putBack(interrupted.question, interrupted.images);
    if (answer.progress) this.progress = answer.progress;
    this.last = { kind: answer.status };
    const key = answer.pair ?? answer.group;
    if (answer.status === "undone") {
      this.rate.drop();
      const seen = this.#seen.get(key);
      this.#seen.delete(key);
      if (seen && isGrid(seen.question) === !answer.pair) this.#prefetcher.putBack(seen.question, seen.images);
      else if (answer.question) this.#prefetcher.putBack(answer.question);
      else this.#prefetcher.release(key);
    } else if (key) this.#prefetcher.release(key);
    if (turn === this.#turn) await this.#advance();
  }

  /** The server's answer, or its equivalent. Without a vote in this session, the server finds this browser's newest. */
  async #takeBack() {
    const newest = this.#given.pop();
    if (newest && (await newest.answered) !== "recorded") return { status: "unrecorded" };
    try {
      return await this.#enqueue("undo", newest ? { vote: newest.id } : { earlier: this.earlier() });
    } catch {
      return { status: "nothing" };
    }
  }

  /** Ask again after an error, or for the questions passed over. */
  retry() {
    this.#passed.splice(0).forEach((key) => this.#prefetcher.release(key));
    this.#queue.kick();
    return this.#advance();
  }

  /** The server is back: go on at once. */
  reconnected() {
    this.#queue.kick();
    if (this.state === "error") return this.#advance(true);
    if (this.state === "asking" && this.shown.images.broken) return this.reload();
  }

  /** Load the images shown again. */
  async reload() {
    if (this.state !== "asking") return;
    const { question } = this.shown;
    const images = await this.#prefetcher.load(question);
    if (this.shown?.question === question && this.state === "asking" && !images.broken)
      this.#show("asking", { question, images });
  }

  /** `quietly`: an error stays in sight until there is an answer. */
  async #advance(quietly = false) {
    const turn = ++this.#turn;
    const { grid, find } = this;
    const ready = this.#prefetcher.takeReady();
    if (ready) return this.#show("asking", ready);
    if (!quietly) this.#show("loading", null);
    try {
      let next = await this.#prefetcher.take();
      if (!next) {
        await this.#queue.idle(this); // a vote in flight may have opened the next round
        next = await this.#prefetcher.take();
      }
      this.#pause = FIRST_PAUSE_MS;
      if (turn === this.#turn) this.#show(next ? "asking" : "done", next);
      else if (next && grid === this.grid && find === this.find)
        this.#prefetcher.putBack(next.question, next.images);
      else if (next) this.#prefetcher.release(keyOf(next.question));
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#show("error", null, error);
      if (!error?.permanent) this.#later(() => turn === this.#turn && this.#advance(true));
    }
  }

  /** Try again after a while, and after a longer while the next time. */
  async #later(act) {
    if (!this.wait) return;
    const pause = this.#pause;
    this.#pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    await this.wait(pause);
    act();
  }

  async #mend(question) {
    await this.reload();
    if (this.shown?.question === question && this.shown.images.broken) this.#later(() => this.#mend(question));
  }

  #show(state, shown, error = null) {
    Object.assign(this, { state, shown, error });
    this.#shownAt = this.#now();
    this.#paintedAt = null;
    this.#changed();
    if (shown?.images.broken) this.#later(() => this.shown === shown && this.#mend(shown.question));
  }
}
