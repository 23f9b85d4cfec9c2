/** Questions fetched ahead, with their pictures decoded, so that the next pair is there when a vote is given. */

const MOST = 6; // pairs held at once, each of two decoded pictures

export class Prefetcher {
  #ask;
  #load;
  #ahead;
  #held = []; // {question, pictures: Promise, ready: pictures or null}
  #taken = new Set(); // pairs handed out whose vote is not answered yet
  #dry = false; // the server had no more
  #asking = null;

  /**
   * @param {(count: number, skip: string[]) => Promise<{questions: object[], progress: object}>} ask
   * @param {(question: object) => Promise<object>} load resolves to the pictures, also if one is broken
   */
  constructor({ ask, load, ahead = 3, heard = () => {} }) {
    this.#ask = ask;
    this.#load = load;
    this.#ahead = ahead;
    this.heard = heard;
  }

  /** The next question if it can be shown at once, else null. */
  takeReady() {
    if (!this.#held[0]?.ready) return null;
    const { question, ready } = this.#hand();
    return { question, pictures: ready };
  }

  /** The next question with its pictures; null if the server has none that are not held or voted on already. */
  async take() {
    if (!this.#held.length) {
      this.#dry = false;
      await this.fill();
    }
    if (!this.#held.length) return null;
    const { question, pictures } = this.#hand();
    return { question, pictures: await pictures };
  }

  #hand() {
    const first = this.#held.shift();
    this.#taken.add(first.question.pair);
    this.fill().catch(() => {}); // `take` asks again and reports
    return first;
  }

  /** The vote on a pair is answered: from now on the server leaves it out by itself. */
  release(pair) {
    this.#taken.delete(pair);
    this.#dry = false;
  }

  /** Put a question in front, shown before or undone; without its pictures they are loaded. */
  putBack(question, pictures = null) {
    this.#taken.delete(question.pair);
    this.#drop(question.pair);
    const ready = pictures && { question, pictures: Promise.resolve(pictures), ready: pictures };
    this.#held.unshift(ready ?? this.#loading(question));
    if (this.#held.length <= MOST) return;
    this.#held.length = MOST;
    this.#dry = false; // the server names the others again
  }

  /** The pair was judged elsewhere: it need not be shown. */
  drop(pair) {
    if (!this.#held.some(({ question }) => question.pair === pair)) return;
    this.#drop(pair);
    this.#dry = false;
    this.fill().catch(() => {}); // `take` asks again and reports
  }

  /** The pictures of a question, asked for anew. */
  load(question) {
    return this.#load(question);
  }

  /** Forget what is held: the server's order has changed. */
  reset() {
    this.#held = [];
    this.#dry = false;
  }

  #drop(pair) {
    this.#held = this.#held.filter((each) => each.question.pair !== pair);
  }

  /** Pairs that the server need not name. */
  get skip() {
    return [...this.#held.map(({ question }) => question.pair), ...this.#taken];
  }

  get #wanting() {
    return !this.#dry && this.#held.length < this.#ahead;
  }

  /** Ask until enough is held or the server has no more; one request at a time. */
  async fill() {
    if (this.#wanting) this.#asking ??= this.#fill();
    await this.#asking;
  }

  async #fill() {
    try {
      while (this.#wanting) await this.#fetch(this.#ahead - this.#held.length + 1);
    } finally {
      this.#asking = null;
    }
  }

  async #fetch(wanted) {
    const { questions, progress } = await this.#ask(wanted, this.skip);
    this.heard(progress);
    const known = new Set(this.skip);
    const fresh = questions.filter(({ pair }) => !known.has(pair));
    for (const question of fresh) this.#hold(question);
    this.#dry = fresh.length < wanted;
  }

  #hold(question) {
    this.#held.push(this.#loading(question));
  }

  #loading(question) {
    const held = { question, pictures: this.#load(question), ready: null };
    held.pictures.then((pictures) => (held.ready = pictures));
    return held;
  }
}
