/** The buttons of the voting dialog and the list of its keys, for what is on screen. */
import { t } from "../texts.js";
import { button, h } from "./dom.js";

const LOOKING = [
  ["zoom", "Z"],
  ["flicker", "F"],
  ["slider", "C"],
];
const ASIDE = [
  ["info", "I"],
  ["view", "V"],
  ["help", "?"],
];
const PAIR = { answers: ["left", "tie", "right", "bad"], tools: LOOKING };
const SCREENS = {
  pair: { ...PAIR, keys: { left: "←", tie: "↓", right: "→", bad: "B" } },
  stacked: { ...PAIR, keys: { left: "↑", tie: "T", right: "↓", bad: "B" } },
  grid: {
    answers: ["tie", "allBad", "done"],
    keys: { tie: "T", allBad: "X", done: "Enter" },
    tools: [
      ["ranking", "R"],
      ["markBad", "B"],
      ["enlarge", "Z"],
    ],
  },
};

const PAIR_HELP = [
  ["T", "tie"],
  ["B", "bothBad"],
  ["S", "skip"],
  ["U", "undo"],
  ["Z  +  −", "zoom"],
  ["Shift ← ↑ ↓ →", "pan"],
  ["F", "flicker"],
  ["C", "slider"],
];
const ASIDE_HELP = [
  ["I", "info"],
  ["V", "view"],
  ["?", "help"],
  ["Esc", "close"],
];
const HELP = {
  pair: [["←", "left"], ["→", "right"], ["↓", "tie"], ...PAIR_HELP.slice(1)],
  stacked: [["↑", "top"], ["↓", "bottom"], ...PAIR_HELP],
  grid: [
    ["1 … 9", "pick"],
    ["Shift 1 … 9", "rank"],
    ["R", "ranking"],
    ["B", "markBad"],
    ["Enter", "done"],
    ["T", "none"],
    ["X", "allBad"],
    ["S", "skip"],
    ["U", "undo"],
    ["Z", "enlarge"],
    ["← ↑ ↓ →", "focus"],
  ],
};

const WORDS = {
  pair: { bad: "bothBad" },
  stacked: { left: "top", right: "bottom", bad: "bothBad" },
  grid: { tie: "noneBetter" },
};

export class Controls {
  buttons = {};
  screen = null;

  /** `act(action)`; a blind test has neither seeds to show nor a grid. */
  constructor(act, { blind }) {
    this.act = act;
    this.aside = ASIDE.filter(([action]) => !blind || action === "help");
    this.answers = h("div", { class: "dspo-answers" });
    this.tools = h("div", { class: "dspo-tools" });
    this.root = h("div", { class: "dspo-controls", role: "toolbar", "aria-label": t("help") }, this.answers, this.tools);
    this.help = h("section", { class: "dspo-help", "aria-label": t("help"), tabindex: -1, hidden: true });
  }

  /** Fit what is on screen: "pair", "stacked" or "grid". */
  fit(screen) {
    if (screen === this.screen) return;
    this.screen = screen;
    this.buttons = {};
    const { answers, keys, tools } = SCREENS[screen];
    this.answers.replaceChildren(...answers.map((action) => this.#button(action, keys[action], "choice")));
    const others = [["skip", "S"], ["undo", "U"], ...tools, ...this.aside];
    this.tools.replaceChildren(...others.map(([action, key]) => this.#button(action, key, "quiet")));
    const rows = [...HELP[screen], ...ASIDE_HELP.filter(([, name]) => name === "close" || this.buttons[name])];
    this.help.replaceChildren(h("dl", {}, rows.map(helpRow)));
  }

  #button(action, key, kind) {
    const made = button("", () => this.act(action), { kind, "aria-keyshortcuts": key, "data-action": action });
    made.append(h("span", {}, t(this.#word(action))), h("kbd", { "aria-hidden": "true" }, key));
    return (this.buttons[action] = made);
  }

  #word(action) {
    if (action === "view") return this.screen === "grid" ? "viewPairs" : "viewGrid";
    return WORDS[this.screen][action] ?? action;
  }

  /** What can be pressed now. */
  enable({ answering, skipping, done }) {
    for (const action of SCREENS[this.screen].answers)
      this.buttons[action].disabled = !answering || (action === "done" && !done);
    this.buttons.done?.classList.toggle("primary", done);
    this.buttons.skip.disabled = !skipping;
  }

  /** Which of the tools are in use: {zoom: true, ...}. */
  press(pressed) {
    for (const [action, on] of Object.entries(pressed)) {
      const state = ["info", "help"].includes(action) ? "aria-expanded" : "aria-pressed";
      this.buttons[action]?.setAttribute(state, Boolean(on));
    }
  }
}

const helpRow = ([keys, name]) =>
  h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, t(`key_${name}`)));
