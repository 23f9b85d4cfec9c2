/** What the pack adds to ComfyUI's page. Every other file here does nothing until it is asked. */
import { app } from "../../scripts/app.js";
import { listen, sets, styleUrl } from "./api.js";
import { shared } from "./studio.js";
import { speak, t } from "./texts.js";
import { Comparer } from "./ui/comparer.js";
import { h } from "./ui/dom.js";
import { notice } from "./ui/notice.js";
import { Sidebar } from "./ui/sidebar.js";
import { openVoting } from "./ui/voting.js";

const toast = (detail) =>
  app.extensionManager?.toast?.add({ severity: "success", summary: "DSPO Studio", detail, life: 5000 });
const blindSets = new Map(); // node id -> the set that it made last

/** Vote on a blind test: the node's own, else the newest one. */
async function voteBlind(nodeId) {
  const known = blindSets.get(String(nodeId)) ?? (await newest("blind"));
  if (known) openVoting("blind", known);
  else app.extensionManager?.toast?.add({ severity: "info", summary: "DSPO Studio", detail: t("noBlind"), life: 6000 });
}

async function newest(place) {
  const { sets: found } = await sets().catch(() => ({ sets: [] }));
  const open = found.filter((each) => each.place === place && each.progress);
  return (open.find((each) => each.progress.open > 0) ?? open[0])?.set;
}

app.registerExtension({
  name: "dspostudio.lora",
  setup() {
    // A LoRA that has just been trained can be chosen in every loader without a reload of the page.
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
    listen("collected", ({ set, added }) => added > 0 && toast(t("collected", { added, set })));
    shared(); // votes that an earlier page could not send go out now
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
  name: "dspostudio.blind",
  setup() {
    listen("blind", ({ set, open, node }) => {
      blindSets.set(String(node), set);
      if (open > 0) notice(t("blindReady", { open }), t("voteNow"), () => openVoting("blind", set), t("later"));
    });
  },
  nodeCreated(node) {
    if (node.comfyClass !== "DSPOBlindTest") return;
    const widget = node.addWidget("button", "vote_blind", null, () => voteBlind(node.id), { serialize: false });
    widget.label = t("voteBlind");
    widget.serialize = false;
    const { onExecuted } = node;
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (output?.dspo_blind?.[0]) blindSets.set(String(node.id), output.dspo_blind[0]);
    };
  },
});

app.registerExtension({
  name: "dspostudio.compare",
  nodeCreated(node) {
    if (node.comfyClass !== "DSPOCompareSampler") return;
    const comparer = new Comparer();
    const options = {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => 260,
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
