/**
 * Drives the voting dialog in a real page, one part after the other, and prints what was seen as JSON.
 *
 *   URL_=... CHROMIUM=... NODE_PATH=... node tests/web/browser/ballots.mjs
 *
 * It expects the sets that test_grid_voting.py makes. SHOTS names a folder for images of the screen.
 */
import path from "node:path";
import { axe, openPanel, ready, withPage } from "./page.mjs";

const { SHOTS } = process.env;
const seen = {};
const dialog = ".dspo-vote";
const SETTLED_MS = 330; // an answer counts 250 ms after the images are painted

/** The button that loop.js offers after the last vote, with an action that only says that it was called. */
const STEPS = `export const nextSteps = (place, set) => [
  { key: "train", label: "Train a LoRA", act: async () => { window.stepped = [place, set]; } }];`;

async function offerSteps(route) {
  const own = await (await route.fetch()).text();
  const body = `${own.replace("export function nextSteps", "function nextStepsOfTheLoop")}\n${STEPS}`;
  await route.fulfill({ contentType: "text/javascript", body });
}

/** A module of ours that the page has loaded. */
const opened = (page, name, call) =>
  page.evaluate(
    async ([file, act, place, set]) => {
      const own = performance.getEntriesByType("resource").find((each) => each.name.endsWith("/ui/voting.js")).name;
      (await import(own.replace("ui/voting.js", file)))[act](place, set);
    },
    [name, ...call],
  );

const shot = (page, name) => SHOTS && page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
const served = (page, what) => page.evaluate((url) => fetch(url).then((answer) => answer.json()), `/api/dspo/${what}`);
const progress = async (page, set, place = "sets") =>
  (await served(page, `next?${new URLSearchParams({ place, set, count: 1 })}`)).progress;
const text = (page, selector) => page.locator(selector).first().innerText();
const box = (page, selector) => page.locator(selector).first().boundingBox();
const names = (page, selector) =>
  page.evaluate(
    (each) => [...document.querySelectorAll(each)].map(({ src }) => new URL(src).searchParams.get("image")),
    selector,
  );
const cells = (page) => names(page, ".dspo-cell .dspo-choice img");
const pair = (page) => names(page, ".dspo-stage .dspo-choice img");
async function settled(page) {
  await page.waitForSelector(`${dialog}[data-painted]`);
  await page.waitForTimeout(SETTLED_MS);
}

async function gridShown(page) {
  await page.waitForSelector(".dspo-cell .dspo-choice:enabled img");
  await settled(page);
}

async function pairShown(page) {
  await page.waitForSelector(".dspo-stage:not([hidden]) .dspo-choice.left:enabled img");
  await settled(page);
}

async function open(page, set, place = "sets") {
  await openPanel(page);
  await page.locator(`[data-focus="vote:${place}:${set}"]`).click();
}

async function close(page) {
  while (await page.locator("dialog.dspo").count()) await page.keyboard.press("Escape");
}

/** Wait until something else than `before` is shown, or the end. */
const moved = (page, before) =>
  page.waitForFunction(
    (old) => {
      const now = [...document.querySelectorAll(".dspo-choice img")].map(({ src }) => src).join();
      return document.querySelector(".dspo-vote.ended") || (now && !old.some((each) => now.includes(encodeURIComponent(each))));
    },
    before,
    { timeout: 30_000 },
  );

/** 24 groups of four, a click for each. */
async function oneClickPerGroup(page) {
  await open(page, "many");
  const clicks = { open: 1, votes: 0 };
  const started = Date.now();
  while (!(await page.locator(`${dialog}.ended`).count())) {
    await gridShown(page);
    const before = await cells(page);
    await page.locator(".dspo-cell .dspo-choice").nth(clicks.votes % 4).click();
    clicks.votes += 1;
    await moved(page, before);
  }
  await page.waitForTimeout(600);
  const end = await text(page, ".dspo-end");
  await page.locator(".dspo-strip img").first().waitFor();
  const strip = await page.locator(".dspo-strip img").count();
  const steps = await page.locator(".dspo-end .dspo-button").allInnerTexts();
  seen.many = { clicks, seconds: (Date.now() - started) / 1000, end, strip, steps, progress: await progress(page, "many") };
  await page.keyboard.press("u");
  await gridShown(page);
  seen.many.undone = await progress(page, "many");
  await page.keyboard.press("1");
  await page.waitForSelector(`${dialog}.ended`);
  await page.locator('[data-step="train"]').click();
  await page.waitForFunction(() => window.stepped);
  seen.many.stepped = await page.evaluate(() => window.stepped);
  seen.many.closed = (await page.locator(dialog).count()) === 0;
}

/** Rank by Shift and digits, bad by a right click, all bad, none better, skip: with keys alone, but for the clicks. */
async function marks(page) {
  await open(page, "marks");
  const given = [];
  const note = async (how, act) => {
    await gridShown(page);
    const images = await cells(page);
    await act(images);
    await moved(page, images);
    given.push({ how, images });
  };
  await note("ranked", async () => {
    for (const key of ["Shift+Digit2", "Shift+Digit4", "Shift+Digit1"]) await page.keyboard.press(key);
    seen.badges = await page.locator(".dspo-badge-mark:visible").allInnerTexts();
    await page.keyboard.press("Enter");
  });
  await note("bad", async () => {
    await page.locator(".dspo-cell .dspo-choice").nth(2).click({ button: "right" });
    seen.badLabel = await page.locator(".dspo-cell .dspo-choice").nth(2).getAttribute("aria-label");
    await page.locator('[data-action="done"]').click();
  });
  await note("bad by key", async () => {
    await page.keyboard.press("b");
    await page.keyboard.press("1");
    await page.keyboard.press("2");
    await page.keyboard.press("b");
    await page.keyboard.press("4"); // the best, with two bad ones
  });
  await note("rank tool", async () => {
    await page.keyboard.press("r");
    const choices = page.locator(".dspo-cell .dspo-choice");
    await choices.nth(3).click();
    await choices.nth(0).click();
    await page.keyboard.press("Enter"); // the focus is on an image
    await page.keyboard.press("r");
  });
  await note("all bad", () => page.keyboard.press("x"));
  await note("none", () => page.keyboard.press("t"));
  await note("skip", () => page.keyboard.press("s"));
  await gridShown(page);
  const label = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  for (let n = 0; n < 3 && (await label()) !== "Image 2"; n++) await page.keyboard.press("ArrowRight");
  const focused = await label();
  const images = await cells(page);
  await page.keyboard.press("z");
  const large = await page.locator(".dspo-large img").getAttribute("src");
  await page.keyboard.press("Escape");
  await page.keyboard.press(" ");
  await moved(page, images);
  seen.keys = { focused, large: new URL(large, page.url()).searchParams.get("image") === images[1], chosen: images[1] };
  given.push({ how: "focus", images });
  await page.waitForTimeout(500);
  seen.marks = given;
  await close(page);
}

/** ux 13 and 14: a resting pointer frames nothing, and a key pressed before one can have looked is no answer. */
async function atFirstSight(page) {
  await page.evaluate(() => {
    const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    const look = () => {
      if (!document.querySelector(".dspo-stage .dspo-choice.left:enabled img")) return requestAnimationFrame(look);
      ["ArrowLeft", "ArrowLeft", "ArrowRight"].forEach(press);
      window.pressedEarly = true;
    };
    look();
  });
  await open(page, "pairs");
  await page.waitForFunction(() => window.pressedEarly);
  await page.waitForTimeout(100);
  seen.early = { said: await text(page, ".dspo-said"), answered: (await progress(page, "pairs")).answered };
  await settled(page);
  const left = await box(page, ".dspo-choice.left");
  const frame = () =>
    page.evaluate(() => getComputedStyle(document.querySelector(".dspo-choice.left"), "::after").borderTopColor);
  await page.mouse.move(left.x + left.width / 2, left.y + left.height / 2);
  await page.mouse.move(left.x + left.width / 2 + 20, left.y + left.height / 2);
  await page.waitForTimeout(250);
  const hovered = await frame();
  const before = await pair(page);
  await page.mouse.down();
  await page.mouse.up();
  await moved(page, before);
  await pairShown(page);
  const rested = await frame();
  await page.mouse.move(left.x + left.width / 2 + 40, left.y + left.height / 2);
  await page.mouse.move(left.x + left.width / 2 + 60, left.y + left.height / 2);
  await page.waitForTimeout(250);
  seen.frames = { hovered, rested, again: await frame(), answered: (await progress(page, "pairs")).answered };
}

/** ux 16: what an earlier page did is undone from a new one. */
async function undoAfterReload(page) {
  await pairShown(page);
  const before = await pair(page);
  await page.keyboard.press("b"); // both bad
  await moved(page, before);
  await page.waitForFunction(() => !Object.keys(localStorage).some((key) => key.startsWith("dspo-studio.vote.")));
  const counted = await progress(page, "pairs");
  await ready(page);
  await open(page, "pairs");
  await pairShown(page);
  await page.keyboard.press("u");
  await page.waitForFunction(() => /undone|Nothing/.test(document.querySelector(".dspo-said").textContent));
  await pairShown(page);
  seen.undo = { said: await text(page, ".dspo-said"), bads: counted.bads, after: await progress(page, "pairs"), same: (await pair(page)).join() === before.join() };
  await close(page);
}

/** ux 28: long and short prompts leave the images where they are. */
async function layout(page) {
  await open(page, "prompts");
  const places = [];
  for (let n = 0; n < 3; n++) {
    await pairShown(page);
    const { x, y, width, height } = await box(page, ".dspo-choice.left");
    places.push([x, y, width, height].join());
    const before = await pair(page);
    await page.keyboard.press("s");
    await moved(page, before);
  }
  seen.layout = places;
  await close(page);
}

/** Slider, information, and the switch between the two views, which is remembered. */
async function looking(page) {
  await open(page, "looks");
  await gridShown(page);
  await page.keyboard.press("v");
  await pairShown(page);
  const labels = await page.locator(".dspo-answers .dspo-button").allInnerTexts();
  await page.keyboard.press("c");
  await page.locator(".dspo-divider").fill("25");
  const clip = await page.evaluate(() => {
    const choice = document.querySelector(".dspo-choice.left");
    const [, cut] = getComputedStyle(choice).clipPath.match(/^inset\(0px calc\(100% - ([\d.]+)px\) 0px 0px\)$/);
    const { naturalWidth, naturalHeight } = choice.querySelector("img");
    const width = choice.clientHeight * (naturalWidth / naturalHeight); // the stage is wider than the image
    return (cut - (choice.clientWidth - width) / 2) / width;
  });
  await shot(page, "slider");
  await page.keyboard.press("Escape");
  await page.keyboard.press("i");
  await page.locator(".dspo-info dd").first().waitFor();
  const info = await text(page, ".dspo-info");
  await shot(page, "info");
  await page.keyboard.press("Escape");
  await close(page);
  await open(page, "looks");
  await pairShown(page);
  const view = await page.locator(".dspo-cell").count();
  await page.keyboard.press("v");
  await gridShown(page);
  seen.looking = { labels, clip, info, cellsInPairs: view, cells: await page.locator(".dspo-cell").count() };
  await page.locator(".dspo-find").fill("lighthouse");
  await page.waitForFunction(() => /lighthouse/.test(document.querySelector(".dspo-prompt").textContent));
  seen.looking.found = await text(page, ".dspo-prompt");
  await page.locator(".dspo-find").fill("no such prompt");
  await page.waitForSelector(`${dialog}.ended`);
  seen.looking.nothing = await text(page, ".dspo-end");
  await close(page);
}

/** ux 22: the server goes, and the dialog goes on by itself when it is back. */
async function restart(page) {
  let down = true;
  const gone = (route) => (down ? route.abort() : route.continue());
  await page.route("**/dspo/{groups,next,image}?*", gone);
  await open(page, "looks");
  await page.locator(`${dialog} .dspo-trouble`).waitFor({ state: "visible" });
  const said = await text(page, ".dspo-trouble");
  down = false;
  await gridShown(page);
  seen.restart = { said, trouble: await page.locator(".dspo-trouble:visible").count() };
  await page.unroute("**/dspo/{groups,next,image}?*", gone);
  await close(page);
}

/** ux 27: a blind test in pairs, without seeds or a grid, and its result. */
async function blind(page) {
  await open(page, "taste-01", "blind");
  await pairShown(page);
  seen.blind = { info: await page.locator('[data-action="info"], [data-action="view"]').count() };
  for (let n = 0; n < 4; n++) {
    await pairShown(page);
    const before = await pair(page);
    await page.keyboard.press(n ? "ArrowLeft" : "t");
    await moved(page, before);
  }
  await page.locator(".dspo-end .dspo-number").waitFor();
  await page.locator(".dspo-end a[download]").waitFor();
  Object.assign(seen.blind, { end: await text(page, ".dspo-end"), images: await page.locator(".dspo-end img").count() });
  seen.blind.axe = await axe(page, dialog);
  await shot(page, "blind-end");
  await close(page);
}

/** ux 32: the votes can be changed to what names no winner, and an image seen large. */
async function review(page) {
  await opened(page, "ui/review.js", ["openReview", "sets", "many"]);
  const first = page.locator(".dspo-vote-row").first();
  await first.waitFor();
  await first.locator("button", { hasText: "Both bad" }).click();
  await page.waitForFunction(() => document.querySelector(".dspo-vote-row .dspo-badge")?.textContent === "Both bad");
  await shot(page, "review");
  seen.review = { bads: (await progress(page, "many")).bads, axe: await axe(page, ".dspo-review") };
  await first.locator(".dspo-enlarge").first().focus();
  await page.keyboard.press("Enter");
  seen.review.large = await page.locator(".dspo-image img").evaluate(async (image) => (await image.decode(), image.naturalWidth));
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
}

/** Both themes at three widths: what axe finds, and what the buttons say where images stack. */
async function everywhere(page) {
  seen.axe = {};
  for (const theme of ["dark", "light"]) {
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.evaluate((name) => window.app.extensionManager.setting.set("Comfy.ColorPalette", name), theme);
    await page.waitForTimeout(700);
    await open(page, "looks");
    for (const [width, height] of [[1440, 900], [800, 900], [420, 800]]) {
      await page.setViewportSize({ width, height });
      const name = `${theme}-${width}`;
      await gridShown(page);
      await page.keyboard.press("Shift+Digit1");
      await page.locator(".dspo-cell .dspo-choice").nth(1).click({ button: "right" });
      seen.axe[`grid ${name}`] = await axe(page, dialog);
      await shot(page, `grid-${name}`);
      await page.locator(".dspo-cell .dspo-choice").nth(1).click({ button: "right" });
      await page.keyboard.press("Shift+Digit1");
      await page.keyboard.press("v");
      await pairShown(page);
      seen.axe[`pair ${name}`] = await axe(page, dialog);
      await shot(page, `pair-${name}`);
      if (width === 420) seen.narrow = await narrow(page);
      await page.keyboard.press("v");
      await gridShown(page);
    }
    await close(page);
    await page.setViewportSize({ width: 1440, height: 900 });
    await open(page, `ends-${theme}`);
    await gridShown(page);
    await page.keyboard.press("1");
    await page.waitForSelector(`${dialog}.ended`);
    await page.locator(".dspo-strip img").first().waitFor();
    for (const [width, height] of [[1440, 900], [800, 900], [420, 800]]) {
      await page.setViewportSize({ width, height });
      await page.waitForTimeout(300);
      seen.axe[`end ${theme}-${width}`] = await axe(page, dialog);
      await shot(page, `end-${theme}-${width}`);
    }
    await close(page);
  }
}

/** Stacked, the arrow keys up and down choose. */
async function narrow(page) {
  const [top, bottom] = await Promise.all([box(page, ".dspo-choice.left"), box(page, ".dspo-choice.right")]);
  const labels = await page.locator(".dspo-answers .dspo-button span").allInnerTexts();
  const answered = (await progress(page, "looks")).answered;
  const before = await pair(page);
  await page.keyboard.press("ArrowUp");
  await moved(page, before);
  await page.waitForTimeout(300);
  const { votes } = await served(page, `history?${new URLSearchParams({ place: "sets", set: "looks", limit: 1 })}`);
  const won = votes[0].winner === before[0];
  await page.keyboard.press("u");
  await page.waitForTimeout(300);
  await pairShown(page);
  return { stacked: bottom.y > top.y + 50, labels, won, before: answered, after: (await progress(page, "looks")).answered };
}

/** From a click on a grid to the next one painted, as a person would click. */
async function timing(page) {
  await open(page, "speed");
  const times = [];
  for (let n = 0; n < 10; n++) {
    await gridShown(page);
    await page.waitForTimeout(200);
    times.push(
      await page.evaluate(async () => {
        const source = () => document.querySelector(".dspo-cell img")?.src;
        const before = source();
        const started = performance.now();
        document.querySelector(".dspo-cell .dspo-choice").click();
        const frame = () => new Promise((done) => requestAnimationFrame(done));
        while (source() === before || !source()) await frame();
        await frame();
        return performance.now() - started;
      }),
    );
  }
  times.sort((a, b) => a - b);
  seen.times = { median: times[5], slowest: times.at(-1) };
  await close(page);
}

const PARTS = { oneClickPerGroup, marks, atFirstSight, undoAfterReload, layout, looking, restart, blind, review, timing, everywhere };
const only = process.env.ONLY?.split(",") ?? Object.keys(PARTS);

await withPage({}, async ({ page, problems, context }) => {
  page.setDefaultTimeout(20_000);
  await context.route(/\/loop\.js$/, (route) => (route.request().url().includes("/core/") ? route.continue() : offerSteps(route)));
  await page.reload();
  await ready(page);
  for (const name of only) {
    try {
      await PARTS[name](page);
    } catch (error) {
      seen[`${name} failed`] = String(error.stack).slice(0, 1500);
      await shot(page, `failed-${name}`);
      await close(page).catch(() => {});
    }
  }
  seen.problems = problems.filter((each) => !/ERR_FAILED|aborted/i.test(each));
});
console.log(JSON.stringify(seen));
