/** A run in the panel: its own view, with a menu to rename and delete it. */
import { t } from "../texts.js";
import { h } from "./dom.js";
import { runItem } from "./run_view.js";
import { keeping, menu } from "./set_card.js";

const over = ({ state, finished, stopped }) => (state ? state !== "running" : finished || stopped);

/** The newest run shows its curves while it trains. */
export function runCard(row, panel) {
  let now = row;
  const item = runItem(row, panel.place === 0 && !over(row));
  const root = h("li", { class: "dspo-run-card" }, item.root);
  const card = {
    root,
    update(news) {
      now = news;
      item.update(news);
      entitle();
    },
    destroy: () => item.destroy(),
  };
  const entitle = () => {
    const name = item.root.querySelector(".dspo-name");
    if (name && now.title && name.textContent !== now.title) name.textContent = now.title;
  };
  entitle();
  root.append(menu("runs", row, () => keeping("runs", now, panel, card)));
  return card;
}

/** What the filter looks through. */
export function runText({ run, title, state, finished, stopped, set, preset, base, objective }) {
  const word = state ?? (stopped ? "stopped" : finished ? "finished" : "");
  return [run, title, word && t(word), set, preset, base, objective].filter(Boolean).join(" ");
}
