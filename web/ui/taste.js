/** How well a taste is known, and the images of a set in its order. */
import * as api from "../api.js";
import { percent } from "../core/format.js";
import { briefOf, isKnown, sentenceOf } from "../core/taste.js";
import { counted, t, told } from "../texts.js";
import { openDialog } from "./dialog.js";
import { bar, button, h } from "./dom.js";

const PAGE = 60;
const THUMBNAIL = 320; // pixels, for screens of twice the density

const worded = (said) => (said ? t(said.key, said.values) : "");

/** What the figures are, below the sentence itself: for a title. */
export const tasteTitle = (taste) => `${worded(sentenceOf(taste))}\n${t("tasteMeaning")}`;

export const tasteBrief = (taste) => worded(briefOf(taste));

/** The sentence after all votes, with a button that shows the images in that order; nothing without features. */
export function tasteLine(set) {
  const root = h("div", { class: "dspo-taste", role: "status", hidden: true });
  api.taste(set).then(
    ({ taste }) => {
      if (!taste) return root.remove();
      const sorted = button(t("sortedByTaste"), () => openRanked(set), { kind: "small", "data-focus": "ranked" });
      root.append(h("p", { title: t("tasteMeaning") }, worded(sentenceOf(taste))), isKnown(taste) ? sorted : "");
      root.hidden = false;
    },
    () => root.remove(), // the summary stands by itself
  );
  return root;
}

/** The images of a set, those first that the taste prefers. */
export function openRanked(set) {
  return new Ranked(set);
}

class Ranked {
  #shown = 0;

  constructor(set) {
    this.set = set;
    this.dialog = openDialog({ title: t("sortedTitle", { set }), kind: "dspo-ranked" });
    this.said = h("p", { role: "status" }, t("loading"));
    this.list = h("ol", { class: "dspo-ranks" });
    this.more = button(t("more"), () => this.#load(), { hidden: true });
    this.dialog.body.append(this.said, this.list, this.more);
    this.#load();
  }

  async #load() {
    this.more.disabled = true;
    try {
      const { images, total, unseen, taste } = await api.ranked(this.set, this.#shown, PAGE);
      this.list.append(...images.map((each, n) => this.#tile(each, this.#shown + n + 1)));
      this.#shown += images.length;
      this.more.hidden = !images.length || this.#shown >= total;
      const lines = [total ? worded(sentenceOf(taste)) : t("sortedNone"), unseen && total && counted("sortedUnseen", unseen)];
      this.said.textContent = lines.filter(Boolean).join(" ");
      this.said.title = t("tasteMeaning");
    } catch (error) {
      this.said.textContent = told(error);
      this.more.hidden = false;
    } finally {
      this.more.disabled = false;
    }
  }

  #tile({ image, prompt, share }, place) {
    const text = t("sortedShare", { share: percent(share) });
    const picture = h("img", {
      src: api.imageUrl("sets", this.set, image, THUMBNAIL),
      alt: "",
      loading: "lazy",
      decoding: "async",
    });
    const look = button("", () => this.#enlarge(image, prompt, text), {
      kind: "dspo-rank-picture",
      "aria-label": `${t("imageNumber", { n: place })}: ${text}. ${prompt}`,
      title: `${text}\n${prompt}`,
      "data-focus": `rank:${image}`,
    });
    look.append(picture);
    const facts = h("p", { "aria-hidden": "true" }, h("span", {}, place), bar(share, text), h("strong", {}, percent(share)));
    return h("li", {}, look, facts);
  }

  #enlarge(image, prompt, text) {
    const { body } = openDialog({ title: text, kind: "dspo-image" });
    body.append(h("img", { src: api.imageUrl("sets", this.set, image), alt: prompt }));
  }
}
