/** Questions fetched ahead, with their images decoded, so that the next one is ready when a vote is cast. */
import { keyOf } from "./question.js";

const MOST = 6; // questions held at once, with decoded images

export class Prefetcher {
  #ask;
  #load;
  #ahead;
  #held = []; // {question, images: Promise, ready: images or null}
  #taken = new Set(); // names of questions handed out, with their vote not yet confirmed
  #dry = false; // the server had no more
  #asking = null;
  #era = 0; // answers to what was asked before a reset are dropped

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
    this.#taken.add(keyOf(first.question));
    this.fill().catch(() => {}); // `take` asks again and reports
    return first;
  }

  /** The vote on a question is confirmed: from now on the server itself omits it. */
  release(key) {
    this.#taken.delete(key);
    this.#dry = false;
  }

  /** Put a question that was shown before or undone in front; its images are loaded if not given. */
  putBack(question, images = null) {
    this.#taken.delete(keyOf(question));
    this.#drop((held) => keyOf(held) === keyOf(question));
    const ready = images && { question, images: Promise.resolve(images), ready: images };
    this.#held.unshift(ready ?? this.#loading(question));
    if (this.#held.length <= MOST) return;
    this.#held.length = MOST;
    this.#dry = false; // the server offers the others again
  }

  /** What fits was judged elsewhere and need not be shown. */
  drop(fits) {
    if (!this.#held.some(({ question }) => fits(question))) return;
    this.#drop(fits);
    this.#dry = false;
    this.fill().catch(() => {}); // `take` asks again and reports
  }

  /** The images of a question, requested again. */
  load(question) {
    return this.#load(question);
  }

  /** Drop what is held: from now on something else is asked for. */
  reset() {
    this.#held = [];
    this.#dry = false;
    this.#era += 1;
  }

  #drop(fits) {
    this.#held = this.#held.filter(({ question }) => !fits(question));
  }

  /** Questions that the server should omit. */
  get skip() {
    return [...this.#held.map(({ question }) => keyOf(question)), ...this.#taken];
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
    const era = this.#era;
    const { questions, progress } = await this.#ask(wanted, this.skip);
    this.heard(progress);
    if (era !== this.#era) return;
    const known = new Set(this.skip);
    const fresh = questions.filter((each) => !known.has(keyOf(each)));
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
