/** Into which set the chosen images go; the progress of collecting them, and what comes next. */
import * as api from "../api.js";
import { outcome } from "../core/gather.js";
import { share } from "../core/format.js";
import { t, told } from "../texts.js";
import { bar, button, h } from "./dom.js";
import { keep, recall } from "./kept.js";
import { openVoting } from "./voting.js";

const SCHEDULES = ["auto", "all", "swiss", "neighbours"];
const NEW_SET = "my-taste";
const LAST = "dspo-studio.gather.set";
const LOOK_MS = 2000; // events may be lost with the connection

/**
 * @param order gives the fields of the request that say what is chosen.
 * @param again called to list the images anew.
 * @param renamed called when another set is named.
 * @param leave closes the dialog.
 * @param done called when voting, which follows, has ended.
 */
export class CollectForm {
  #job = null;
  #looking = 0;
  #missing = "gatherNeedTwo";

  constructor({ order, again, renamed, leave, done }) {
    Object.assign(this, { order, again, renamed, leave, done });
    const names = h("datalist", { id: "dspo-gather-sets" });
    this.set = h("input", {
      type: "text",
      required: true,
      value: recall(LAST) || NEW_SET,
      onchange: renamed,
      list: names.id,
      spellcheck: "false",
      autocomplete: "off",
      maxlength: 120,
    });
    const options = SCHEDULES.map((name) => h("option", { value: name }, t(`gatherSchedule_${name}`)));
    this.schedule = h("select", {}, options);
    this.count = h("span", { class: "dspo-muted", role: "status" });
    this.start = h("button", { type: "submit", class: "dspo-button primary" }, t("gatherCollect"));
    this.asking = h(
      "form",
      { class: "dspo-row", onsubmit: (event) => this.#submit(event) },
      h("label", { class: "dspo-field" }, t("gatherSet"), this.set, names),
      h("label", { class: "dspo-field" }, t("gatherSchedule"), this.schedule),
      h("span", { class: "dspo-spring" }),
      this.count,
      this.start,
    );
    this.state = h("div", { class: "dspo-gather-state", role: "status", hidden: true });
    this.root = h("footer", { class: "dspo-gather-foot" }, this.asking, this.state);
    this.stop = api.listen("gather", (job) => this.#heard(job));
    this.#suggest(names);
    this.#look();
  }

  /** The set that is named now. */
  name = () => this.set.value.trim();

  destroy() {
    clearTimeout(this.#looking);
    this.#looking = -1;
    this.stop();
  }

  /** How many images are chosen, and the key of what is missing to collect them. */
  chosen(count, missing) {
    this.#missing = missing;
    this.count.textContent = missing && count ? t(missing) : t("gatherChosen", { count });
    this.start.disabled = Boolean(missing);
  }

  async #suggest(names) {
    const { sets } = await api.sets().catch(() => ({ sets: [] }));
    const own = sets.filter(({ place, layout }) => place === "sets" && layout === "collected");
    names.replaceChildren(...own.map(({ set }) => h("option", { value: set })));
  }

  /** Whether a collecting runs already, begun in another tab or before a reload. */
  async #look() {
    const { job } = await api.gatherStatus().catch(() => ({ job: null }));
    if (this.#looking === -1 || !job) return;
    if (job.state === "running" || job.job === this.#job) this.#heard(job);
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#missing || this.#job) return;
    this.#job = "asked";
    this.#draw(h("p", {}, t("gatherLooking")));
    try {
      const set = this.name();
      keep(LAST, set);
      const { job } = await api.collectImages({ ...this.order(), set, schedule: this.schedule.value });
      this.#job = job.job;
      this.#heard(job);
    } catch (error) {
      this.#job = null;
      this.#ask(told(error));
    }
  }

  #heard(job) {
    if (this.#looking === -1 || (this.#job === null && job.state !== "running")) return;
    if (this.#job !== "asked" && this.#job !== null && this.#job !== job.job) return;
    this.#job = job.job;
    clearTimeout(this.#looking);
    if (job.state === "running") {
      this.#looking = setTimeout(() => this.#look(), LOOK_MS);
      this.#drawRunning(job);
    } else this.#drawEnd(job);
  }

  #drawRunning({ job, done, total }) {
    const text = total ? t("gatherCollecting", { done, total }) : t("gatherLooking");
    const kept = this.state.querySelector("button");
    const cancel = kept ?? button(t("cancel"), () => api.cancelCollecting(job).catch(() => {}));
    const words = h("span", {}, text);
    if (kept) this.state.replaceChildren(bar(share(done, total), text), words, kept);
    else this.#draw(bar(share(done, total), text), words, cancel);
  }

  #drawEnd(job) {
    this.#job = null;
    const lines = outcome(job).map(([key, values]) => h("p", {}, t(key, values)));
    const vote = button(t("voteNow"), () => this.#vote(job.set), { kind: "primary" });
    const more = button(t("gatherAgain"), () => this.#ask(), {});
    const good = job.added > 0 || (job.state === "done" && job.already > 0);
    this.#draw(h("div", { class: "dspo-gather-said" }, lines), h("div", { class: "dspo-row" }, good && vote, more));
    (good ? vote : more).focus();
    this.renamed(); // the list marks what is in the set now
  }

  #vote(set) {
    this.leave();
    openVoting("sets", set, this.done);
  }

  /** Show the form again, below what went wrong, if anything. */
  #ask(trouble = "") {
    this.asking.hidden = false;
    this.state.hidden = !trouble;
    this.state.replaceChildren(trouble && h("p", { class: "dspo-warning" }, trouble));
    if (trouble) return this.set.focus();
    this.again();
    this.start.focus();
  }

  #draw(...parts) {
    this.asking.hidden = true;
    this.state.hidden = false;
    this.state.replaceChildren(...parts);
  }
}
