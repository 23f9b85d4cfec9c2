/** The tab in ComfyUI's sidebar: how to start, sets, blind tests, runs, folders and the bin. */
import * as api from "../api.js";
import { bySection, fits, isEmpty, MANY, stateOf } from "../core/panel.js";
import { t, told } from "../texts.js";
import { Bin, footNote } from "./bin.js";
import { CardList } from "./card_list.js";
import { keepKeys } from "./dialog.js";
import { button, h, icon } from "./dom.js";
import { fold } from "./fold.js";
import { acceptImages, openGather } from "./gather.js";
import { runCard, runText } from "./run_card.js";
import { setCard, titleOf, worded } from "./set_card.js";
import { startCard } from "./start_card.js";

const SOON_MS = 400;
const NAMES = ["sets", "blind", "runs", "folders"];
const HINTS = { sets: "emptyText", blind: "noBlind", runs: "noRuns" };

export class Sidebar {
  #stop = [];
  #asking = null;
  #again = 0;
  #reading = false;
  #dead = false;
  #rows = { sets: [], blind: [], runs: [], folders: [] };

  constructor(host) {
    this.foot = footNote();
    this.bin = new Bin({ changed: () => this.refreshed(), foot: this.foot });
    this.start = startCard({ trouble: (error) => this.foot.say(told(error)), done: () => this.soon() });
    this.note = h("p", { class: "dspo-note", role: "status" }, t("loading"));
    this.filter = h("input", {
      type: "search",
      class: "dspo-filter",
      "aria-label": t("filterPanel"),
      placeholder: t("filterPanel"),
      title: t("filterKey"),
      autocomplete: "off",
      spellcheck: "false",
      hidden: true,
      oninput: () => this.#show(),
      onkeydown: (event) => event.key === "Escape" && this.#unfilter(event),
    });
    this.none = h("p", { class: "dspo-muted", role: "status", hidden: true }, t("noMatch"));
    this.sections = Object.fromEntries(NAMES.map((name) => [name, this.#section(name)]));
    const sections = NAMES.map((name) => this.sections[name].root);
    const parts = [
      head(() => this.refresh()),
      this.note,
      this.start.root,
      this.filter,
      this.none,
      sections,
      this.bin.root,
    ];
    this.root = h(
      "div",
      { class: "dspo dspo-panel", role: "region", "aria-label": t("title"), tabindex: -1 },
      ...parts,
      this.foot.root,
    );
    this.start.root.hidden = true;
    keepKeys(this.root);
    this.root.addEventListener("keydown", (event) => this.#key(event));
    acceptImages(this.root, () => this.soon());
    host.replaceChildren(this.root);
    for (const name of ["collected", "blind", "voted", "lora_saved", "moved", "run_state", "taste"])
      this.#stop.push(api.listen(name, () => this.soon()));
    this.#stop.push(
      api.listen("run", (event) => this.#runHeard(event)),
      api.onReconnect(() => this.soon()),
    );
    // ComfyUI keeps the focus on its tab button while it renders.
    setTimeout(() => !this.#dead && this.root.focus({ preventScroll: true }), 0);
    this.refresh();
  }

  destroy() {
    this.#dead = true;
    clearTimeout(this.#again);
    this.foot.close();
    this.#stop.forEach((each) => each());
    NAMES.forEach((name) => this.sections[name].list.destroy());
  }

  /** Refresh soon, once for many events, and not behind an open dialog. */
  soon() {
    clearTimeout(this.#again);
    const covered = () => document.querySelector("dialog.dspo[open]");
    this.#again = setTimeout(() => (covered() ? this.soon() : this.refresh()), SOON_MS);
  }

  refresh() {
    this.#asking ??= this.#refresh().finally(() => (this.#asking = null));
    return this.#asking;
  }

  /** After a change: what was asked for before it does not count. */
  async refreshed() {
    await this.#asking;
    await this.refresh();
  }

  async #refresh() {
    try {
      const [{ sets, more }, { runs }, { entries }] = await Promise.all([api.sets(), api.runs(), api.bin()]);
      if (this.#dead) return;
      this.note.hidden = true;
      this.#rows = { ...bySection(sets), runs };
      this.start.root.hidden = false;
      this.start.show(isEmpty(sets, runs));
      this.bin.show(entries);
      this.#show();
      if (more) this.#readOn();
    } catch (error) {
      this.note.replaceChildren(
        told(error),
        button(t("tryAgain"), () => this.refresh(), { kind: "small" }),
      );
      this.note.hidden = false;
    }
  }

  /** Of very many sets, the server reads those that it does not know yet a second at a time. */
  async #readOn() {
    if (this.#reading) return;
    this.#reading = true;
    for (let more = true; more && !this.#dead;) {
      await new Promise((done) => setTimeout(done, SOON_MS));
      const answer = await api.sets().catch(() => null); // the next refresh says what is wrong
      if (!answer || this.#dead) break;
      more = answer.more;
      this.#rows = { ...this.#rows, ...bySection(answer.sets) };
      this.#show();
    }
    this.#reading = false;
  }

  /** The rows that the filter lets through. */
  #show() {
    const rows = this.#rows;
    this.filter.hidden = NAMES.reduce((sum, name) => sum + rows[name].length, 0) < MANY && !this.filter.value;
    const wanted = this.filter.hidden ? "" : this.filter.value.trim();
    const fresh = isEmpty([...rows.sets, ...rows.blind], rows.runs);
    for (const name of NAMES) {
      const section = this.sections[name];
      const text = name === "runs" ? runText : setText;
      const shown = wanted ? rows[name].filter((row) => fits(text(row), wanted)) : rows[name];
      section.count(wanted ? `${shown.length} / ${rows[name].length}` : rows[name].length || null);
      section.hint.hidden = rows[name].length > 0;
      const nothing = rows[name].length === 0 && (fresh || name === "folders");
      section.root.hidden = nothing || (wanted !== "" && shown.length === 0);
      section.list.show(shown);
    }
    this.none.hidden = !wanted || NAMES.some((name) => !this.sections[name].root.hidden);
  }

  #section(name) {
    const section = fold(name, t(name));
    const make = name === "runs" ? runCard : setCard;
    const list = new CardList({
      key: name === "runs" ? ({ run }) => run : keyOf,
      make: (row, n) => make(row, this.#hand(n)),
    });
    const hint = h("p", { class: "dspo-muted" }, name in HINTS ? t(HINTS[name]) : "");
    section.body.append(hint, list.root);
    return { ...section, list, hint };
  }

  /** What a card may do to the panel; `place`: its own in the list. */
  #hand(place) {
    return {
      place,
      changed: () => this.soon(),
      rename: (...what) => this.bin.rename(...what),
      remove: (...what) => this.bin.remove(...what),
      collect: (folder) => openGather(() => this.soon(), { source: "input", folder }),
    };
  }

  #runHeard({ run, step, steps, seconds_left, learned, round = null }) {
    const known = this.#rows.runs.some((each) => each.run === run);
    this.sections.runs.list.card(run)?.update({ state: "running", step, steps, seconds_left, learned, round });
    if (step >= steps || !known) this.soon();
  }

  #key(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || this.filter.hidden) return;
    if (event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    this.filter.focus();
    this.filter.select();
  }

  #unfilter(event) {
    event.preventDefault();
    event.stopPropagation();
    this.filter.value = "";
    this.#show();
  }
}

const keyOf = ({ place, set }) => `${place}:${set}`;

/** What the filter looks through. */
function setText(row) {
  const state = row.layout === "folder" ? t(row.example ? "example" : "folders") : worded(stateOf(row));
  return `${titleOf(row)} ${row.set} ${state}`;
}

function head(refresh) {
  const again = button("", refresh, { kind: "quiet icon", "aria-label": t("refresh"), title: t("refresh") });
  again.append(icon("pi-refresh"));
  return h("header", { class: "dspo-head" }, h("h2", {}, t("title")), h("span", { class: "dspo-spring" }), again);
}
