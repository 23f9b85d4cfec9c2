/**
 * Goes once round with the panel as a person would: collect, vote, train, compare, vote blind. Prints what it did and
 * found as JSON; ends with 1 after a failure.
 *
 *   URL_=... CHROMIUM=... NODE_PATH=... GRAPHS=graphs.json node tests/web/browser/loop.mjs
 *
 * GRAPHS: {name: workflow in API format} for each of PARTS (all, if not given). Also read: SHOTS (a folder for images
 * of the screen), VUE (Nodes 2.0).
 */
import fs from "node:fs";
import path from "node:path";
import { percent } from "../../../web/core/format.js";
import { axe, fromMenu, openPanel, ready, TAB, watch, withPage } from "./page.mjs";

const { GRAPHS, SHOTS, VUE, PARTS = "collect,train,compare,blind,tabs" } = process.env;
const graphs = JSON.parse(fs.readFileSync(GRAPHS, "utf8"));
const SIZES = [
  [1440, 900],
  [800, 900],
];
const KEYS = ["ArrowLeft", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "ArrowLeft", "s"];
const RUN_MS = 120_000;
const dialog = ".dspo-vote";
const checks = {};
const report = { checks, votes: [] };

const expect = (name, passed, found) => (checks[name] = passed ? "ok" : `FAILED: ${JSON.stringify(found)}`);
/** An answer counts 250 ms after the images are painted. */
async function asking(page) {
  await page.waitForSelector(".dspo-stage .dspo-choice.left:enabled img");
  await page.waitForSelector(".dspo-vote[data-painted]");
  await page.waitForTimeout(330);
}
const query = (values) => new URLSearchParams(values).toString();
const served = (page, what) => page.evaluate((url) => fetch(url).then((answer) => answer.json()), `/api/dspo/${what}`);
const shown = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll(".dspo-choice img")].map((image) => new URL(image.src).searchParams.get("image")),
  );
const counter = (page) =>
  page
    .locator(`${dialog} .dspo-counter strong`)
    .textContent()
    .then((text) => text.match(/\d+/g).map(Number));

/** Ask `read` until `fits` says yes or time is up; what it read last. */
async function until(read, fits, seconds = 10) {
  const end = Date.now() + 1000 * seconds;
  for (;;) {
    const found = await read();
    if (fits(found) || Date.now() > end) return found;
    await new Promise((done) => setTimeout(done, 100));
  }
}

const progress = async (page, place, set) => (await served(page, `next?${query({ place, set, count: 1 })}`)).progress;

/** Check a view with axe, and take its image, in both themes and at both sizes. */
async function look(page, name, selector) {
  for (const theme of ["light", "dark"]) {
    await page.evaluate((value) => window.app.extensionManager.setting.set("Comfy.ColorPalette", value), theme);
    for (const [width, height] of SIZES) {
      if (!SHOTS && width !== SIZES[0][0]) continue;
      await page.setViewportSize({ width, height });
      await page.waitForTimeout(600);
      if (SHOTS) await page.screenshot({ path: path.join(SHOTS, `${name}-${theme}-${width}.png`) });
      const found = (await axe(page, selector)).filter((each) => /^(serious|critical)/.test(each));
      expect(`axe: ${name}, ${theme}, ${width}`, found.length === 0, found);
    }
  }
  await page.setViewportSize({ width: SIZES[0][0], height: SIZES[0][1] });
}

async function load(page, name) {
  await page.evaluate(
    async ([graph, title]) => {
      await window.app.loadApiJson(graph, title);
      for (const node of window.app.graph.nodes)
        for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
    },
    [graphs[name], name],
  );
}

/** Queue the graph that is loaded; `ended(page)` waits for it. */
async function queue(page) {
  await page.evaluate(() => {
    window.loopEnd = null;
    const { api } = window.comfyAPI.api;
    for (const name of ["execution_success", "execution_error"])
      api.addEventListener(name, ({ detail }) => (window.loopEnd = { name, text: detail.exception_message }));
    window.app.queuePrompt(0, 1);
  });
}

async function ended(page, name) {
  const end = await page.waitForFunction(() => window.loopEnd, null, { timeout: RUN_MS });
  const { name: event, text } = await end.jsonValue();
  expect(`${name} runs`, event === "execution_success", text);
}

async function openVoting(page, place, set) {
  await openPanel(page);
  await page.locator(`[data-focus="vote:${place}:${set}"]`).click();
  await asking(page);
}

/** One answer by the keyboard, noted as it was given. */
async function answer(page, key, votes) {
  await asking(page);
  const [left, right] = await shown(page);
  await page.keyboard.press(key);
  const winner = { ArrowLeft: left, ArrowRight: right }[key] ?? null;
  votes.push({ outcome: winner ? "win" : { ArrowDown: "tie", s: "skip" }[key], winner, images: [left, right].sort() });
  await page.waitForFunction(
    (before) =>
      document.querySelector(".dspo-end:not([hidden])") ||
      [...document.querySelectorAll(".dspo-choice img")].some(
        ({ src }) => !before.every((name) => src.includes(encodeURIComponent(name))),
      ),
    [left, right],
  );
}

async function collect(page) {
  await load(page, "collect");
  await queue(page);
  await ended(page, "collect");
  await openPanel(page);
  await page.locator('[data-focus="vote:sets:loop"]').waitFor();
  expect("24 pairs are open", (await progress(page, "sets", "loop")).open === 24, await progress(page, "sets", "loop"));
  await openVoting(page, "sets", "loop");
  for (let n = 0; n < 10; n++) await answer(page, KEYS[n % KEYS.length], report.votes);
  await asking(page);
  await page.keyboard.press("u");
  const taken = report.votes.pop();
  await page.waitForFunction(
    (names) =>
      [...document.querySelectorAll(".dspo-choice img")].every(({ src }) =>
        names.some((name) => src.includes(encodeURIComponent(name))),
      ),
    taken.images,
  );
  for (let n = report.votes.length; n < 20; n++) await answer(page, KEYS[n % KEYS.length], report.votes);
  expect("the counter says 20 of 24", (await counter(page)).join() === "20,24", await counter(page));
  const count = await until(
    () => progress(page, "sets", "loop"),
    ({ answered }) => answered === 20,
  );
  expect("20 votes reach the server", count.answered === 20 && count.open === 4, count);
  await ready(page); // a reload
  await openVoting(page, "sets", "loop");
  expect("after a reload it goes on at 20", (await counter(page)).join() === "20,24", await counter(page));
  await look(page, "vote", dialog);
  await page.keyboard.press("Escape");
  await listed(page);
  await look(page, "sidebar", ".dspo-panel");
  await review(page);
}

/** What the sidebar says of a collected set and of a folder that came labelled. */
async function listed(page) {
  const said = (name) => page.locator(`.dspo-card:has([title="${name}"]) .dspo-state`);
  const collected = await until(() => said("loop").textContent(), (text) => text.startsWith("20 "));
  expect("a collected set tells its progress", collected === "20 of 24 pairs", collected);
  const folder = await until(() => said("shapes-large-and-dark").textContent(), (text) => text.startsWith("labelled"));
  expect("a folder of pairs is named as one", folder === "labelled folder of 24 pairs", folder);
}

/** Remove an image from the set and restore it, by clicks. */
async function review(page) {
  const before = await progress(page, "sets", "loop");
  await fromMenu(page, "sets", "loop", "review");
  const removed = page.locator(".dspo-vote-row.removed");
  const row = page.locator(".dspo-vote-row.counts").first();
  await row.locator('[data-focus$=":remove:1"]').click();
  await removed.first().waitFor();
  const without = await progress(page, "sets", "loop");
  expect("a removed image takes its pairs along", without.total === before.total - 3, [before, without]);
  await look(page, "review", ".dspo-review");
  await removed.first().locator('[data-focus*=":restore:"]:visible').first().click();
  await removed.first().waitFor({ state: "detached" });
  const after = await progress(page, "sets", "loop");
  expect("restored, all is as before", JSON.stringify(after) === JSON.stringify(before), [before, after]);
  await page.keyboard.press("Escape");
}

/** Unfold the run's card and wait until so many previews are there, and the one chosen by the slider is seen. */
async function previews(page, count) {
  const fold = page.locator(".dspo-run-item > .dspo-disclosure").first();
  await fold.waitFor();
  if (!(await fold.evaluate(({ open }) => open))) await fold.locator("summary").first().click();
  await page.waitForFunction(
    (wanted) => {
      const shown = document.querySelector(".dspo-run .dspo-preview img");
      return shown?.naturalWidth && document.querySelector(".dspo-previews input").max >= wanted - 1;
    },
    count,
    { timeout: RUN_MS },
  );
}

async function train(page) {
  await load(page, "train");
  await openPanel(page);
  await page.evaluate(() => {
    const seen = (window.loopSteps = new Set());
    new MutationObserver(() => seen.add(document.querySelector(".dspo-run-item .dspo-state")?.textContent)).observe(
      document.querySelector(".dspo-panel"),
      { subtree: true, childList: true, characterData: true },
    );
  });
  await queue(page);
  await previews(page, 1);
  const said = await page.evaluate(() => [...window.loopSteps]);
  const trains = said.some((text) => /^Training: step [123] of 4/.test(text));
  expect("steps and a preview are shown while it trains", trains, said);
  await ready(page); // a reload in the middle
  await openPanel(page);
  const state = page.locator(".dspo-run-item .dspo-state").first();
  const text = await until(() => state.textContent(), (now) => /^Finished/.test(now), RUN_MS / 1000);
  expect("after a reload it is followed to its end", text === "Finished: loop-01 · 4 steps · dspo", text);
  await previews(page, 2);
  await page.locator(".dspo-run .dspo-disclosure > summary").first().click();
  await page.locator(".dspo-run .dspo-line").first().waitFor({ state: "attached" });
  const lines = await page.locator(".dspo-run .dspo-line").count();
  expect("its curves are drawn", lines >= 3, lines);
  await look(page, "run", ".dspo-panel");
  await page.locator(".dspo-run-picture").first().click();
  await page.locator(".dspo-run-dialog .dspo-preview img").first().waitFor();
  await look(page, "run-large", ".dspo-run-dialog");
  await page.keyboard.press("Escape");
}

/** Show the node alone, in its own size. */
async function face(page, type) {
  await page.evaluate((name) => {
    const node = window.app.graph.nodes.find((each) => each.type === name);
    const { ds } = window.app.canvas;
    node.setSize([420, 760]);
    ds.scale = 1;
    ds.offset[0] = 560 - node.pos[0];
    ds.offset[1] = 90 - node.pos[1];
    window.app.graph.setDirtyCanvas(true, true);
  }, type);
}

async function compare(page) {
  await load(page, "compare");
  if (await page.locator(".dspo-panel").count()) await page.locator(TAB).click();
  await face(page, "DSPOCompareSampler");
  await queue(page);
  await ended(page, "compare");
  await page.waitForFunction(() => {
    const images = [...document.querySelectorAll(".dspo-compare-view img")];
    return images.length === 2 && images.every(({ complete, naturalWidth }) => complete && naturalWidth);
  });
  const view = page.locator(".dspo-compare-view");
  const cut = () => view.evaluate((element) => parseFloat(element.style.getPropertyValue("--dspo-cut")));
  await view.locator("input").focus();
  for (const key of ["ArrowLeft", "ArrowLeft", "ArrowRight"]) await page.keyboard.press(key);
  expect("arrow keys move the divider", (await cut()) === 49, await cut());
  await dragging(page, view, cut);
  const source = () => view.locator("img").first().getAttribute("src");
  const first = await source();
  await page.locator(".dspo-compare select").last().selectOption({ index: 1 });
  expect("another strength is another image", (await source()) !== first, first);
  await look(page, "compare", ".dspo-compare");
  await filling(page, view);
  await enlarging(page, view);
  await page.locator(".dspo-modes button", { hasText: "Flicker" }).click();
  const faces = new Set();
  for (let n = 0; n < 20; n++) {
    faces.add(await view.getAttribute("data-shown"));
    await page.waitForTimeout(100);
  }
  expect("flicker shows both in turn", faces.size === 2, [...faces]);
}

/** The images are as wide as the node allows, and their labels stand above them. */
async function filling(page, view) {
  const [box, root, labels] = await Promise.all(
    [view, page.locator(".dspo-compare"), page.locator(".dspo-compare-labels")].map((each) => each.boundingBox()),
  );
  expect("the images fill the node's width", box.width > root.width - 16, [box.width, root.width]);
  expect("the labels are above the images", labels.y + labels.height <= box.y + 1, [labels, box]);
}

/** A click shows the comparison large; Escape and the button work without a mouse. */
async function enlarging(page, view) {
  const before = await view.boundingBox();
  await view.click({ position: { x: 40, y: 40 } });
  const large = page.locator(".dspo-compare.large .dspo-compare-view");
  await large.waitFor();
  await page.waitForTimeout(300);
  const box = await large.boundingBox();
  expect("a click enlarges the comparison", box.height > 1.2 * before.height, [before, box]);
  await look(page, "compare-large", ".dspo-compare.large");
  await page.keyboard.press("Escape");
  await large.waitFor({ state: "detached" });
  await page.locator(".dspo-compare-bar .icon").focus();
  await page.keyboard.press("Enter");
  await large.waitFor();
  await page.keyboard.press("Escape");
}

/** The divider follows the pointer; the node and the graph stay. */
async function dragging(page, view, cut) {
  const where = () =>
    page.evaluate(() => {
      const { canvas, graph } = window.app;
      return JSON.stringify([[...canvas.ds.offset], graph.nodes.map(({ pos }) => [...pos])]);
    });
  const before = await where();
  const box = await view.boundingBox();
  await page.mouse.move(box.x + box.width * 0.5, box.y + box.height * 0.4);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + box.height * 0.4, { steps: 5 });
  await page.mouse.up();
  expect("dragging moves the divider", Math.abs((await cut()) - 80) <= 1, await cut());
  expect("dragging moves nothing else", (await where()) === before, [before, await where()]);
}

async function blind(page) {
  await load(page, "blind");
  await queue(page);
  await page.locator(".dspo-notice .primary").click({ timeout: RUN_MS });
  report.blind = [];
  for (let n = 0; !(await page.locator(".dspo-end:visible").count()); n++)
    await answer(page, KEYS[n % KEYS.length], report.blind);
  await page.locator(".dspo-number").waitFor();
  await page.locator(".dspo-result a[download]").waitFor();
  const { set } = (await served(page, "sets")).sets.find(({ place }) => place === "blind");
  const result = await served(page, `result?${query({ place: "blind", set })}`);
  const [number, verdict, interval] = await Promise.all(
    [".dspo-number", ".dspo-verdict", ".dspo-interval"].map((each) => page.locator(each).textContent()),
  );
  expect("the number is the server's", number.startsWith(percent(result.win_rate)), [number, result]);
  expect(
    "so is the interval, and the sentence repeats neither",
    !/%/.test(verdict) && interval.includes(percent(result.low)) && interval.includes(percent(result.high)),
    [verdict, interval, result],
  );
  report.result = { set, ...result };
  await look(page, "blind", dialog);
  await page.keyboard.press("Escape");
}

/** Two tabs vote on one set at once, until nothing is left; in two windows, as a tab behind another is not painted. */
async function tabs(page, context, problems) {
  const opened = context.waitForEvent("page");
  await page.evaluate(() => void window.open("about:blank", "_blank", "noopener,popup,width=1440,height=900"));
  const other = await opened;
  const more = watch(other);
  await ready(other);
  report.tabs = [];
  await Promise.all(
    [page, other].map(async (tab, which) => {
      await openVoting(tab, "sets", "two-tabs");
      while (!(await tab.locator(".dspo-end:visible").count()))
        await answer(tab, which ? "ArrowRight" : "ArrowLeft", report.tabs);
    }),
  );
  const count = await until(
    () => progress(page, "sets", "two-tabs"),
    ({ open }) => open === 0,
  );
  expect("two tabs answer every pair", count.open === 0 && count.answered === count.total, count);
  problems.push(...more);
  await other.close();
  await page.keyboard.press("Escape");
}

const acts = { collect, train, compare, blind, tabs };
await withPage({ vueNodes: Boolean(VUE) }, async ({ page, problems, context }) => {
  await page.evaluate(() => localStorage.setItem("dspo-studio.view", "pairs"));
  try {
    for (const part of PARTS.split(",")) await acts[part](page, context, problems);
  } catch (error) {
    expect("it goes on to the end", false, String(error.stack));
    if (SHOTS) await page.screenshot({ path: path.join(SHOTS, "failure.png") });
  }
  expect("no error in the page", problems.length === 0, problems);
});
console.log(JSON.stringify(report, null, 2));
process.exitCode = Object.values(checks).every((each) => each === "ok") ? 0 : 1;
