/** A run in the panel: what it says of itself, with a menu to rename and delete it. */
import { t } from "../texts.js";
import { openCard } from "./card.js";
import { h } from "./dom.js";
import { RunItem } from "./run_item.js";
import { keeping, menu } from "./set_card.js";

/** The newest run shows its previews and curves while it trains. */
export function runCard(row, panel) {
  let now = row;
  const item = new RunItem(row, panel.place === 0 && row.state === "running");
  const root = h("li", { class: "dspo-run-card" }, item.root);
  const card = {
    root,
    update(news) {
      now = { ...now, ...news };
      item.update(news);
    },
    destroy: () => item.destroy(),
  };
  const shared = () => now.state === "finished" && { label: t("shareCard"), act: () => openCard(now.run), name: "card" };
  root.append(menu("runs", row, () => [shared(), ...keeping("runs", now, panel)]));
  return card;
}

/** What the filter looks through. */
export function runText({ run, title, state, set, preset, base, parent, objective }) {
  return [run, title, t(`state_${state}`), set, preset, base, parent, objective].filter(Boolean).join(" ");
}
