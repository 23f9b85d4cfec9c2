/**
 * One sitting of voting: which pair is shown, what was answered. No DOM; `changed` is called when there is news.
 *
 * state: "loading", "asking" (a pair is shown), "done" (every pair is answered), "error" (the server did not answer).
 */
export class VotingSession {
  #queue;
  #prefetcher;
  #changed;
  #now;
  #newId;
  #seen = new Map(); // pair -> what was shown, for undo
  #shownAt = 0;
  #turn = 0; // a newer request for the next pair makes an older one void
  state = "loading";
  shown = null; // {question, pictures}
  progress = null;
  last = null; // what the last action was: {kind: "left" | "right" | "tie" | "skip" | "undone" | "nothing"}

  constructor({ place, set, client, queue, prefetcher, rate, now, newId, changed }) {
    Object.assign(this, { place, set, client, rate });
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

  #mine = ({ body }) => body.place === this.place && body.set === this.set;

  /** Votes on this set that the server has not answered yet. */
  get unsent() {
    return this.#queue.pending(this.#mine).length;
  }

  /** {answered, total, left}, votes on their way counted as answered; null before the first answer. */
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

  /** Vote on the shown pair: "left", "right", "tie" or "skip". False if there is nothing to vote on. */
  vote(kind) {
    if (this.state !== "asking" || (this.shown.pictures.broken && kind !== "skip")) return false;
    const { question } = this.shown;
    const side = { left: question.left, right: question.right }[kind] ?? null;
    this.#seen.set(question.pair, this.shown);
    this.rate.note(this.#now());
    this.last = { kind };
    const body = {
      pair: question.pair,
      outcome: side ? "win" : kind,
      winner: side,
      seconds: Math.round((this.#now() - this.#shownAt) / 10) / 100,
      relabel: false,
    };
    this.#enqueue("vote", body).then(
      (answer) => {
        this.#prefetcher.release(question.pair);
        this.heard(answer.progress);
      },
      () => this.#changed(), // refused: the queue keeps and shows it
    );
    this.#advance();
    return true;
  }

  #enqueue(path, body) {
    const id = this.#newId();
    const whole = { place: this.place, set: this.set, client: this.client, id, ...body };
    return this.#queue.add({ id, path, body: whole, at: this.#now() });
  }

  /** Take back this tab's newest vote, once those before it have arrived, and show its pair again. */
  async undo() {
    const turn = ++this.#turn;
    const interrupted = this.state === "asking" ? this.shown : null;
    this.#show("loading", null);
    let answer;
    try {
      answer = await this.#enqueue("undo", {});
    } catch {
      answer = { status: "nothing" };
    }
    if (interrupted) this.#prefetcher.putBack(interrupted.question, interrupted.pictures);
    if (answer.progress) this.progress = answer.progress;
    const before = answer.status === "undone" ? this.#seen.get(answer.pair) : null;
    this.last = { kind: answer.status === "undone" ? "undone" : "nothing" };
    if (answer.status === "undone") this.rate.drop();
    if (before) this.#prefetcher.putBack(before.question, before.pictures);
    else if (answer.pair) this.#prefetcher.release(answer.pair);
    if (turn === this.#turn) await this.#advance();
  }

  /** Ask again after an error. */
  retry() {
    this.#queue.kick();
    return this.#advance();
  }

  async #advance() {
    const turn = ++this.#turn;
    const ready = this.#prefetcher.takeReady();
    if (ready) return this.#show("asking", ready);
    this.#show("loading", null);
    try {
      let next = await this.#prefetcher.take();
      if (!next) {
        await this.#queue.idle(); // a vote that was on its way may have opened the next round
        next = await this.#prefetcher.take();
      }
      if (turn === this.#turn) this.#show(next ? "asking" : "done", next);
      else if (next) this.#prefetcher.putBack(next.question, next.pictures);
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
