/**
 * Votes and undos on their way to the server, retried until they are answered. Those of one set are sent one at a time,
 * in order; a set that cannot be written does not hold up others.
 *
 * An entry is {id, path, body, at}. It is stored from `add` until the server has answered, so a closed tab or a
 * stopped server loses nothing; the server recognises ids, so sending twice counts once. A refusal (an error with
 * `permanent`) moves the entry from its line to `failed`, where it stays until it is retried or discarded by hand.
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const PATIENCE = 3; // attempts after which an entry may be discarded by hand

const lineOf = ({ place, set }) => JSON.stringify([place, set]);

export class VoteQueue {
  #store;
  #send;
  #wait;
  #changed;
  #lines = new Map(); // place and set -> {items: [{entry, attempts, reason, done, broke}], running, wake}
  failed = [];

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

  /** Resume what an earlier page left behind, oldest first. */
  resume() {
    for (const entry of this.#store.load().sort((a, b) => a.at - b.at)) {
      if (this.pending(({ id }) => id === entry.id).length) continue;
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
    const key = lineOf(entry.body);
    const line = this.#lines.get(key) ?? { items: [], running: null, wake: () => {} };
    this.#lines.set(key, line);
    const answered = new Promise((done, broke) => line.items.push({ entry, attempts: 0, reason: null, done, broke }));
    line.running ??= this.#run(line, key);
    return answered;
  }

  get #items() {
    return [...this.#lines.values()].flatMap(({ items }) => items);
  }

  /** An attempt failed to reach the server, and none has succeeded since. */
  get waiting() {
    return this.#items.some(({ attempts }) => attempts > 0);
  }

  /** Entries tried so often that they may be discarded by hand: [{entry, reason}]. */
  get stuck() {
    return this.#items.filter(({ attempts }) => attempts >= PATIENCE);
  }

  /** Unanswered entries, of one set if given. */
  pending(belongs = () => true) {
    return this.#items.map(({ entry }) => entry).filter(belongs);
  }

  /** Resolves when nothing is in flight, for one set if given. */
  async idle(of = null) {
    const lines = () => (of ? [this.#lines.get(lineOf(of))].filter(Boolean) : [...this.#lines.values()]);
    while (lines().length) await Promise.all(lines().map(({ running }) => running));
  }

  /** Retry at once: the network is back, or the user asks. */
  kick() {
    this.#lines.forEach((line) => line.wake());
  }

  /** Put a refused entry at the end of the line again. */
  retry(id) {
    const entry = this.#take(id);
    if (!entry) return Promise.resolve(null);
    const { refused, ...again } = entry;
    return this.add(again);
  }

  /** Discard an entry that was refused or is waiting. */
  discard(id) {
    if (!this.#take(id) && !this.#giveUp(id)) return;
    this.#store.remove(id);
    this.#changed();
  }

  #giveUp(id) {
    for (const line of this.#lines.values()) {
      const item = line.items.find(({ entry }) => entry.id === id);
      if (!item) continue;
      this.#leave(line, item);
      item.broke(Object.assign(new Error("The vote was discarded."), { discarded: true }));
      line.wake();
      return true;
    }
    return false;
  }

  #take(id) {
    const entry = this.failed.find((each) => each.id === id);
    this.failed = this.failed.filter((each) => each !== entry);
    return entry;
  }

  async #run(line, key) {
    let pause = FIRST_PAUSE_MS;
    while (line.items.length) {
      const item = line.items[0];
      try {
        const answer = await this.#send(item.entry);
        this.#leave(line, item);
        this.#store.remove(item.entry.id);
        pause = FIRST_PAUSE_MS;
        item.done(answer);
      } catch (error) {
        if (!line.items.includes(item)) continue; // discarded in the meantime
        if (error?.permanent) this.#refuse(line, item, error);
        else {
          item.attempts += 1;
          item.reason = String(error?.message ?? error);
          this.#changed();
          await Promise.race([this.#wait(pause), new Promise((woken) => (line.wake = woken))]);
          pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
        }
      }
      this.#changed();
    }
    this.#lines.delete(key); // at once: later entries start a new line
  }

  #leave(line, item) {
    line.items = line.items.filter((each) => each !== item);
  }

  #refuse(line, item, error) {
    this.#leave(line, item);
    const refused = { ...item.entry, refused: String(error.message) };
    this.failed.push(refused);
    this.#store.save(refused);
    item.broke(error);
  }
}

const PREFIX = "dspo-studio.vote.";
const ORPHAN_MS = 60_000;

/**
 * Entries in localStorage, each under its own key, so that two tabs never overwrite each other's.
 * `load` returns those of `clients`, the pages this tab has shown, and, after a minute, those of tabs that seem to
 * be gone; if one is not, the server recognises the ids.
 */
export function storedEntries(storage, clients, now) {
  return {
    load() {
      const found = [];
      for (let n = 0; n < storage.length; n++) {
        const key = storage.key(n);
        if (!key?.startsWith(PREFIX)) continue;
        try {
          const entry = JSON.parse(storage.getItem(key));
          if (clients.includes(entry.body.client) || now() - entry.at > ORPHAN_MS) found.push(entry);
        } catch {
          continue; // not ours, or truncated: nothing to send
        }
      }
      return found;
    },
    save(entry) {
      try {
        storage.setItem(PREFIX + entry.id, JSON.stringify(entry));
      } catch {
        return; // full or forbidden: the queue keeps it for as long as the page is open
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
