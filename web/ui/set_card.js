/** Cards of sets, blind tests and folders: pictures, the state in words, what comes next, and the rest in a menu. */
import * as api from "../api.js";
import { ago, share } from "../core/format.js";
import { contentsOf, stateOf } from "../core/panel.js";
import { isKnown } from "../core/taste.js";
import * as loop from "../loop.js";
import { spoken, t } from "../texts.js";
import { bar, button, h, icon } from "./dom.js";
import { menuButton } from "./menu.js";
import { openResult } from "./result.js";
import { openReview } from "./review.js";
import { openRanked, tasteBrief, tasteTitle } from "./taste.js";
import { openExport, openImport } from "./transfer.js";
import { openVoting } from "./voting.js";

const SIZE = 160; // pixels of a thumbnail, for twice as dense screens

export const titleOf = ({ title, set, run }) => title || set || run;

/** A text of a key that `core/panel.js` gave. */
export const worded = ({ key, values }) => t(key, values);

/**
 * The card of a row of GET /dspo/sets.
 *
 * `panel`: {changed(), rename(kind, name, shown), remove(kind, name, shown), collect(folder)}.
 */
export function setCard(row, panel) {
  if (row.layout === "folder") return folderCard(row, panel);
  const { place, set, progress, state, taste } = row;
  const text = worded(stateOf(row));
  const { first, others, looks } = steps(row, panel);
  const card = frame(row, {
    pictures: pictures(row),
    act: looks?.act,
    facts: [
      h("p", { class: state === "unreadable" ? "dspo-warning" : "dspo-state" }, text),
      state === "voting" && bar(share(progress.answered, progress.total), `${titleOf(row)}: ${text}`),
      isKnown(taste) && h("p", { class: "dspo-muted dspo-known", title: tasteTitle(taste) }, tasteBrief(taste)),
    ],
    actions: [first && stepButton(row, first), place === "blind" && others[0] && stepButton(row, others[0])],
  });
  const entries = () => [
    ...others.slice(place === "blind" ? 1 : 0).map(({ label, act, key }) => ({ label, act, name: key })),
    progress?.answered > 0 && { label: t("review"), act: () => openReview(place, set), name: "review" },
    isKnown(taste) && { label: t("sortedByTaste"), act: () => openRanked(set), name: "ranked" },
    place === "sets" && progress?.wins > 0 && { label: t("export"), act: () => openExport(place, set), name: "export" },
    place === "blind" && state === "voting" && { label: t("result"), act: () => openResult(set), name: "result" },
    ...keeping(place, row, panel),
  ];
  card.root.append(menu(place, row, entries));
  return card;
}

/** What can be done: `first` of all, `others`, and what a click on the pictures does; each {key, label, act, kind}. */
function steps({ place, set, state, progress }, panel) {
  if (!progress?.total) return { others: [] };
  const closed = () => panel.changed();
  const open = (key, act, kind = "primary") => ({ key, label: t(key), act, kind });
  const vote = {
    ...open(progress.answered ? "resume" : "vote", () => openVoting(place, set, closed)),
    key: "vote",
  };
  const review = open("review", () => openReview(place, set), "");
  const result = open("result", () => openResult(set));
  const queued = ({ act, ...step }) => ({ ...step, act: () => act().then(closed), kind: "" });
  const next = progress.wins ? loop.nextSteps(place, set).map(queued) : [];
  if (place === "blind") {
    return state === "voted"
      ? { first: result, others: next, looks: result }
      : { first: vote, others: [], looks: vote };
  }
  if (state !== "voted") return { first: vote, others: next, looks: vote };
  const [best, ...others] = next;
  return { first: best ? { ...best, kind: "primary" } : review, others, looks: review };
}

function stepButton({ place, set }, { key, label, act, kind }) {
  const run = () => {
    const done = act();
    if (!done?.finally) return; // a dialog is open
    made.disabled = true;
    done.finally(() => (made.disabled = false));
  };
  const made = button(label, run, { kind, "data-focus": `${key}:${place}:${set}` });
  return made;
}

function folderCard(row, panel) {
  const { set, example } = row;
  const state = h("p", { class: "dspo-state" }, t("unread"));
  const collect = h("span", { class: "dspo-row" });
  const mosaic = tiles(0);
  const card = frame(row, {
    pictures: mosaic,
    facts: [state],
    actions: [collect],
    badge: example && h("span", { class: "dspo-badge" }, t("example")),
  });
  let seen = null;
  const entries = () => [
    seen?.pairs > 0 && { label: t("import"), act: () => openImport(set, panel.changed), name: "import" },
    ...(example || !(seen?.pairs || seen?.rated) ? [] : keeping("sets", row, panel)),
  ];
  const show = (found) => {
    seen = found;
    state.textContent = worded(contentsOf(found));
    const images = Array.from({ length: found.thumbnails }, (_, n) => api.thumbnailUrl(set, n, SIZE));
    mosaic.replaceWith(tiles(images.length, images));
    if (entries().some(Boolean)) card.root.append(menu("sets", row, entries));
    if (!found.pairs && !found.rated && found.images > 1)
      collect.append(button(t("gatherCollect"), () => panel.collect(set), { "data-focus": `collect:sets:${set}` }));
  };
  const look = () =>
    api.look(set).then(show, (error) => (state.textContent = error.permanent ? t("folderUnread") : t("serverSilent")));
  const watch = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && (watch.disconnect(), look()), {
    rootMargin: "200px",
    scrollMargin: "200px",
  });
  watch.observe(card.root);
  return { ...card, destroy: () => watch.disconnect() };
}

/** A card without its menu. */
function frame(row, { pictures: mosaic, act, facts, actions, badge }) {
  const name = titleOf(row);
  const when = h("time", { datetime: row.updated }, ago(row.updated, Date.now(), spoken()));
  const title = h("div", { class: "dspo-title" }, h("span", { class: "dspo-name", title: row.set }, name), badge);
  if (act) {
    mosaic.addEventListener("click", act); // for the mouse; the button does the same
    mosaic.classList.add("acts");
  }
  const buttons = actions.filter(Boolean);
  const body = h(
    "div",
    { class: "dspo-card-body" },
    title,
    facts,
    h("div", { class: "dspo-row" }, buttons, row.example ? null : when),
  );
  return { root: h("li", { class: "dspo-card", "data-layout": row.layout, "data-state": row.state }, mosaic, body) };
}

export function menu(kind, row, entries) {
  const name = titleOf(row);
  return menuButton(t("moreOf", { name }), entries, { "data-focus": `menu:${kind}:${row.set ?? row.run}` });
}

/** The entries that every card's menu ends in. */
export function keeping(kind, row, panel) {
  const name = row.set ?? row.run;
  return [
    { label: t("rename"), act: () => panel.rename(kind, name, titleOf(row)), name: "rename" },
    { label: t("delete"), act: () => panel.remove(kind, name, titleOf(row)), name: "delete", danger: true },
  ];
}

/** The first images of a set. Those of a test that is not finished could tell which side is which. */
function pictures({ place, set, thumbnails }) {
  if (!thumbnails.length) return tiles(0, [], place === "blind" ? "pi-eye-slash" : "pi-images");
  return tiles(
    thumbnails.length,
    thumbnails.map((image) => api.imageUrl(place, set, image, SIZE)),
  );
}

function tiles(count, sources = [], neutral = "pi-images") {
  const images = sources.map((src) =>
    h("img", { src, alt: "", loading: "lazy", decoding: "async", draggable: "false" }),
  );
  for (const image of images) image.addEventListener("error", () => image.classList.add("broken"), { once: true });
  return h(
    "div",
    { class: "dspo-mosaic", "data-count": count, "aria-hidden": "true" },
    images.length ? images : icon(neutral),
  );
}
