/**
 * The nodes with folded inputs on the canvas, and the words by which the node search finds ours.
 *
 * node train_node.mjs URL NODES2 WORDS; NODES2 is "true" or "false", WORDS is comma-separated and may be empty. The last
 * line printed is JSON. SHOTS keeps screenshots.
 */
import path from "node:path";
import { withPage } from "./page.mjs";

const [url, vue, words = ""] = process.argv.slice(2);
const settings = { "Comfy.VueNodes.Enabled": vue === "true" };

async function add(page, type) {
  return page.evaluate((type) => {
    window.app.graph.clear();
    const node = window.LiteGraph.createNode(type);
    node.pos = [500, 80];
    window.app.graph.add(node);
    window.app.canvas.ds.scale = 1;
    window.app.canvas.ds.offset = [0, 0];
    window.app.canvas.setDirty(true, true);
    return node.id;
  }, type);
}

/** Names of the widgets that are seen, and the height of the node. */
async function seen(page) {
  await page.waitForTimeout(1200);
  return page.evaluate((vue) => {
    const node = window.app.graph._nodes.find(({ type }) => type.startsWith("DSPO"));
    const names = node.widgets.filter((widget) => widget.name !== "dspo_more");
    const bottom = node.size[1];
    if (!vue) return { names: names.filter((w) => node.isWidgetVisible(w)).map((w) => w.name), bottom };
    const rows = [...document.querySelectorAll(`[data-node-id="${node.id}"] *`)];
    const shown = new Set(rows.filter((row) => row.checkVisibility() && !row.children.length).map((row) => row.innerText?.trim()));
    const boxes = rows.filter((row) => row.checkVisibility()).map((row) => row.placeholder?.trim());
    const label = (widget) => (widget.label ?? widget.name).trim();
    return { names: names.filter((w) => shown.has(label(w)) || boxes.includes(label(w))).map((w) => w.name), bottom };
  }, vue === "true");
}

async function more(page) {
  if (vue === "true") {
    const button = page.getByText(/show advanced/i).first();
    if (!(await button.count())) return false;
    await button.click();
    return true;
  }
  const place = await page.evaluate(() => {
    const node = window.app.graph._nodes.find(({ type }) => type.startsWith("DSPO"));
    const button = node.widgets.find((widget) => widget.name === "dspo_more");
    const canvas = window.app.canvas.canvas.getBoundingClientRect();
    return [canvas.left + node.pos[0] + node.size[0] / 2, canvas.top + node.pos[1] + button.last_y + 10];
  });
  await page.mouse.click(...place);
  return true;
}

async function found(page, word) {
  await page.evaluate(() => window.app.extensionManager.command.execute("Workspace.SearchBox.Toggle"));
  const box = page.locator("[role=dialog] input, .comfy-vue-node-search-container input").first();
  await box.waitFor({ timeout: 20_000 });
  await box.fill(word);
  await page.waitForTimeout(1500);
  const texts = await page.evaluate(() =>
    [...document.querySelectorAll("[role=dialog], .comfy-vue-node-search-container, .p-autocomplete-overlay")]
      .map((each) => each.innerText)
      .join("\n"),
  );
  if (process.env.SHOTS && ["vote", "dpo"].includes(word)) await page.screenshot({ path: path.join(process.env.SHOTS, `search-${word}.png`) });
  await page.keyboard.press("Escape");
  await page.waitForTimeout(300);
  return [...new Set(texts.split("\n").map((line) => line.trim()).filter((line) => /^DSPO [A-Z]/.test(line)))];
}

await withPage(url, async (page, problems) => {
  await page.waitForTimeout(2000); // the first workflow of a new user opens late
  const nodes = {};
  for (const type of ["DSPOTrainLora", "DSPOTrainingOptions"]) {
    await add(page, type);
    const few = await seen(page);
    const shot = async (what) => process.env.SHOTS && page.screenshot({ path: path.join(process.env.SHOTS, `${type}-${vue}-${what}.png`) });
    await shot("few");
    const button = await more(page);
    const all = await seen(page);
    await shot("all");
    nodes[type] = { few, all, button };
  }
  await page.evaluate(() => window.app.graph.clear());
  const search = {};
  for (const word of words.split(",").filter(Boolean)) search[word] = await found(page, word);
  process.stdout.write(`${JSON.stringify({ nodes, search, problems })}\n`);
}, { settings });
