/** The tab in ComfyUI's sidebar: sets, blind tests, runs. */
import * as api from "../api.js";
import { ago, share } from "../core/format.js";
import { spoken, t } from "../texts.js";
import { keepKeys } from "./dialog.js";
import { bar, button, h, icon } from "./dom.js";
import { acceptImages } from "./gather.js";
import { openResult } from "./result.js";
import { openReview } from "./review.js";
import { runItem } from "./run_view.js";
import { openExport, openImport } from "./transfer.js";
import { openVoting } from "./voting.js";

const SOON_MS = 400;

export class Sidebar {
  #stop = [];
  #runs = [];
  #asking = null;
  #again = 0;
  #dead = false;

  constructor(host) {
    const refresh = button("", () => this.refresh(), {
      kind: "quiet icon",
      "aria-label": t("refresh"),
      title: t("refresh"),
    });
    refresh.append(icon("pi-refresh"));
    const head = h(
      "header",
      { class: "dspo-head" },
      h("h2", {}, t("title")),
      h("span", { class: "dspo-spring" }),
      refresh,
    );
    this.note = h("p", { class: "dspo-note", role: "status" }, t("loading"));
    this.sections = Object.fromEntries(["sets", "blind", "runs"].map((name) => [name, section(name)]));
    this.root = h(
      "div",
      { class: "dspo dspo-panel", role: "region", "aria-label": t("title"), tabindex: -1 },
      head,
      this.note,
      Object.values(this.sections).map(({ root }) => root),
    );
    keepKeys(this.root);
    acceptImages(this.root, () => this.refresh());
    host.replaceChildren(this.root);
    for (const name of ["collected", "blind", "voted", "lora_saved"])
      this.#stop.push(api.listen(name, () => this.soon()));
    this.#stop.push(api.listen("run", (event) => this.#runHeard(event)));
    // ComfyUI keeps the focus on its tab button while it renders.
    setTimeout(() => !this.#dead && this.root.focus({ preventScroll: true }), 0);
    this.refresh();
  }

  destroy() {
    this.#dead = true;
    clearTimeout(this.#again);
    this.#stop.forEach((each) => each());
    this.#runs.forEach((each) => each.destroy());
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

  async #refresh() {
    try {
      const [{ sets }, { runs }] = await Promise.all([api.sets(), api.runs()]);
      if (this.#dead) return;
      this.note.hidden = true;
      this.#fill(
        "sets",
        sets.filter(({ place }) => place === "sets").map((each) => this.#set(each)),
        emptySets,
      );
      this.#fill(
        "blind",
        sets.filter(({ place }) => place === "blind").map((each) => this.#set(each)),
        () => muted("noBlind"),
      );
      this.#fillRuns(runs);
    } catch (error) {
      this.note.replaceChildren(
        error.permanent ? error.message : t("serverSilent"),
        button(t("tryAgain"), () => this.refresh(), { kind: "small" }),
      );
      this.note.hidden = false;
    }
  }

  #fill(name, items, empty) {
    const focused = document.activeElement?.dataset?.focus;
    this.sections[name].list.replaceChildren(...(items.length ? items : [empty()]));
    const heir = focused && document.activeElement === document.body;
    if (heir) (this.root.querySelector(`[data-focus="${CSS.escape(focused)}"]`) ?? this.root).focus();
  }

  /** Keeps the open curves of runs: the list is rebuilt only when new runs appear. */
  #fillRuns(runs) {
    const names = (list) => list.map(({ run }) => run).join("\n");
    if (runs.length && names(runs) === names(this.#runs)) return runs.forEach((each, n) => this.#runs[n].update(each));
    const open = new Set(this.#runs.filter(({ root }) => root.open).map(({ run }) => run));
    this.#runs.forEach((each) => each.destroy());
    this.#runs = runs.map((each, n) => runItem(each, open.has(each.run) || (n === 0 && !each.finished)));
    this.#fill(
      "runs",
      this.#runs.map(({ root }) => root),
      () => muted("noRuns"),
    );
  }

  #runHeard({ run, step, steps }) {
    const known = this.#runs.find((each) => each.run === run);
    known?.update({ step, steps, finished: false });
    if (step >= steps || !known) this.soon();
  }

  #set({ place, set, layout, progress, updated }) {
    const when = ago(updated, Date.now(), spoken());
    const title = h(
      "div",
      { class: "dspo-title" },
      h("span", { class: "dspo-name", title: set }, set),
      h("time", { datetime: updated }, when),
    );
    if (!progress && layout === "collected")
      return h("li", { class: "dspo-item" }, title, h("p", { class: "dspo-warning" }, t("unreadable")));
    if (!progress) return folderItem(title, { set, layout }, () => this.refresh());
    const text = t("answeredOf", progress);
    const finished = progress.open === 0;
    const vote = () => openVoting(place, set, () => this.soon());
    const focus = (action) => ({ "data-focus": `${action}:${place}:${set}` });
    const actions = [
      !finished && button(t(progress.answered ? "resume" : "vote"), vote, { kind: "primary", ...focus("vote") }),
      place === "blind" &&
        button(t("result"), () => openResult(set), { kind: finished ? "primary" : "", ...focus("result") }),
      progress.answered > 0 && button(t("review"), () => openReview(place, set), focus("review")),
      place === "sets" && progress.answered > 0 && button(t("export"), () => openExport(place, set), focus("export")),
    ];
    return h(
      "li",
      { class: "dspo-item" },
      title,
      bar(share(progress.answered, progress.total), `${set}: ${text}`),
      h("p", { class: "dspo-muted" }, text),
      h("div", { class: "dspo-row" }, actions),
    );
  }
}

function section(name) {
  const list = h("ul", { class: "dspo-list" });
  if (name === "runs") list.setAttribute("role", "presentation");
  return { list, root: h("section", { "aria-label": t(name) }, h("h3", {}, t(name)), list) };
}

const muted = (key) => h("li", { class: "dspo-muted" }, t(key));

const emptySets = () =>
  h("li", { class: "dspo-empty" }, icon("pi-images"), h("strong", {}, t("emptyTitle")), h("p", {}, t("emptyText")));

function folderItem(title, { set, layout }, done) {
  const bring = button(t("import"), () => openImport(set, done), { "data-focus": `import:${set}` });
  return h(
    "li",
    { class: "dspo-item", "data-layout": layout },
    title,
    h("p", { class: "dspo-muted" }, t("folder")),
    h("div", { class: "dspo-row" }, bring),
  );
}
