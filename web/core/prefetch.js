/** Questions fetched ahead, with their images decoded, so that the next pair is ready when a vote is cast. */

const MOST = 6; // pairs held at once, each of two decoded images

export class Prefetcher {
  #ask;
  #load;
  #ahead;
  #held = []; // {question, images: Promise, ready: images or null}
  #taken = new Set(); // pairs handed out, with their vote not yet confirmed
  #dry = false; // the server had no more
  #asking = null;

  /**
   * @param {(count: number, skip: string[]) => Promise<{questions: object[], progress: object}>} ask
   * @param {(question: object) => Promise<object>} load resolves to the images, even if one is broken
   */
  constructor({ ask, load, ahead = 3, heard = () => {} }) {
    this.#ask = ask;
    this.#load = load;
    this.#ahead = ahead;
    this.heard = heard;
  }

  /** The next question if it can be shown at once, or null. */
  takeReady() {
    if (!this.#held[0]?.ready) return null;
    const { question, ready } = this.#hand();
    return { question, images: ready };
  }

  /** The next question with its images; null if the server has no others than those held or voted on. */
  async take() {
    if (!this.#held.length) {
      this.#dry = false;
      await this.fill();
    }
    if (!this.#held.length) return null;
    const { question, images } = this.#hand();
    return { question, images: await images };
  }

  #hand() {
    const first = this.#held.shift();
    this.#taken.add(first.question.pair);
    this.fill().catch(() => {}); // `take` asks again and reports
    return first;
  }

  /** The vote on a pair is confirmed: from now on the server itself omits the pair. */
  release(pair) {
    this.#taken.delete(pair);
    this.#dry = false;
  }

  /** Put a question that was shown before or undone in front; its images are loaded if not given. */
  putBack(question, images = null) {
    this.#taken.delete(question.pair);
    this.#drop(question.pair);
    const ready = images && { question, images: Promise.resolve(images), ready: images };
    this.#held.unshift(ready ?? this.#loading(question));
    if (this.#held.length <= MOST) return;
    this.#held.length = MOST;
    this.#dry = false; // the server offers the others again
  }

  /** The pair was judged elsewhere and need not be shown. */
  drop(pair) {
    if (!this.#held.some(({ question }) => question.pair === pair)) return;
    this.#drop(pair);
    this.#dry = false;
    this.fill().catch(() => {}); // `take` asks again and reports
  }

  /** The images of a question, requested again. */
  load(question) {
    return this.#load(question);
  }

  /** Drop what is held: the server's order has changed. */
  reset() {
    this.#held = [];
    this.#dry = false;
  }

  #drop(pair) {
    this.#held = this.#held.filter((each) => each.question.pair !== pair);
  }

  /** Pairs that the server should omit. */
  get skip() {
    return [...this.#held.map(({ question }) => question.pair), ...this.#taken];
  }

  get #wanting() {
    return !this.#dry && this.#held.length < this.#ahead;
  }

  /** Ask until enough are held or the server has no more; one request at a time. */
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
    const held = { question, images: this.#load(question), ready: null };
    held.images.then((images) => (held.ready = images));
    return held;
  }
}
