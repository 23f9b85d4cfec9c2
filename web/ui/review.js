/** The votes of a set: review, change, remove. */
import * as api from "../api.js";
import { changeable } from "../core/blind.js";
import { ago } from "../core/format.js";
import { uuid } from "../core/uuid.js";
import { shared } from "../studio.js";
import { spoken, t, told } from "../texts.js";
import { openDialog } from "./dialog.js";
import { button, h, icon } from "./dom.js";

const PAGE = 50;
const THUMBNAIL = 256;
const OTHERS = { tie: "tie", bad: "bothBad", skip: "skip" }; // votes that name no winner, and their texts
const FILTERS = {
  all: () => true,
  wins: ({ outcome, status }) => outcome === "win" && status === "counts",
  ties: ({ outcome, status }) => outcome === "tie" && status === "counts",
  bads: ({ outcome, status }) => outcome === "bad" && status === "counts",
  skips: ({ outcome, status }) => outcome === "skip" && status === "counts",
  removedOnes: ({ status }) => status === "removed",
};

export function openReview(place, set) {
  return new Review(place, set);
}

class Review {
  #votes = [];
  #total = 0;
  #filter = "all";

  constructor(place, set) {
    Object.assign(this, { place, set });
    this.dialog = openDialog({ title: t("reviewTitle", { set }), kind: "dspo-review" });
    this.list = h("ul", { class: "dspo-votes" });
    this.note = h("p", { class: "dspo-muted", role: "status" }, t("loading"));
    this.more = button(t("more"), () => this.#load(this.#votes.length + PAGE), { hidden: true });
    this.dialog.body.append(this.#filters(), this.note, this.list, this.more);
    this.#load(PAGE);
  }

  #filters() {
    const options = Object.keys(FILTERS).map((name) => h("option", { value: name }, t(name)));
    const choose = (event) => {
      this.#filter = event.target.value;
      this.#draw();
    };
    return h("label", { class: "dspo-field" }, t("filter"), h("select", { onchange: choose }, options));
  }

  /** Read the newest `count` votes, page by page: an action may have changed any of them. */
  async #load(count) {
    try {
      const votes = [];
      do {
        const page = await api.history(this.place, this.set, votes.length, Math.min(PAGE, count - votes.length));
        votes.push(...page.votes);
        this.#total = page.total;
        if (!page.votes.length) break;
      } while (votes.length < Math.min(count, this.#total));
      this.#votes = votes;
      this.#draw();
    } catch (error) {
      this.note.textContent = told(error);
      this.note.hidden = false;
    }
  }

  #draw() {
    const focused = document.activeElement?.dataset?.focus;
    const shown = this.#votes.filter(FILTERS[this.#filter]);
    this.list.replaceChildren(...shown.map((vote) => this.#row(vote)));
    this.note.hidden = shown.length > 0;
    this.note.textContent = t("noVotes");
    this.more.hidden = this.#votes.length >= this.#total;
    if (focused) this.list.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(vote) {
    const note = vote.status === "counts" ? t(`outcome_${vote.outcome}`) : t(`status_${vote.status}`);
    const images = vote.images.map((image, n) => this.#image(vote, image, n + 1));
    const facts = [
      h("span", { class: `dspo-badge ${vote.status} ${vote.outcome}` }, note),
      h("time", { datetime: vote.time }, ago(vote.time, Date.now(), spoken())),
    ];
    return h(
      "li",
      { class: `dspo-vote-row ${vote.status}` },
      h("div", { class: "dspo-pair" }, images),
      h(
        "div",
        { class: "dspo-facts" },
        h("p", { class: "dspo-row-prompt" }, vote.prompt || t("noPrompt")),
        h("p", {}, facts),
        this.#others(vote),
      ),
    );
  }

  /** Buttons for the answers that name no winner. */
  #others(vote) {
    if (!changeable(this.place, vote)) return null;
    const made = Object.entries(OTHERS).map(([outcome, word]) =>
      button(t(word), () => vote.outcome !== outcome && this.#relabel(vote, outcome), {
        kind: "small",
        "aria-pressed": String(vote.outcome === outcome),
        "data-focus": `${vote.pair}:${outcome}`,
      }),
    );
    return h("div", { class: "dspo-row", role: "group", "aria-label": t("relabel") }, made);
  }

  #enlarge(image, n) {
    const { body } = openDialog({ title: t("imageNumber", { n }), kind: "dspo-image" });
    body.append(h("img", { src: api.imageUrl(this.place, this.set, image), alt: t("imageNumber", { n }) }));
  }

  #image(vote, image, n) {
    const chosen = vote.winner === image && vote.status === "counts";
    const source = api.imageUrl(this.place, this.set, image, THUMBNAIL);
    const img = h("img", { src: source, alt: "", loading: "lazy", decoding: "async" });
    const mark = chosen && h("span", { class: "dspo-mark" }, t("winner"));
    const offer = this.place === "blind" ? "" : t("makeWinner");
    const attributes = {
      type: "button",
      class: `dspo-thumb ${chosen ? "chosen" : ""}`,
      "aria-pressed": String(chosen),
      "aria-label": chosen ? t("winner") : offer || `${t("image")} ${n}`,
      title: chosen ? "" : offer,
      disabled: !changeable(this.place, vote),
      "data-focus": `${vote.pair}:${n}`,
      onclick: () => !chosen && this.#relabel(vote, "win", image),
    };
    const larger = button("", () => this.#enlarge(image, n), {
      kind: "icon dspo-enlarge",
      "aria-label": t("enlargeImage", { n }),
      title: t("enlarge"),
      "data-focus": `${vote.pair}:enlarge:${n}`,
    });
    larger.append(icon("pi-search-plus"));
    const framed = h("div", { class: "dspo-framed" }, h("button", attributes, img, mark), larger);
    return h("div", { class: "dspo-pick" }, framed, this.#removal(vote, image, n));
  }

  #removal(vote, image, n) {
    if (this.place === "blind") return null; // removing images by taste would bias the result
    const gone = vote.status === "removed";
    const action = gone ? api.restore : api.remove;
    return button(t(gone ? "restore" : "remove"), () => this.#do(() => action(this.place, this.set, image)), {
      kind: "quiet small",
      "aria-label": t(gone ? "restoreImage" : "removeImage", { n }),
      "data-focus": `${vote.pair}:${gone ? "restore" : "remove"}:${n}`,
    });
  }

  #relabel({ pair }, outcome, winner = null) {
    const { client, queue } = shared();
    const id = uuid();
    const body = {
      place: this.place,
      set: this.set,
      client,
      id,
      pair,
      outcome,
      winner,
      seconds: null,
      relabel: true,
    };
    return this.#do(() => queue.add({ id, path: "vote", body, at: Date.now() }));
  }

  async #do(action) {
    try {
      await action();
      await this.#load(Math.max(this.#votes.length, PAGE));
    } catch (error) {
      this.note.textContent = told(error);
      this.note.hidden = false;
    }
  }
}
