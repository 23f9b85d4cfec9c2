/**
 * Votes and undos on their way to the server: one at a time, in order, tried again until they are answered.
 *
 * An entry is {id, path, body, at}. It lies in the store from `add` until the server answered, so a closed tab or a
 * stopped server loses nothing; the server knows an id that it has seen, so sending twice counts once. A refusal
 * (an error with `permanent`) takes the entry out of the line and into `failed`, where it stays until a person
 * tries again or discards it.
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

export class VoteQueue {
  #store;
  #send;
  #wait;
  #changed;
  #line = []; // {entry, done, broke}
  #running = null;
  #wake = () => {};
  failed = [];
  waiting = false; // the last attempt did not reach the server

  /**
   * @param {{load(): object[], save(entry): void, remove(id): void}} store
   * @param {(entry) => Promise<object>} send
   * @param {(ms: number) => Promise<void>} wait
   */
  constructor({ store, send, wait, changed = () => {} }) {
    this.#store = store;
    this.#send = send;
    this.#wait = wait;
    this.#changed = changed;
  }

  /** Take up what an earlier page left behind, oldest first. */
  resume() {
    for (const entry of this.#store.load().sort((a, b) => a.at - b.at)) {
      if (this.#line.some((each) => each.entry.id === entry.id)) continue;
      if (entry.refused) this.failed.push(entry);
      else this.#push(entry).catch(() => {});
    }
    this.#changed();
  }

  /** Resolves to the server's answer; rejects if the server refuses the entry, which is then in `failed`. */
  add(entry) {
    this.#store.save(entry);
    return this.#push(entry);
  }

  #push(entry) {
    const answered = new Promise((done, broke) => this.#line.push({ entry, done, broke }));
    this.#running ??= this.#run();
    return answered;
  }

  /** Entries not answered yet, those of one set if given. */
  pending(belongs = () => true) {
    return this.#line.map(({ entry }) => entry).filter(belongs);
  }

  /** Resolves when nothing is on its way. */
  async idle() {
    while (this.#running) await this.#running;
  }

  /** Try at once: the network is back, or a person asks. */
  kick() {
    this.#wake();
  }

  /** Put a refused entry at the end of the line again. */
  retry(id) {
    const entry = this.#take(id);
    if (!entry) return Promise.resolve(null);
    const { refused, ...again } = entry;
    return this.add(again);
  }

  /** Give up a refused entry. */
  discard(id) {
    if (!this.#take(id)) return;
    this.#store.remove(id);
    this.#changed();
  }

  #take(id) {
    const entry = this.failed.find((each) => each.id === id);
    this.failed = this.failed.filter((each) => each !== entry);
    return entry;
  }

  async #run() {
    let pause = FIRST_PAUSE_MS;
    while (this.#line.length) {
      const { entry, done, broke } = this.#line[0];
      try {
        const answer = await this.#send(entry);
        this.#line.shift();
        this.#store.remove(entry.id);
        this.waiting = false;
        pause = FIRST_PAUSE_MS;
        done(answer);
      } catch (error) {
        if (error?.permanent) {
          this.#line.shift();
          const refused = { ...entry, refused: String(error.message) };
          this.failed.push(refused);
          this.#store.save(refused);
          this.waiting = false;
          broke(error);
        } else {
          this.waiting = true;
          this.#changed();
          await Promise.race([this.#wait(pause), new Promise((woken) => (this.#wake = woken))]);
          pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
        }
      }
      this.#changed();
    }
    this.#running = null;
  }
}

const PREFIX = "dspo-studio.vote.";
const ORPHAN_MS = 60_000;

/**
 * Entries in localStorage, each under its own key, so that two tabs never overwrite each other's.
 * `load` gives this tab's and, after a minute, those of tabs that seem to be gone; if one is not, ids settle it.
 */
export function storedEntries(storage, client, now) {
  return {
    load() {
      const found = [];
      for (let n = 0; n < storage.length; n++) {
        const key = storage.key(n);
        if (!key?.startsWith(PREFIX)) continue;
        try {
          const entry = JSON.parse(storage.getItem(key));
          if (entry.body.client === client || now() - entry.at > ORPHAN_MS) found.push(entry);
        } catch {
          continue; // not ours, or cut short: nothing to send
        }
      }
      return found;
    },
    save(entry) {
      try {
        storage.setItem(PREFIX + entry.id, JSON.stringify(entry));
      } catch {
        return; // full or forbidden: the queue still holds it for as long as the page lives
      }
    },
    remove(id) {
      try {
        storage.removeItem(PREFIX + id);
      } catch {
        return;
      }
    },
  };
}
