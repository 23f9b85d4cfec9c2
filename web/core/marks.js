/** What is marked on a grid before it is sent: the better images in order, and the bad ones. */
export class Marks {
  best = [];
  bad = [];

  get any() {
    return this.best.length + this.bad.length > 0;
  }

  /** Give an image the next rank, or take its rank away. */
  rank(image) {
    this.bad = without(this.bad, image);
    this.best = toggled(this.best, image);
  }

  /** Call an image bad, or take it back. */
  reject(image) {
    this.best = without(this.best, image);
    this.bad = toggled(this.bad, image);
  }

  /** {rank: 1 for the best, 0 for none; bad} */
  of(image) {
    return { rank: this.best.indexOf(image) + 1, bad: this.bad.includes(image) };
  }

  clear() {
    this.best = [];
    this.bad = [];
  }
}

const without = (list, image) => list.filter((each) => each !== image);
const toggled = (list, image) => (list.includes(image) ? without(list, image) : [...list, image]);
