/** What the pack adds to ComfyUI's page. No other file here acts when imported. */
import { app } from "../../scripts/app.js";
import { listen, onEnd, sets, styleUrl } from "./api.js";
import { addVoteButton, count, countAll } from "./collect_button.js";
import { remember, testOf } from "./core/blind.js";
import * as loop from "./loop.js";
import { shared } from "./studio.js";
import { speak, t, told } from "./texts.js";
import { Comparer } from "./ui/comparer.js";
import { h } from "./ui/dom.js";
import { fold } from "./ui/folding.js";
import { notice } from "./ui/notice.js";
import { Sidebar } from "./ui/sidebar.js";
import { openVoting } from "./ui/voting.js";

// Heard from the first moment on: ComfyUI calls an event unknown that comes while nothing of the page listens for it.
for (const name of ["blind", "collected", "gather", "lora_saved", "moved", "preview", "run", "run_state", "taste", "voted"])
  listen(name, () => {});

const toast = (detail) =>
  app.extensionManager?.toast?.add({ severity: "success", summary: "DSPO Studio", detail, life: 5000 });
const inform = (detail) =>
  app.extensionManager?.toast?.add({ severity: "info", summary: "DSPO Studio", detail, life: 6000 });

/** Vote on the node's own blind test. */
async function voteBlind(node) {
  try {
    const own = testOf(node, (await sets()).sets);
    if (own) openVoting("blind", own);
    else inform(t("notTested"));
  } catch (error) {
    inform(told(error));
  }
}

app.registerExtension({
  name: "dspostudio.lora",
  setup() {
    // A newly trained LoRA can be chosen in every loader without reloading the page.
    listen("lora_saved", async ({ name }) => {
      await app.refreshComboInNodes();
      toast(t("loraSaved", { name }));
    });
  },
});

app.registerExtension({
  name: "dspostudio.panel",
  setup() {
    speak(app.extensionManager?.setting?.get("Comfy.Locale"));
    document.head.append(h("link", { rel: "stylesheet", href: styleUrl() }));
    shared(); // sends votes that an earlier page could not
    let sidebar = null;
    app.extensionManager.registerSidebarTab({
      id: "dspo-studio",
      icon: "pi pi-thumbs-up",
      title: "DSPO",
      tooltip: "DSPO Studio",
      type: "custom",
      render(host) {
        sidebar?.destroy();
        sidebar = new Sidebar(host);
      },
      destroy() {
        sidebar?.destroy();
        sidebar = null;
      },
    });
  },
});

app.registerExtension({
  name: "dspostudio.loop",
  setup() {
    listen("collected", (event) => (count(event.set, event.votes), loop.collected(event)));
    listen("voted", ({ place, set, progress }) => place === "sets" && count(set, progress.wins));
    onEnd(loop.finished, loop.failed);
  },
  afterConfigureGraph() {
    countAll().catch(() => {}); // the button then shows no number
  },
  nodeCreated(node) {
    if (node.comfyClass === "DSPOCollectPairs") addVoteButton(node, inform);
  },
});

app.registerExtension({
  name: "dspostudio.blind",
  setup() {
    listen("blind", ({ set, open }) => {
      if (open > 0) notice(t("blindReady", { open }), t("voteNow"), () => openVoting("blind", set), t("later"));
    });
  },
  nodeCreated(node) {
    if (!["DSPOBlindTest", "DSPOBlindTestImages"].includes(node.comfyClass)) return;
    const control = node.widgets?.find(({ name }) => name === "control_after_generate");
    if (control) control.value = "fixed"; // run again, it is the same test
    const widget = node.addWidget("button", "vote_blind", null, () => voteBlind(node), { serialize: false });
    widget.label = t("voteBlind");
    widget.serialize = false;
    const { onExecuted } = node;
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      remember(node, output);
    };
  },
});

app.registerExtension({
  name: "dspostudio.compare",
  nodeCreated(node) {
    if (node.comfyClass !== "DSPOCompareSampler") return;
    const grow = () => {
      const [width, height] = node.size;
      node.setSize([width, Math.max(height, node.computeSize([width, height])[1])]);
      node.setDirtyCanvas(true, true);
    };
    const comparer = new Comparer({ resized: grow });
    const options = {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => comparer.heightFor(node.size[0]),
      getValue: () => "",
      setValue: () => {},
    };
    const widget = node.addDOMWidget("comparison", "dspo-comparison", comparer.root, options);
    widget.serialize = false;
    const { onExecuted, onRemoved } = node;
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      const strengths = node.widgets?.find(({ name }) => name === "strengths")?.value;
      comparer.set(output?.a_images ?? [], output?.b_images ?? [], strengths);
    };
    node.onRemoved = function () {
      comparer.destroy();
      onRemoved?.apply(this, arguments);
    };
  },
});

app.registerExtension({
  name: "dspostudio.folding",
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("DSPO")) fold(node);
  },
});
