const REMEMBERED = 3; // pairs whose images are kept for undo

/**
 * One voting session: the pair shown and the votes cast. No DOM; `changed` is called on every change.
 *
 * state: "loading", "asking" (a pair is shown), "done" (every pair is answered), "error" (no answer from the server).
 */
export class VotingSession {
  #queue;
  #prefetcher;
  #changed;
  #now;
  #newId;
  #seen = new Map(); // pair -> what was shown, the last few, for undo
  #given = []; // votes of this session, {id, answered: Promise of a status}, newest last
  #undoing = Promise.resolve(); // undos run one after another
  #passed = []; // pairs passed over because images could not be loaded
  #shownAt = 0;
  #turn = 0; // a newer request for the next pair cancels an older one
  state = "loading";
  shown = null; // {question, images}
  progress = null;
  last = null; // the last action, {kind}, worded by the texts said_*

  /** `looking()`: is the page visible? A pair judged elsewhere is not replaced while someone looks at it. */
  constructor({ place, set, client, queue, prefetcher, rate, now, newId, changed, looking = () => true }) {
    Object.assign(this, { place, set, client, rate, looking });
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

  /** Another tab voted on a pair or undid its vote. */
  elsewhere(pair, progress) {
    this.#prefetcher.drop(pair);
    const shown = this.state === "asking" && this.shown.question.pair === pair;
    if (shown) this.last = { kind: "elsewhere" };
    this.heard(progress);
    if (!shown || this.looking()) return;
    this.#prefetcher.release(pair);
    this.#advance();
  }

  /** Number of pairs passed over. */
  get passed() {
    return this.#passed.length;
  }

  #mine = ({ body }) => body.place === this.place && body.set === this.set;

  /** Votes on this set that the server has not yet confirmed. */
  get unsent() {
    return this.#queue.pending(this.#mine).length;
  }

  /** {answered, total, left}, counting unsent votes as answered; null before the first answer. */
  get counts() {
    if (!this.progress) return null;
    const { answered, total } = this.progress;
    const votes = this.#queue.pending((entry) => this.#mine(entry) && entry.path === "vote").length;
    const now = Math.min(total, answered + votes);
    return { answered: now, total, left: total - now };
  }

  start() {
    return this.#advance();
  }

  /** Vote "left", "right", "tie" or "skip" on the shown pair; false if there is nothing to vote on. */
  vote(kind) {
    if (this.state !== "asking" || (this.shown.images.broken && kind !== "skip")) return false;
    if (this.shown.images.broken) return this.#passOver();
    this.#remember(this.shown);
    this.rate.note(this.#now());
    this.last = { kind };
    this.#send(this.shown.question, kind);
    this.#advance();
    return true;
  }

  #send(question, kind) {
    const side = { left: question.left, right: question.right }[kind] ?? null;
    const body = {
      pair: question.pair,
      outcome: side ? "win" : kind,
      winner: side,
      seconds: Math.round((this.#now() - this.#shownAt) / 10) / 100,
      relabel: false,
    };
    const id = this.#newId();
    const answered = this.#enqueue("vote", body, id).then(
      ({ status, progress }) => {
        this.#prefetcher.release(question.pair);
        if (status !== "recorded") this.last = { kind: status };
        this.heard(progress);
        return status;
      },
      (error) => {
        if (error?.discarded) this.#prefetcher.release(question.pair);
        this.#changed(); // refused: the queue keeps and shows it
        return "refused";
      },
    );
    this.#given.push({ id, answered });
  }

  /** A pair that cannot be seen is not judged: nothing is sent, and it returns in the next session. */
  #passOver() {
    this.#passed.push(this.shown.question.pair);
    this.last = { kind: "passed" };
    this.#advance();
    return true;
  }

  #remember(shown) {
    const { pair } = shown.question;
    this.#seen.delete(pair);
    this.#seen.set(pair, shown);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.keys().next().value);
  }

  #enqueue(path, body, id = this.#newId()) {
    const whole = { place: this.place, set: this.set, client: this.client, id, ...body };
    return this.#queue.add({ id, path, body: whole, at: this.#now() });
  }

  /**
   * Take back the newest vote, once it has arrived, and show its pair again. A vote that the server did not record
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
    if (answer.status === "undone") {
      this.rate.drop();
      const seen = this.#seen.get(answer.pair);
      this.#seen.delete(answer.pair);
      if (seen) this.#prefetcher.putBack(seen.question, seen.images);
      else if (answer.question) this.#prefetcher.putBack(answer.question);
      else this.#prefetcher.release(answer.pair);
    } else if (answer.pair) this.#prefetcher.release(answer.pair);
    if (turn === this.#turn) await this.#advance();
  }

  /** The server's answer, or its equivalent. Without a vote in this session, the server finds this page's newest. */
  async #takeBack() {
    const newest = this.#given.pop();
    if (newest && (await newest.answered) !== "recorded") return { status: "unrecorded" };
    try {
      return await this.#enqueue("undo", newest ? { vote: newest.id } : {});
    } catch {
      return { status: "nothing" };
    }
  }

  /** Ask again after an error, or for the pairs passed over. */
  retry() {
    this.#passed.splice(0).forEach((pair) => this.#prefetcher.release(pair));
    this.#queue.kick();
    return this.#advance();
  }

  /** Reload the images shown. */
  async reload() {
    if (this.state !== "asking") return;
    const { question } = this.shown;
    const images = await this.#prefetcher.load(question);
    if (this.shown?.question === question && this.state === "asking") this.#show("asking", { question, images });
  }

  async #advance() {
    const turn = ++this.#turn;
    const ready = this.#prefetcher.takeReady();
    if (ready) return this.#show("asking", ready);
    this.#show("loading", null);
    try {
      let next = await this.#prefetcher.take();
      if (!next) {
        await this.#queue.idle(this); // a vote in flight may have opened the next round
        next = await this.#prefetcher.take();
      }
      if (turn === this.#turn) this.#show(next ? "asking" : "done", next);
      else if (next) this.#prefetcher.putBack(next.question, next.images);
    } catch (error) {
      if (turn === this.#turn) this.#show("error", null, error);
    }
  }

  #show(state, shown, error = null) {
    Object.assign(this, { state, shown, error });
    this.#shownAt = this.#now();
    this.#changed();
  }
}
