const REMEMBERED = 3; // pairs whose pictures are kept for undo

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
  #seen = new Map(); // pair -> what was shown, the last few, for undo
  #given = []; // votes of this sitting, {id, answered: Promise of a status}, the newest last
  #undoing = Promise.resolve(); // undos go one after another
  #passed = []; // pairs passed over, for their pictures did not load
  #shownAt = 0;
  #turn = 0; // a newer request for the next pair makes an older one void
  state = "loading";
  shown = null; // {question, pictures}
  progress = null;
  last = null; // what the last action was: {kind}, of the texts said_*

  /** `looking()`: whether the page can be seen. A pair judged elsewhere is not taken from under a person's eyes. */
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

  /** Another tab voted on a pair or took that back. */
  elsewhere(pair, progress) {
    this.#prefetcher.drop(pair);
    const shown = this.state === "asking" && this.shown.question.pair === pair;
    if (shown) this.last = { kind: "elsewhere" };
    this.heard(progress);
    if (!shown || this.looking()) return;
    this.#prefetcher.release(pair);
    this.#advance();
  }

  /** How many pairs were passed over. */
  get passed() {
    return this.#passed.length;
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
    if (this.shown.pictures.broken) return this.#passOver();
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

  /** What cannot be seen is not judged: nothing is sent, and the pair comes again in the next sitting. */
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
    if (interrupted) this.#prefetcher.putBack(interrupted.question, interrupted.pictures);
    if (answer.progress) this.progress = answer.progress;
    this.last = { kind: answer.status };
    if (answer.status === "undone") {
      this.rate.drop();
      const seen = this.#seen.get(answer.pair);
      this.#seen.delete(answer.pair);
      if (seen) this.#prefetcher.putBack(seen.question, seen.pictures);
      else if (answer.question) this.#prefetcher.putBack(answer.question);
      else this.#prefetcher.release(answer.pair);
    } else if (answer.pair) this.#prefetcher.release(answer.pair);
    if (turn === this.#turn) await this.#advance();
  }

  /** The server's answer, or one like it. Without a vote of this sitting the server looks for this page's newest. */
  async #takeBack() {
    const newest = this.#given.pop();
    if (newest && (await newest.answered) !== "recorded") return { status: "unrecorded" };
    try {
      return await this.#enqueue("undo", newest ? { vote: newest.id } : {});
    } catch {
      return { status: "nothing" };
    }
  }

  /** Ask again after an error, or for the pairs that were passed over. */
  retry() {
    this.#passed.splice(0).forEach((pair) => this.#prefetcher.release(pair));
    this.#queue.kick();
    return this.#advance();
  }

  /** Load the pictures that are shown again. */
  async reload() {
    if (this.state !== "asking") return;
    const { question } = this.shown;
    const pictures = await this.#prefetcher.load(question);
    if (this.shown?.question === question && this.state === "asking") this.#show("asking", { question, pictures });
  }

  async #advance() {
    const turn = ++this.#turn;
    const ready = this.#prefetcher.takeReady();
    if (ready) return this.#show("asking", ready);
    this.#show("loading", null);
    try {
      let next = await this.#prefetcher.take();
      if (!next) {
        await this.#queue.idle(this); // a vote that was on its way may have opened the next round
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
