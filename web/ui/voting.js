/** The voting dialog. */
import * as api from "../api.js";
import { actionOf, takesKeys } from "../core/keymap.js";
import { Prefetcher } from "../core/prefetch.js";
import { isGrid } from "../core/question.js";
import { Rate } from "../core/rate.js";
import { VotingSession } from "../core/session.js";
import { isKnown } from "../core/taste.js";
import { STEP } from "../core/zoom.js";
import { share } from "../core/format.js";
import { uuid } from "../core/uuid.js";
import { shared } from "../studio.js";
import { t } from "../texts.js";
import { Controls } from "./controls.js";
import { openDialog } from "./dialog.js";
import { bar, h } from "./dom.js";
import { ending } from "./ending.js";
import { Grid } from "./grid.js";
import { loadQuestion } from "./images.js";
import { Info } from "./info.js";
import { dismiss } from "./notice.js";
import { Stage } from "./stage.js";
import { afterPaint } from "./still.js";
import { tasteBrief, tasteTitle } from "./taste.js";
import { troubles } from "./trouble.js";
import { finder, rememberedView, rememberView } from "./view.js";

const HELD_MS = 350; // F pressed for longer than this flickers only while held
const SETTLE_MS = 250; // from the images' being painted until an answer counts
const MANY = 8; // prompts from which on they can be searched

/** Open the dialog on a set; `closed` is called when it closes. */
export function openVoting(place, set, closed = () => {}) {
  dismiss(); // the offer to vote, or one that is stale when the voting ends
  return new Voting(place, set, closed);
}

class Voting {
  #drawn = null; // what is shown
  #taste = null; // what is known of it so far
  #flickerAt = 0;
  #stop = [];

  constructor(place, set, closed) {
    const { client, earlier, queue, watch } = shared();
    Object.assign(this, { place, set, queue, blind: place === "blind" });
    this.session = new VotingSession({
      ...{ place, set, client, earlier, queue },
      prefetcher: new Prefetcher({
        ask: (count, skip) => {
          const { grid, find } = this.session;
          return (grid ? api.groups : api.next)(place, set, client, count, skip, find);
        },
        load: (question) => loadQuestion(place, set, question),
      }),
      rate: new Rate(),
      now: Date.now,
      newId: uuid,
      changed: () => this.#draw(),
      looking: () => !document.hidden,
      grid: !this.blind && rememberedView() !== "pairs",
      settle: SETTLE_MS,
      wait: (ms) => new Promise((done) => setTimeout(done, ms)),
    });
    this.#build(closed);
    this.#stop.push(
      watch(() => this.#draw()),
      ...this.#listen(client),
      () => this.session.close(),
    );
    this.session.start();
    if (!this.blind) api.taste(set).then(({ taste }) => this.#know(taste), () => {}); // said at the end, too
  }

  #listen(client) {
    const ours = (event) => event.set === this.set && (event.place ?? this.place) === this.place;
    return [
      api.listen("voted", (event) => {
        if (ours(event) && event.client !== client) this.session.elsewhere(event.pair, event.progress, event.group);
      }),
      api.listen("taste", (event) => ours(event) && !this.blind && this.#know(event.taste)),
      api.listen("collected", (event) => ours(event) && this.session.state === "done" && this.session.retry()),
      api.onReconnect(() => this.session.reconnected()),
    ];
  }

  #build(closed) {
    this.dialog = openDialog({
      title: t(this.blind ? "blindVote" : "voteOn"),
      kind: "dspo-vote",
      onkey: (event) => this.#key(event),
      onclose: () => {
        this.#stop.forEach((each) => each());
        this.stage.destroy();
        this.grid.destroy();
        closed();
      },
    });
    this.dialog.root.addEventListener("keyup", (event) => this.#keyUp(event));
    this.controls = new Controls((action) => this.act(action), { blind: this.blind });
    this.stage = new Stage(
      (side) => this.act(side),
      () => this.#draw(),
    );
    this.grid = new Grid({ choose: (choice) => this.session.judge(choice), changed: () => this.#draw() });
    this.grid.sourceOf = (name) => api.imageUrl(this.place, this.set, name);
    this.info = new Info(this.place, this.set, (side) => this.stage.nameOf(side));
    this.counter = h("div", { class: "dspo-counter" });
    this.finder = finder((text) => this.session.search(text));
    const name = h("span", { class: "dspo-set-name" }, this.set);
    this.dialog.heading.after(name, h("span", { class: "dspo-spring" }), this.finder, this.counter);
    this.prompt = h("p", { class: "dspo-prompt" });
    this.said = h("p", { class: "dspo-said", role: "status" });
    this.trouble = h("div", { class: "dspo-trouble", role: "alert", hidden: true });
    this.wait = h("p", { class: "dspo-wait", role: "status", hidden: true }, t("loading"));
    const panels = [this.wait, this.controls.help, this.info.root];
    this.table = h("div", { class: "dspo-table" }, this.stage.root, this.grid.root, panels);
    this.end = h("div", { class: "dspo-end", hidden: true });
    this.dialog.body.append(this.table, this.prompt, this.trouble, this.controls.root, this.said, this.end);
    this.controls.fit("pair");
    this.stage.root.focus();
  }

  /** What is on screen: "grid", "stacked" or "pair". */
  get screen() {
    const question = this.session.shown?.question;
    const grid = question ? isGrid(question) : this.session.grid;
    return grid ? "grid" : this.stage.stacked ? "stacked" : "pair";
  }

  #key(event) {
    if (event.key === "Escape" && this.#closeOverlay()) return event.preventDefault();
    if (!this.end.hidden && event.key.toLowerCase() !== "u") return; // nothing else is on screen
    const marking = event.key === "Enter" && this.grid.marks.any && this.grid.root.contains(event.target);
    const onButton = event.target.closest?.("button, a") && ["Enter", " "].includes(event.key) && !marking;
    const action = onButton || takesKeys(event.target) ? null : actionOf(event, this.screen);
    if (!action || action === "close") return;
    event.preventDefault();
    if (action === "flicker") this.#flickerAt = performance.now();
    this.act(action);
  }

  #keyUp(event) {
    if (event.key.toLowerCase() === "f" && this.stage.flicker && performance.now() - this.#flickerAt > HELD_MS)
      this.stage.stopFlicker();
    this.#pressed();
  }

  /** Escape first closes what covers the images. */
  #closeOverlay() {
    if (!this.controls.help.hidden) this.controls.help.hidden = true;
    else if (this.info.shown) this.info.toggle();
    else if (!this.grid.large.hidden) this.grid.closeLarge();
    else if (this.stage.flicker) this.stage.stopFlicker();
    else if (this.stage.sliding) this.stage.stopSlider();
    else return false;
    this.#pressed();
    return true;
  }

  /** Perform the action of a key or button. */
  act(action) {
    const act = this.#others()[action] ?? (this.screen === "grid" ? this.#onGrid(action) : this.#onPair(action));
    act?.();
    this.#pressed();
  }

  #others() {
    return {
      undo: () => this.session.undo(),
      help: () => (this.controls.help.hidden = !this.controls.help.hidden),
      info: () => !this.blind && this.info.toggle(this.session.shown?.question),
      view: () => !this.blind && this.#turnView(),
    };
  }

  #onPair(action) {
    const { stage, session } = this;
    const asking = session.state === "asking";
    const looks = {
      zoom: () => stage.toggleZoom(),
      zoomIn: () => stage.zoomBy(STEP),
      zoomOut: () => stage.zoomBy(1 / STEP),
      panLeft: () => stage.pan(0.1, 0),
      panRight: () => stage.pan(-0.1, 0),
      panUp: () => stage.pan(0, 0.1),
      panDown: () => stage.pan(0, -0.1),
      flicker: () => asking && stage.toggleFlicker(),
      slider: () => asking && stage.toggleSlider(),
    };
    return looks[action] ?? (() => session.vote(action));
  }

  #onGrid(action) {
    const { grid, session } = this;
    const [, kind, digit] = action.match(/^(pick|rank)([1-9])$/) ?? [];
    if (digit) return () => grid.pick(Number(digit) - 1, kind === "rank");
    return {
      tie: () => session.judge({}),
      skip: () => session.judge({ skip: true }),
      allBad: () => grid.allBad(),
      done: () => grid.done(),
      ranking: () => grid.use("ranking"),
      markBad: () => grid.use("markBad"),
      enlarge: () => (grid.large.hidden ? grid.enlarge() : grid.closeLarge()),
      focusLeft: () => grid.focus(-1, 0),
      focusRight: () => grid.focus(1, 0),
      focusUp: () => grid.focus(0, -1),
      focusDown: () => grid.focus(0, 1),
    }[action];
  }

  #turnView() {
    const grid = !this.session.grid;
    rememberView(grid ? "grid" : "pairs");
    this.session.showGrid(grid);
  }

  #pressed() {
    const { stage, grid } = this;
    this.controls.press({
      zoom: stage.view.scale > 1,
      flicker: stage.flicker,
      slider: stage.sliding,
      ranking: grid.tool === "ranking",
      markBad: grid.tool === "markBad",
      enlarge: !grid.large.hidden,
      info: this.info.shown,
      help: !this.controls.help.hidden,
    });
  }

  #draw() {
    if (!this.end) return; // not built yet
    const { state, shown } = this.session;
    const done = state === "done";
    if (this.#drawn !== shown) this.#show(shown);
    this.controls.fit(this.screen);
    this.wait.hidden = state !== "loading";
    const answering = state === "asking" && !shown.images.broken;
    this.controls.enable({ answering, skipping: state === "asking", done: this.grid.marks.any });
    this.said.textContent = this.#lastWords();
    this.#pressed();
    this.#drawCounter();
    this.#drawTrouble();
    this.dialog.root.classList.toggle("ended", done);
    if (done && this.end.hidden) this.#finish();
    if (!done && !this.end.hidden) {
      this.end.hidden = true;
      this.#focus();
    }
  }

  #show(shown) {
    this.#drawn = shown;
    this.dialog.root.removeAttribute("data-painted");
    const grid = isGrid(shown?.question);
    const choosing = this.grid.root.contains(document.activeElement) && document.activeElement.matches(":focus-visible");
    if (shown) {
      this.dialog.heading.textContent = t(this.blind ? "blindVote" : grid ? "voteBest" : "voteOn");
      this.grid.root.hidden = !grid;
      this.stage.root.hidden = grid;
      this.prompt.textContent = shown.question.prompt || t("noPrompt");
      this.prompt.scrollTop = 0;
      this.prompt.toggleAttribute("tabindex", false);
      if (this.prompt.scrollHeight > this.prompt.clientHeight + 1) this.prompt.tabIndex = 0; // to scroll it by keys
    }
    this.stage.show(grid ? null : shown?.images);
    this.grid.show(grid ? shown.images : null);
    this.info.follow(shown?.question);
    if (!shown) return;
    if (choosing && grid) this.grid.focus(0, 0);
    else if (!this.dialog.root.contains(document.activeElement) || choosing) this.#focus();
    afterPaint(() => this.#painted(shown));
  }

  #painted(shown) {
    if (this.session.shown !== shown) return;
    this.session.painted();
    this.dialog.root.setAttribute("data-painted", "");
  }

  #focus() {
    (this.screen === "grid" ? this.grid : this.stage).root.focus();
  }

  #lastWords() {
    const { last } = this.session;
    if (!last) return this.grid.marks.any ? t("marksWait") : "";
    const { kind } = last;
    const sides = this.stage.stacked ? { left: "top", right: "bottom" } : {};
    return this.grid.marks.any && kind !== "early" ? t("marksWait") : t(`said_${sides[kind] ?? kind}`);
  }

  #drawCounter() {
    const { counts, progress, find } = this.session;
    if (!counts) return;
    const few = progress.groups_total <= MANY || this.session.state === "done";
    this.finder.hidden = this.blind || (few && !find);
    const text = t("counter", counts);
    const rate = this.session.rate.perMinute();
    this.counter.replaceChildren(
      h("strong", {}, text),
      bar(share(counts.answered, counts.total), text),
      h("span", {}, t("pairsLeft", counts)),
      h("span", { class: "dspo-rate" }, rate ? t("rate", { rate: Math.round(rate) }) : ""),
      this.#known(),
    );
  }

  /** In passing; at the end, the whole sentence is said. */
  #known() {
    if (!isKnown(this.#taste) || this.session.state === "done") return "";
    return h("span", { class: "dspo-known", title: tasteTitle(this.#taste) }, tasteBrief(this.#taste));
  }

  #know(taste) {
    this.#taste = taste;
    this.#draw();
  }

  #drawTrouble() {
    const lines = troubles(this.queue, this.session);
    const key = lines.map((line) => line.textContent).join("\n");
    // A screen reader reads an alert whenever it changes: insert only what is new.
    if (key !== this.trouble.dataset.key) this.trouble.replaceChildren(...lines);
    this.trouble.dataset.key = key;
    this.trouble.hidden = !lines.length;
  }

  #finish() {
    const { place, set, session } = this;
    const act = (action) => this.act(action);
    this.dialog.heading.textContent = t("reviewTitle", { set });
    const { heading, body } = ending({ place, set, session, act, close: () => this.dialog.close() });
    this.end.replaceChildren(...body);
    this.end.hidden = false;
    if (document.activeElement !== this.finder) heading.focus();
  }
}
