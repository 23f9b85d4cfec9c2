/** What is chosen of images that are listed in groups, a page at a time. */

export const NO_PROMPT = "none";

/** Whether images of the group can be compared with each other. */
export const comparable = ({ count }) => count > 1;

/**
 * Groups are {key, prompt, count}, images have a name. A group that was never touched is chosen if everything is, has
 * a prompt and can be compared; else its choice says: all but these images, or these alone.
 */
export class Selection {
  #everything = false;
  #choices = new Map(); // key -> {group, whole, images}

  #implied = (group) => this.#everything && group.key !== NO_PROMPT && comparable(group);

  has(group, name) {
    const choice = this.#choices.get(group.key);
    return choice ? choice.whole !== choice.images.has(name) : this.#implied(group);
  }

  /** How many images of a group are chosen. */
  count(group) {
    const choice = this.#choices.get(group.key);
    if (!choice) return this.#implied(group) ? group.count : 0;
    return choice.whole ? Math.max(0, group.count - choice.images.size) : choice.images.size;
  }

  toggleImage(group, name) {
    const whole = this.#implied(group);
    const choice = this.#choices.get(group.key) ?? { whole, images: new Set() };
    if (!choice.images.delete(name)) choice.images.add(name);
    this.#choices.set(group.key, { ...choice, group });
  }

  /** Choose all images of a group, or none if all are. */
  toggleGroup(group) {
    const whole = this.count(group) < group.count;
    this.#choices.set(group.key, { group, whole, images: new Set() });
  }

  /** Everything that has a prompt, or nothing. */
  all(everything) {
    this.#everything = everything;
    this.#choices.clear();
  }

  /** How many images are chosen; `prompted` is the number that everything stands for. */
  total(prompted) {
    let sum = this.#everything ? prompted : 0;
    for (const { group } of this.#choices.values()) sum += this.count(group) - (this.#implied(group) ? group.count : 0);
    return sum;
  }

  /** Whether there is a group of which two images are chosen. */
  comparable(prompted) {
    const chosen = [...this.#choices.values()];
    if (chosen.some(({ group }) => this.count(group) > 1)) return true;
    const touched = chosen.reduce((sum, { group }) => sum + (this.#implied(group) ? group.count : 0), 0);
    return this.#everything && prompted > touched;
  }

  /** The fields of the request that say what is chosen; `prompt` is that of the images without one. */
  order(prompt) {
    const groups = [...this.#choices.values()].map(({ group, whole, images }) => ({
      group: group.key,
      whole,
      images: [...images],
      ...(group.key === NO_PROMPT ? { prompt } : {}),
    }));
    return { everything: this.#everything, groups };
  }
}

/** The sentences about a collecting that has ended: [key, values] each, the outcome first. */
export function outcome(job) {
  const { state, reason, set, added, pairs } = job;
  const done = pairs === 1 ? ["gatherDoneOne", { added, set }] : ["gatherDone", { added, pairs, set }];
  const first = {
    done: added ? done : ["gatherNothing", { set }],
    cancelled: ["gatherCancelled", { added, set }],
    failed: [`gatherFailed_${reason}`, { added, set }],
  }[state];
  const more = { gatherAlready: job.already, gatherAlone: job.alone, gatherUnreadable: job.unreadable };
  const counts = Object.entries(more).filter(([, count]) => count > 0);
  return [first, ...counts.map(([key, count]) => [key, { count }])];
}

/** Whether a file may be an image that we take, by its type or, where the system knows none, by its name. */
export const mayBeImage = ({ type, name }) =>
  /^image\/(png|apng|jpeg|webp)$/.test(type) || (!type && /\.(png|apng|jpe?g|jfif|webp)$/i.test(name));
