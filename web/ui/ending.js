/** What is shown when every question is answered: a summary, the winners, and what can be done next. */
import * as api from "../api.js";
import * as loop from "../loop.js";
import { counted, t } from "../texts.js";
import { button, h } from "./dom.js";
import { resultPanel } from "./result.js";
import { tasteLine } from "./taste.js";

const WINNERS = 12;
const READ = 200; // votes looked through for them
const THUMBNAIL = 256;

/**
 * The elements of the end.
 * @param {{place: string, set: string, session: object, act: (action) => void, close: () => void}} dialog
 */
export function ending({ place, set, session, act, close }) {
  const blind = place === "blind";
  const { answered = 0 } = session.progress ?? {};
  const heading = h("h3", { tabindex: -1 }, t(titleOf(session, blind, answered)));
  const shut = button(t("close"), close, { kind: "primary" });
  const row = h("div", { class: "dspo-row" }, shut);
  if (answered) row.prepend(button(t("undo"), () => act("undo"), { kind: "quiet" }));
  const offered = answered > 0 && offer(place, set, row, shut, close);
  const hint = answered && !blind && !offered ? h("p", { class: "dspo-muted" }, t("doneNext")) : "";
  const body = [heading];
  if (session.find) body.push(again("showAllPrompts", () => session.search("")));
  if (blind && answered) body.push(resultPanel(set));
  else if (answered || !session.find)
    body.push(h("p", { class: "dspo-summary" }, answered ? summary(session.progress) : t("doneEmpty")));
  if (!blind && answered) body.push(tasteLine(set), winners(place, set));
  if (session.passed)
    body.push(
      h(
        "p",
        {},
        t("passedOver", { count: session.passed }),
        " ",
        again("tryAgain", () => session.retry()),
      ),
    );
  return { heading, body: [...body, hint, row] };
}

const again = (key, doIt) => button(t(key), doIt, { kind: "quiet" });

function titleOf(session, blind, answered) {
  if (session.passed) return "passedTitle";
  if (session.find && session.progress?.open) return "findDone";
  if (!answered) return "emptyTitle";
  return blind ? "blindDoneTitle" : session.grid ? "gridDoneTitle" : "doneTitle";
}

/** The counts in words: "72 pairs to learn from, 1 tie, 3 skipped". */
export function summary({ wins, ties, bads, skips }) {
  const parts = [
    counted("endWins", wins),
    ties && counted("endTies", ties),
    bads && counted("endBads", bads),
    skips && counted("endSkips", skips),
  ];
  return t("sentence", { text: parts.filter(Boolean).join(t("comma")) });
}

/** A strip of the images that won last. */
function winners(place, set) {
  const strip = h("ul", { class: "dspo-strip", "aria-label": t("winners"), hidden: true });
  api.history(place, set, 0, READ).then(({ votes }) => {
    const won = votes.filter(({ outcome, status }) => outcome === "win" && status === "counts");
    const names = [...new Set(won.map(({ winner }) => winner))].slice(0, WINNERS);
    const image = (name) => h("img", { src: api.imageUrl(place, set, name, THUMBNAIL), alt: "", decoding: "async" });
    strip.replaceChildren(...names.map((name) => h("li", {}, image(name))));
    strip.hidden = !names.length;
  }, () => strip.remove()); // the summary says the same
  return strip;
}

/** Put buttons for the next steps into the row; whether there are any. */
function offer(place, set, row, shut, close) {
  const steps = loop.nextSteps(place, set);
  steps.forEach(({ label, key, act }, n) => {
    const step = button(label, go, { kind: n ? "" : "primary", "data-step": key });
    async function go() {
      step.disabled = true;
      try {
        await act();
        close();
      } finally {
        step.disabled = false;
      }
    }
    row.insertBefore(step, shut);
  });
  if (steps.length) shut.classList.replace("primary", "quiet");
  return steps.length > 0;
}
