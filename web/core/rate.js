/** Votes per minute over the last twenty. */

const KEPT = 20;
const LONGEST_MS = 30_000; // longer pauses count as this long: a coffee break is not slow voting

export class Rate {
  #times = [];

  /** Record a vote at `time`, in milliseconds. */
  note(time) {
    this.#times = [...this.#times, time].slice(-KEPT);
  }

  /** Remove the newest vote, after an undo. */
  drop() {
    this.#times = this.#times.slice(0, -1);
  }

  /** Votes per minute, or null before the third vote. */
  perMinute() {
    if (this.#times.length < 3) return null;
    let spent = 0;
    for (let n = 1; n < this.#times.length; n++) spent += Math.min(this.#times[n] - this.#times[n - 1], LONGEST_MS);
    return spent > 0 ? ((this.#times.length - 1) * 60_000) / spent : null;
  }
}
