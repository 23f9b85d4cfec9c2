/**
 * The whole loop on a fresh page, as a person goes through it: draw, vote, train, test blind, go another round.
 *
 * node loop.mjs URL; by environment: START ("playground" or a checkpoint's name), VUE=1 for Nodes 2.0, SHOTS (a folder
 * for pictures of the stages), STAGES (how far to go: first, fresh, result or all), CHANGES (JSON, widgets of the workflow that
 * differ from what is shipped: {node: {widget: value}}). The page counts every click and key that reaches it; choosing
 * from a native list counts two. The last line printed is JSON: the actions of each stage, what the blind test found,
 * and what went wrong.
 */
import fs from "node:fs";
import path from "node:path";
import { withPage } from "./page.mjs";

const [url] = process.argv.slice(2);
const { START = "playground", VUE = "", SHOTS = "", STAGES = "all", CHANGES = "{}" } = process.env;
const LONG = 900_000;
const PAINTED = 400; // ms after which an answer counts

const actions = {};
const frames = [];

/** The actions since the last call. */
async function taken(page, stage) {
  actions[stage] = await page.evaluate(() => window.actions.splice(0).length);
}

/** Keep a picture of the page, to be shown for so long in the film. */
async function shot(page, name, seconds = 1) {
  if (!SHOTS) return;
  const file = path.join(SHOTS, `${String(frames.length).padStart(2, "0")}-${name}.png`);
  await page.screenshot({ path: file });
  frames.push({ file, seconds });
}

/** Before the page's own scripts: trusted events only, so that a script's call is no action. */
const count = () => {
  window.actions = [];
  const note = (event) => event.isTrusted && !event.repeat && window.actions.push(event.type);
  addEventListener("pointerdown", note, true);
  addEventListener("keydown", (event) => !["Shift", "Control", "Alt", "Meta"].includes(event.key) && note(event), true);
};

const dialog = (page) => page.locator("dialog.dspo-vote[open]");
/** The images to choose from: in the grid, or the two side by side; the other stays in the page, hidden. */
const shown = (page) => dialog(page).locator(".dspo-choice img:visible");

/** The place of the image with the darkest corners: the taste of this voter. */
async function darkest(page) {
  return shown(page).evaluateAll((images) => {
    const side = 16;
    const light = (image) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
      const pen = canvas.getContext("2d");
      pen.drawImage(image, 0, 0, side, side);
      const { data } = pen.getImageData(0, 0, side, side);
      const corners = [0, side - 1, side * (side - 1), side * side - 1];
      return corners.reduce((sum, at) => sum + data[4 * at] + data[4 * at + 1] + data[4 * at + 2], 0);
    };
    const lights = images.map(light);
    return lights.indexOf(Math.min(...lights));
  });
}

const sources = (page) => shown(page).evaluateAll((images) => images.map((image) => image.src).join());

/** Click the darkest image of every question until the end; how many questions there were. */
async function vote(page, name) {
  for (let asked = 0; ; asked++) {
    const end = dialog(page).locator(".dspo-end:not([hidden])");
    await Promise.race([end.waitFor({ timeout: LONG }), shown(page).nth(1).waitFor({ timeout: LONG })]);
    if (await end.isVisible()) return asked;
    await page.waitForTimeout(PAINTED);
    const before = await sources(page);
    if (asked < 4) await shot(page, name, asked ? 2 : 4);
    await shown(page).nth(await darkest(page)).click();
    await page.waitForFunction(
      ([old]) => {
        const open = document.querySelector("dialog.dspo-vote[open]");
        const images = [...open.querySelectorAll(".dspo-choice img")].filter((image) => image.offsetParent);
        const now = images.map((image) => image.src).join();
        return now !== old || !open.querySelector(".dspo-end")?.hidden;
      },
      [before],
      { timeout: LONG },
    );
  }
}

/** The newest run's card, as it is shared. */
async function card(page) {
  const { runs } = await (await page.request.get(`${url}/api/dspo/runs`)).json();
  return (await page.request.get(`${url}/api/dspo/card?run=${runs[0].run}&theme=light`)).body();
}

const press = (page, name, where = page) => where.getByRole("button", { name, exact: false }).first().click();

/** The workflow as shipped, but for these widgets. */
async function changed(page, changes) {
  const order = await page.evaluate(
    (types) => types.map((type) => [type, window.LiteGraph.createNode(type).widgets.map((widget) => widget.name)]),
    Object.keys(changes),
  );
  const widgets = Object.fromEntries(order);
  await page.route("**/workflow_templates/**", async (route) => {
    const answer = await route.fetch();
    if (!answer.headers()["content-type"]?.includes("json")) return route.fulfill({ response: answer });
    const workflow = await answer.json();
    for (const { type, widgets_values: values } of workflow.nodes ?? [])
      for (const [name, value] of Object.entries(changes[type] ?? {})) {
        if (!widgets[type].includes(name)) throw new Error(`${type} has no widget ${name}: ${widgets[type]}`);
        values[widgets[type].indexOf(name)] = value;
      }
    return route.fulfill({ response: answer, json: workflow });
  });
}

/** Between rounds the run asks in the panel: vote, and let it go on; how many questions there were. */
async function freshClicks(page) {
  const asked = page.locator(".dspo-panel [data-focus^='vote:run:']");
  await asked.waitFor({ timeout: LONG });
  await shot(page, "asked", 3);
  await asked.click();
  await shown(page).nth(1).waitFor({ timeout: LONG });
  const count = await vote(page, "fresh");
  await shot(page, "answered", 3);
  await press(page, "Go on training", dialog(page));
  return count;
}

async function start(page) {
  await page.locator(".side-tool-bar-container, .side-tool-bar").getByRole("button", { name: "DSPO" }).first().click();
  const panel = page.locator(".dspo-panel");
  await panel.getByRole("button", { name: "Playground" }).waitFor();
  await page.waitForTimeout(500);
  await shot(page, "start", 4);
  if (START === "playground") return press(page, "Playground", panel);
  await panel.getByRole("combobox").first().selectOption(START);
  await page.evaluate(() => window.actions.push("open a native list", "choose from it"));
  return press(page, "Start", panel);
}

await withPage(
  url,
  async (page, problems) => {
    await page.addInitScript(count);
    await page.reload({ waitUntil: "domcontentloaded" });
    await page.waitForFunction(() => window.app?.vueAppReady && window.LiteGraph?.registered_node_types?.DSPOTrainLora);
    await page.keyboard.press("Escape"); // the template browser, which a fresh page opens
    await page.waitForTimeout(1500);
    await page.evaluate(() => window.actions.splice(0));
    await changed(page, JSON.parse(CHANGES));
    await start(page);
    await shown(page).nth(1).waitFor({ timeout: LONG });
    await taken(page, "first vote");
    const questions = {};
    let result = "";
    if (STAGES !== "first") {
      questions.votes = await vote(page, "vote");
      await taken(page, "votes");
      await shot(page, "voted", 4);
      await press(page, "Train", dialog(page));
      for (const wait of SHOTS ? [3000, 15_000, 25_000] : []) {
        await page.waitForTimeout(wait);
        await shot(page, "training", 3);
      }
      if (STAGES === "fresh") questions.fresh = await freshClicks(page);
      const ready = page.locator(".dspo-notice").getByRole("button", { name: "Vote now" });
      await ready.waitFor({ timeout: LONG });
      await taken(page, "LoRA");
      await shot(page, "trained", 5);
      await ready.click();
      await shown(page).nth(1).waitFor({ timeout: LONG });
      await taken(page, "first blind vote");
      questions.blind = await vote(page, "blind");
      await taken(page, "blind votes");
      await page.waitForTimeout(1500);
      await shot(page, "result", 5);
      result = await dialog(page).locator(".dspo-end").innerText();
      if (SHOTS) fs.writeFileSync(path.join(SHOTS, "card.png"), await card(page));
    }
    if (STAGES === "all") {
      await press(page, "Next round", dialog(page));
      await shown(page).nth(1).waitFor({ timeout: LONG });
      await taken(page, "first vote of the second round");
      await shot(page, "second-round", 5);
    }
    console.log(JSON.stringify({ actions, questions, result, frames, problems }));
  },
  { width: 1440, height: 900, settings: { "Comfy.VueNodes.Enabled": Boolean(VUE) } },
);
if (SHOTS) fs.writeFileSync(path.join(SHOTS, "frames.json"), JSON.stringify(frames));
