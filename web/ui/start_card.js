/** How to begin: on the playground, with a model of one's own, or with images that are there. */
import * as loop from "../loop.js";
import { t } from "../texts.js";
import { button, h, icon } from "./dom.js";
import { fold } from "./fold.js";
import { openGather } from "./gather.js";
import { keep, recall } from "./kept.js";

const LAST = "dspo-studio.checkpoint";

/** The card: {root, show(big)}. `trouble(error)` is told what went wrong; `done()` is called after collecting. */
export function startCard({ trouble, done }) {
  const section = fold("start", t("startNew"), { kept: false });
  const heading = h("h3", { class: "dspo-start-title" }, t("startTitle"));
  section.root.prepend(
    h("div", { class: "dspo-start-head" }, icon("pi-sparkles"), heading, h("p", {}, t("startText"))),
  );
  section.root.classList.add("dspo-start");
  const own = ownModel(trouble);
  section.body.append(playground(trouble), own.root, ownImages(done));
  let big = null;
  const show = (now) => {
    own.load();
    if (now === big) return;
    big = now;
    section.root.classList.toggle("big", big);
    section.toggle(!big);
  };
  return { root: section.root, show };
}

const way = (name, text, ...parts) =>
  h("div", { class: "dspo-way", role: "group", "aria-label": name }, h("h4", {}, name), h("p", {}, text), parts);

function playground(trouble) {
  const go = button(t("playground"), () => started(go, loop.startPlayground, trouble), {
    kind: "primary",
    "data-focus": "start:playground",
  });
  return way(t("playgroundName"), t("playgroundText"), go);
}

function ownModel(trouble) {
  const select = h("select", { "aria-label": t("checkpoint"), disabled: true, "data-focus": "start:select" });
  const go = button(t("start"), () => started(go, () => chosen(select.value), trouble), {
    disabled: true,
    "data-focus": "start:model",
  });
  const none = h("p", { class: "dspo-muted", hidden: true }, t("noCheckpoints"));
  let loaded = false;
  const load = async () => {
    if (loaded) return;
    try {
      const names = await loop.checkpoints();
      loaded = names.length > 0;
      none.hidden = loaded;
      select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      select.disabled = go.disabled = !loaded;
      if (names.includes(recall(LAST))) select.value = recall(LAST);
    } catch (error) {
      trouble(error); // asked again with the next refresh
    }
  };
  const root = way(t("myModel"), t("myModelText"), h("div", { class: "dspo-start-model" }, select, go), none);
  return { root, load };
}

function ownImages(done) {
  const go = button(t("chooseImages"), () => openGather(done), { "data-focus": "start:images" });
  return way(t("gatherTitle"), t("ownImagesText"), go);
}

function chosen(name) {
  keep(LAST, name);
  return loop.startWith(name);
}

async function started(go, act, trouble) {
  const label = go.textContent;
  go.disabled = true;
  go.textContent = t("starting");
  try {
    await act();
  } catch (error) {
    trouble(error);
  } finally {
    go.disabled = false;
    go.textContent = label;
  }
}
