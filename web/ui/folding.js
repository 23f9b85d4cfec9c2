/**
 * Expert inputs, folded on the classic canvas too.
 *
 * A node's definition marks them as `advanced`. Nodes 2.0 folds them by that and has its own button; the classic canvas
 * folds only what the widget itself says, leaves its room empty, and has no button but the entry of a context menu.
 */
import { t } from "../texts.js";

const ROW = 20; // pixels, LiteGraph's height of a widget; it adds a gap of 4

/** Fold a new node's expert inputs, and add the button that shows them. */
export function fold(node) {
  const folded = node.widgets?.filter((widget) => widget.options?.advanced) ?? [];
  if (!folded.length) return;
  for (const widget of folded) {
    widget.advanced = true;
    widget.computeSize = () => [0, node.showAdvanced ? ROW : -4];
  }
  const button = node.addWidget("button", "dspo_more", null, () => toggle(node), { serialize: false, canvasOnly: true });
  button.serialize = false;
  const get = () => t(node.showAdvanced ? "fewerSettings" : "moreSettings");
  Object.defineProperty(button, "label", { get, set() {}, configurable: true });
  fit(node);
  const { onConfigure } = node;
  node.onConfigure = function () {
    onConfigure?.apply(this, arguments);
    if (folded.some(({ name }) => wired(node, name))) node.showAdvanced = true; // no wire ends in nothing
  };
}

function toggle(node) {
  node.showAdvanced = !node.showAdvanced;
  fit(node);
  node.setDirtyCanvas?.(true, true);
}

const fit = (node) => node.setSize([node.size[0], node.computeSize()[1]]);

const wired = (node, name) => node.inputs?.some(({ widget, link }) => widget?.name === name && link != null);
