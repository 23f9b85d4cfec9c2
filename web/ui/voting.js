/** The voting dialog. */
import * as api from "../api.js";
import { actionOf, takesKeys } from "../core/keymap.js";
import { Prefetcher } from "../core/prefetch.js";
import { Rate } from "../core/rate.js";
import { VotingSession } from "../core/session.js";
import { STEP } from "../core/zoom.js";
import { share } from "../core/format.js";
import { uuid } from "../core/uuid.js";
import { shared } from "../studio.js";
import { t } from "../texts.js";
import { openDialog } from "./dialog.js";
import { bar, button, h } from "./dom.js";
import { loadPair } from "./images.js";
import { resultPanel } from "./result.js";
import { Stage } from "./stage.js";
import { troubles } from "./trouble.js";

const HELD_MS = 350; // F pressed for longer than this flickers only while held
const HELP = [
  ["←", "left"],
  ["→", "right"],
  ["↓", "tie"],
  ["S", "skip"],
  ["U", "undo"],
  ["Z  +  −", "zoom"],
  ["Shift ← ↑ ↓ →", "pan"],
  ["F", "flicker"],
  ["?", "help"],
  ["Esc", "close"],
];
const BAR = [
  ["left", "←"],
  ["tie", "↓"],
  ["right", "→"],
  ["skip", "S"],
  ["undo", "U"],
  ["zoom", "Z"],
  ["flicker", "F"],
  ["help", "?"],
];

/** Open the dialog on a set; `closed` is called when it closes. */
export function openVoting(place, set, closed = () => {}) {
  return new Voting(place, set, closed);
}

class Voting {
  #drawn = null; // what the stage shows
  #flickerAt = 0;
  #stop = [];

  constructor(place, set, closed) {
    const { client, queue, watch } = shared();
    Object.assign(this, { place, set, queue });
    this.session = new VotingSession({
      place,
      set,
      client,
      queue,
      prefetcher: new Prefetcher({
        ask: (count, skip) => api.next(place, set, client, count, skip),
        load: (question) => loadPair(place, set, question),
      }),
      rate: new Rate(),
      now: Date.now,
      newId: uuid,
      changed: () => this.#draw(),
      looking: () => !document.hidden,
    });
    this.#build(closed);
    this.#stop.push(
      watch(() => this.#draw()),
      ...this.#listen(client),
    );
    this.session.start();
  }

  #listen(client) {
    const ours = (event) => event.set === this.set && (event.place ?? this.place) === this.place;
    return [
      api.listen("voted", (event) => {
        if (ours(event) && event.client !== client) this.session.elsewhere(event.pair, event.progress);
      }),
      api.listen("collected", (event) => ours(event) && this.session.state === "done" && this.session.retry()),
    ];
  }

  #build(closed) {
    this.dialog = openDialog({
      title: t(this.place === "blind" ? "blindVote" : "voteOn"),
      kind: "dspo-vote",
      onkey: (event) => this.#key(event),
      onclose: () => {
        this.#stop.forEach((each) => each());
        this.stage.destroy();
        closed();
      },
    });
    this.dialog.root.addEventListener("keyup", (event) => this.#keyUp(event));
    this.stage = new Stage((side) => this.act(side));
    this.counter = h("div", { class: "dspo-counter" });
    this.dialog.heading.after(
      h("span", { class: "dspo-set-name" }, this.set),
      h("span", { class: "dspo-spring" }),
      this.counter,
    );
    this.prompt = h("p", { class: "dspo-prompt" });
    this.said = h("p", { class: "dspo-said", role: "status" });
    this.trouble = h("div", { class: "dspo-trouble", role: "alert", hidden: true });
    this.buttons = Object.fromEntries(BAR.map(([action, key]) => [action, this.#control(action, key)]));
    this.controls = h(
      "div",
      { class: "dspo-controls", role: "toolbar", "aria-label": t("help") },
      Object.values(this.buttons),
    );
    this.helpPanel = helpPanel();
    this.wait = h("p", { class: "dspo-wait", role: "status", hidden: true }, t("loading"));
    this.table = h("div", { class: "dspo-table" }, this.stage.root, this.wait, this.helpPanel);
    this.end = h("div", { class: "dspo-end", hidden: true });
    this.dialog.body.append(this.table, this.prompt, this.trouble, this.controls, this.said, this.end);
    this.stage.root.focus();
  }

  #control(action, key) {
    const kind = ["left", "tie", "right"].includes(action) ? "choice" : "quiet";
    const made = button("", () => this.act(action), { kind, "aria-keyshortcuts": key });
    made.append(t(action), h("kbd", { "aria-hidden": "true" }, key));
    return made;
  }

  #key(event) {
    if (event.key === "Escape" && this.#closeOverlay()) return event.preventDefault();
    const onButton = event.target.closest?.("button, a") && ["Enter", " "].includes(event.key);
    const action = onButton || takesKeys(event.target) ? null : actionOf(event);
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
    if (!this.helpPanel.hidden) this.helpPanel.hidden = true;
    else if (this.stage.flicker) this.stage.stopFlicker();
    else return false;
    this.#pressed();
    return true;
  }

  /** Perform the action of a key or button. */
  act(action) {
    const { stage, session } = this;
    const others = {
      undo: () => session.undo(),
      zoom: () => stage.toggleZoom(),
      zoomIn: () => stage.zoomBy(STEP),
      zoomOut: () => stage.zoomBy(1 / STEP),
      panLeft: () => stage.pan(0.1, 0),
      panRight: () => stage.pan(-0.1, 0),
      panUp: () => stage.pan(0, 0.1),
      panDown: () => stage.pan(0, -0.1),
      flicker: () => session.state === "asking" && stage.toggleFlicker(),
      help: () => (this.helpPanel.hidden = !this.helpPanel.hidden),
    };
    (others[action] ?? (() => session.vote(action)))();
    this.#pressed();
  }

  #pressed() {
    this.buttons.zoom.setAttribute("aria-pressed", this.stage.view.scale > 1);
    this.buttons.flicker.setAttribute("aria-pressed", Boolean(this.stage.flicker));
    this.buttons.help.setAttribute("aria-expanded", !this.helpPanel.hidden);
  }

  #draw() {
    if (!this.stage) return;
    const { state, shown, last } = this.session;
    const done = state === "done";
    if (this.#drawn !== shown) {
      this.#drawn = shown;
      this.stage.show(shown?.images);
      if (shown) this.prompt.textContent = shown.question.prompt || t("noPrompt");
      this.#pressed();
    }
    this.wait.hidden = state !== "loading";
    for (const action of ["left", "right", "tie"])
      this.buttons[action].disabled = state !== "asking" || shown.images.broken;
    this.buttons.skip.disabled = state !== "asking";
    this.said.textContent = last ? t(`said_${last.kind}`) : "";
    this.#drawCounter();
    this.#drawTrouble();
    this.dialog.root.classList.toggle("ended", done);
    if (done && this.end.hidden) this.#finish();
    if (!done && !this.end.hidden) {
      this.end.hidden = true;
      this.stage.root.focus();
    }
  }

  #drawCounter() {
    const { counts } = this.session;
    if (!counts) return;
    const text = t("counter", counts);
    const rate = this.session.rate.perMinute();
    this.counter.replaceChildren(
      h("strong", {}, text),
      bar(share(counts.answered, counts.total), text),
      h("span", {}, t("pairsLeft", counts)),
      h("span", { class: "dspo-rate" }, rate ? t("rate", { rate: Math.round(rate) }) : ""),
    );
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
    this.end.hidden = false;
    const blind = this.place === "blind";
    const { answered = 0, wins, ties, skips } = this.session.progress ?? {};
    const title = this.session.passed ? "passedTitle" : blind ? "blindDoneTitle" : "doneTitle";
    const heading = h("h3", { tabindex: -1 }, t(answered || this.session.passed ? title : "emptyTitle"));
    const text = answered ? t("doneText", { wins, ties, skips }) : t("doneEmpty");
    const undo = button(t("undo"), () => this.act("undo"), { kind: "quiet" });
    const close = button(t("close"), () => this.dialog.close(), { kind: "primary" });
    const { passed } = this.session;
    const again = button(t("tryAgain"), () => this.session.retry(), { kind: "quiet" });
    this.end.replaceChildren(
      heading,
      blind && answered ? resultPanel(this.set) : h("p", {}, text),
      passed ? h("p", {}, t("passedOver", { count: passed }), " ", again) : "",
      h("div", { class: "dspo-row" }, answered ? undo : "", close),
    );
    heading.focus();
  }
}

function helpPanel() {
  const rows = HELP.map(([keys, action]) =>
    h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, t(`key_${action}`))),
  );
  return h("section", { class: "dspo-help", "aria-label": t("help"), hidden: true }, h("dl", {}, rows));
}
