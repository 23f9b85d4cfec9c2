/**
 * Votes on a set whose images have features, in a real page, and prints what was said of the taste as JSON.
 *
 *   URL_=... CHROMIUM=... NODE_PATH=... node tests/web/browser/taste.mjs
 *
 * It expects the sets that test_set_taste.py makes. SHOTS names a folder for images of the screen.
 */
import path from "node:path";
import { axe, fromMenu, openPanel, withPage } from "./page.mjs";

const { SHOTS } = process.env;
const SETTLED_MS = 330; // an answer counts 250 ms after the images are painted
const seen = {};

const shot = (page, name) => SHOTS && page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
const text = (page, selector) => page.locator(selector).first().innerText();
const count = (page, selector) => page.locator(selector).count();

async function open(page, set) {
  await openPanel(page);
  await page.locator(`[data-focus="vote:sets:${set}"]`).click();
}

async function close(page) {
  while (await count(page, "dialog.dspo")) await page.keyboard.press("Escape");
}

/** Choose the first image of each group or pair until none is left. */
async function voteToTheEnd(page) {
  for (let most = 60; most && !(await count(page, ".dspo-vote.ended")); most--) {
    await page.waitForSelector(".dspo-vote[data-painted], .dspo-vote.ended");
    await page.waitForTimeout(SETTLED_MS);
    if (await count(page, ".dspo-vote.ended")) break;
    await page.keyboard.press((await count(page, ".dspo-cell")) ? "1" : "ArrowLeft");
    await page.waitForTimeout(60);
  }
}

async function known(page) {
  const card = ".dspo-card:has([data-focus='vote:sets:known'])";
  await openPanel(page);
  await page.locator(`${card} .dspo-known`).waitFor();
  seen.card = await text(page, `${card} .dspo-known`);
  seen.cardTitle = await page.locator(`${card} .dspo-known`).getAttribute("title");
  await shot(page, "taste-panel");
  seen.panelAxe = await axe(page, ".dspo-panel");
  await open(page, "known");
  await page.locator(".dspo-counter .dspo-known").waitFor();
  await page.waitForSelector(".dspo-vote[data-painted]");
  seen.counter = await text(page, ".dspo-counter .dspo-known");
  await shot(page, "taste-voting");
  await voteToTheEnd(page);
  await page.locator(".dspo-taste:not([hidden])").waitFor();
  await page.waitForTimeout(600);
  seen.end = await text(page, ".dspo-taste p");
  seen.endAxe = await axe(page, ".dspo-vote");
  await shot(page, "taste-end");
  await page.locator("[data-focus='ranked']").click();
  await page.locator(".dspo-ranks img").first().waitFor();
  await page.waitForTimeout(900);
  seen.ranked = {
    images: await page.evaluate(() =>
      [...document.querySelectorAll(".dspo-ranks img")].map(({ src }) => new URL(src).searchParams.get("image")),
    ),
    said: await text(page, ".dspo-ranked [role=status]"),
    first: await text(page, ".dspo-ranks li"),
    axe: await axe(page, ".dspo-ranked"),
  };
  await shot(page, "taste-ranked");
  await page.locator(".dspo-ranked .dspo-dialog-body > .dspo-button").click();
  await page.waitForFunction(() => document.querySelectorAll(".dspo-ranks li").length > 60);
  seen.ranked.all = await count(page, ".dspo-ranks li");
  seen.ranked.more = await page.locator(".dspo-ranked .dspo-dialog-body > .dspo-button").isVisible();
  await page.locator(".dspo-rank-picture").first().click();
  await page.locator(".dspo-image img").waitFor();
  seen.ranked.large = await text(page, ".dspo-image h2");
  await close(page);
}

async function plain(page) {
  await open(page, "plain");
  await page.waitForSelector(".dspo-vote[data-painted]");
  await voteToTheEnd(page);
  await page.waitForTimeout(600);
  seen.plain = { known: await count(page, ".dspo-vote .dspo-known"), line: await count(page, ".dspo-taste") };
  await close(page);
  seen.plain.card = await count(page, ".dspo-card:has([data-focus$=':sets:plain']) .dspo-known");
}

async function few(page) {
  await open(page, "few");
  await page.waitForSelector(".dspo-vote[data-painted]");
  await voteToTheEnd(page);
  await page.locator(".dspo-taste:not([hidden])").waitFor();
  seen.few = { said: await text(page, ".dspo-taste"), known: await count(page, ".dspo-vote .dspo-known") };
  await close(page);
}

async function fromTheMenu(page) {
  await openPanel(page);
  await fromMenu(page, "sets", "known", "ranked");
  await page.locator(".dspo-ranks img").first().waitFor();
  seen.menu = await count(page, ".dspo-ranks li");
  await page.waitForTimeout(900);
  await shot(page, "taste-ranked-narrow-light");
  await close(page);
}

async function part(name, options, act) {
  try {
    await withPage(options, async ({ page, problems }) => {
      await act(page);
      seen.problems = [...(seen.problems ?? []), ...problems];
    });
  } catch (error) {
    seen[`${name} failed`] = String(error.stack);
  }
}

await part("known", {}, known);
await part("plain", {}, async (page) => (await plain(page), await few(page)));
await part("menu", { palette: "light", viewport: { width: 760, height: 900 }, locale: "zh" }, fromTheMenu);
console.log(JSON.stringify(seen));
