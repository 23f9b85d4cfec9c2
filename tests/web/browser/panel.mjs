/**
 * Drives the panel and the voting dialog in a real page and prints what it found as JSON; ends with 1 after a failure.
 *
 *   URL_=http://127.0.0.1:8188 CHROMIUM=/usr/bin/chromium NODE_PATH=.../node_modules node tests/web/browser/panel.mjs
 *
 * It votes: the server needs a collected set with at least MOST + 8 open pairs, named by SET, or else the first one
 * that has them. Also read: MOST (votes timed, 20), SHOTS (a folder for images of the screen), VUE (Nodes 2.0), LOCALE.
 */
import path from "node:path";
import { axe, fromMenu, openPanel, paintTime, ready, withPage } from "./page.mjs";

const { SET, MOST = "20", SHOTS, VUE, LOCALE = "en" } = process.env;
const checks = {};
const expect = (name, passed, found) => (checks[name] = passed ? "ok" : `FAILED: ${JSON.stringify(found)}`);
const dialog = ".dspo-vote";
/** An answer counts 250 ms after the images are painted. */
async function asking(page) {
  await page.waitForSelector(".dspo-stage .dspo-choice.left:enabled img");
  await page.waitForSelector(".dspo-vote[data-painted]");
  await page.waitForTimeout(330);
}
const shown = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll(".dspo-choice img")].map((image) => new URL(image.src).searchParams.get("image")),
  );
const counter = (page) =>
  page
    .locator(`${dialog} .dspo-counter strong`)
    .textContent()
    .then((text) => text.match(/\d+/g).map(Number));
const served = (page, what) => page.evaluate((url) => fetch(url).then((answer) => answer.json()), `/api/dspo/${what}`);
const query = (values) => new URLSearchParams(values).toString();

async function shot(page, name) {
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
}

async function chosenSet(page) {
  const { sets } = await served(page, "sets");
  const fits = sets.filter(({ place, progress }) => place === "sets" && progress && progress.open >= Number(MOST) + 8);
  return SET ?? fits[0]?.set;
}

async function open(page, set) {
  await openPanel(page);
  await page.locator(`[data-focus="vote:sets:${set}"]`).click();
  await asking(page);
}

/** The server's answered count, once it is `wanted` or time is up. */
async function answered(page, set, wanted) {
  for (let n = 0; n < 40; n++) {
    const { progress } = await served(page, `next?${query({ place: "sets", set, count: 1 })}`);
    if (progress.answered === wanted || n === 39) return progress.answered;
    await page.waitForTimeout(100);
  }
}

async function votesAndUndo(page, set) {
  await open(page, set);
  const [start] = await counter(page);
  const [left, right] = await shown(page);
  await page.keyboard.press("ArrowRight");
  expect("one vote reaches the server", (await answered(page, set, start + 1)) === start + 1);
  const { votes } = await served(page, `history?${query({ place: "sets", set, limit: 1 })}`);
  expect("the right image won", votes[0].winner === right && votes[0].images.includes(left), votes[0]);
  await asking(page);
  await page.keyboard.press("u");
  expect("undo reaches the server", (await answered(page, set, start)) === start);
  await asking(page);
  expect("undo shows the pair again", (await shown(page)).join() === [left, right].join(), await shown(page));
  await page.locator(".dspo-choice.left").click();
  expect("a click on an image votes", (await answered(page, set, start + 1)) === start + 1);
  await asking(page);
  await page.keyboard.press("ArrowDown");
  await asking(page);
  await page.keyboard.press("s");
  expect("tie and skip are votes", (await answered(page, set, start + 3)) === start + 3);
  return start + 3;
}

async function viewing(page) {
  await asking(page);
  const transform = () =>
    page.evaluate(() => [...document.querySelectorAll(".dspo-choice img")].map(({ style }) => style.transform));
  await page.keyboard.press("z");
  const near = await transform();
  expect("zoom is the same on both", near[0] === near[1] && near[0].includes("scale(3"), near);
  const box = await page.locator(".dspo-choice.left").boundingBox();
  const before = await counter(page);
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 60, box.y + box.height / 2 + 30, { steps: 4 });
  await page.mouse.up();
  const moved = await transform();
  expect(
    "a drag moves both and does not vote",
    moved[0] !== near[0] && moved[0] === moved[1] && (await counter(page))[0] === before[0],
    moved,
  );
  await page.mouse.wheel(0, 2000);
  await page.keyboard.press("z");
  await page.keyboard.press("f");
  const flickering = await page.evaluate(() => document.querySelector(".dspo-stage").dataset.flicker);
  await page.keyboard.press("Escape");
  const after = await page.evaluate(() => document.querySelector(".dspo-stage").dataset.flicker);
  expect(
    "F flickers, Escape ends it first",
    Boolean(flickering) && after === undefined && (await page.locator(dialog).count()) === 1,
    [flickering, after],
  );
}

async function keysStay(page) {
  const tab = page.locator(".dspo-panel");
  await page.keyboard.press("w");
  await page.keyboard.press("Control+a");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("?");
  expect("keys are heard after the focus was lost", await page.locator(".dspo-help").isVisible());
  await page.keyboard.press("?");
  expect(
    "keys do not reach ComfyUI behind the dialog",
    (await tab.count()) === 1 && (await page.locator(dialog).count()) === 1,
  );
}

/** Times from the key to the next pair painted; waits between as a person would. */
async function timing(page) {
  const times = [];
  for (let n = 0; n < Number(MOST); n++) {
    await asking(page);
    await page.waitForTimeout(400);
    times.push(await paintTime(page, n % 2 ? "ArrowLeft" : "ArrowRight"));
  }
  times.sort((a, b) => a - b);
  return { median_ms: times[Math.floor(times.length / 2)], slowest_ms: times.at(-1), votes: times.length };
}

async function outage(page, set, count) {
  let attempts = 0;
  await page.route("**/dspo/vote", (route) => (attempts++ < 2 ? route.abort() : route.continue()));
  await asking(page);
  await page.keyboard.press("ArrowLeft");
  await page.locator(`${dialog} .dspo-trouble`).waitFor({ state: "visible" });
  expect(
    "a vote that finds no server is said to wait",
    /1/.test(await page.locator(`${dialog} .dspo-trouble`).textContent()),
  );
  expect("it arrives once the server answers", (await answered(page, set, count + 1)) === count + 1);
  await page.unroute("**/dspo/vote");
  await page.route("**/dspo/vote", (route) => route.abort());
  await asking(page);
  await page.keyboard.press("ArrowLeft");
  await page.waitForFunction(() => Object.keys(localStorage).some((key) => key.startsWith("dspo-studio.vote.")));
  await page.unroute("**/dspo/vote");
  await ready(page); // a reload in the middle
  expect("a reload sends what was kept", (await answered(page, set, count + 2)) === count + 2);
  expect(
    "nothing is left in the store",
    await page.evaluate(() => !Object.keys(localStorage).some((key) => key.startsWith("dspo-studio.vote."))),
  );
  await open(page, set);
  expect("voting goes on where it stopped", (await counter(page))[0] === count + 2, await counter(page));
  return count + 2;
}

async function review(page, set) {
  await fromMenu(page, "sets", set, "review");
  await page.waitForFunction(() => document.querySelectorAll(".dspo-review .dspo-thumb img").length >= 2);
  await page.selectOption(".dspo-review select", "wins");
  const history = () => served(page, `history?${query({ place: "sets", set, limit: 1 })}`);
  const before = await history();
  const other = page.locator(".dspo-vote-row").first().locator(".dspo-thumb:not(.chosen)");
  const image = await other.locator("img").evaluate(({ src }) => new URL(src).searchParams.get("image"));
  await other.click();
  await page.waitForFunction(
    (name) => document.querySelector(".dspo-thumb.chosen img")?.src.includes(encodeURIComponent(name)),
    image,
  );
  const { votes, total } = await history();
  expect("a click on the other image relabels", total === before.total + 1 && votes[0].winner === image, votes);
  await shot(page, "review");
  const found = await axe(page, ".dspo-review");
  await page.keyboard.press("Escape");
  return found;
}

async function themes(page, set) {
  const found = {};
  for (const theme of ["dark", "light"]) {
    await page.evaluate((name) => window.app.extensionManager.setting.set("Comfy.ColorPalette", name), theme);
    await page.waitForTimeout(700);
    found[`panel ${theme}`] = await axe(page, ".dspo-panel");
    await shot(page, `panel-${theme}`);
    await open(page, set);
    found[`voting ${theme}`] = await axe(page, dialog);
    await shot(page, `voting-${theme}`);
    await page.keyboard.press("Escape");
  }
  return found;
}

const report = await withPage({ vueNodes: Boolean(VUE), locale: LOCALE }, async ({ page, problems }) => {
  await page.evaluate(() => localStorage.setItem("dspo-studio.view", "pairs"));
  const set = await chosenSet(page);
  if (!set) throw new Error("No collected set has enough open pairs; collect some, or name one with SET.");
  let count = await votesAndUndo(page, set);
  await viewing(page);
  await keysStay(page);
  await page.keyboard.press("Escape");
  expect("Escape closes the dialog", (await page.locator("dialog.dspo").count()) === 0);
  expect(
    "the focus returns to the button",
    await page.evaluate(() => document.activeElement?.dataset?.focus?.startsWith("vote:")),
    await page.evaluate(() => document.activeElement?.outerHTML.slice(0, 200)),
  );
  await open(page, set);
  count = await outage(page, set, count);
  const time = await timing(page);
  expect("the next pair is there within 100 ms", time.median_ms < 100, time);
  count += time.votes;
  expect(
    "every timed vote arrived once",
    (await answered(page, set, count)) === count,
    await answered(page, set, count),
  );
  await page.keyboard.press("Escape");
  await page.waitForTimeout(800);
  const found = { review: await review(page, set), ...(await themes(page, set)) };
  const expected = problems.filter((each) => !/ERR_FAILED|aborted/i.test(each));
  expect("no error in the page", expected.length === 0, expected);
  for (const [name, list] of Object.entries(found)) expect(`axe: ${name}`, list.length === 0, list);
  return { set, time, checks };
});

console.log(JSON.stringify(report, null, 2));
process.exitCode = Object.values(checks).every((each) => each === "ok") ? 0 : 1;
