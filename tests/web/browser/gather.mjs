/**
 * Drives the dialog for images that are there already in a real page and prints what it found as JSON; ends with 1
 * after a failure. tests/host/test_gather.py starts it and says what lies where. Also read: DROPS (a folder of three
 * images to drop), SHOTS (a folder for images of the screen), LOCALE.
 */
import fs from "node:fs";
import path from "node:path";
import { TEXTS } from "../../../web/texts.js";
import { axe, openPanel, withPage } from "./page.mjs";

const { DROPS, SHOTS, LOCALE = "en" } = process.env;
const SET = "evening-taste";
const checks = {};
const expect = (name, passed, found) => (checks[name] = passed ? "ok" : `FAILED: ${JSON.stringify(found)}`);
const dialog = "dialog.dspo-gather";
const files = fs.readdirSync(DROPS).map((name) => path.join(DROPS, name));

async function shot(page, name) {
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, `gather-${LOCALE}-${name}.png`) });
}

const open = (page) =>
  page.evaluate(async () => (await import("/extensions/dspo-studio/ui/gather.js")).openGather(() => {}));
const group = (page, text) => page.locator(`${dialog} .dspo-gather-group`).filter({ hasText: text });
const listed = (page) => page.locator(`${dialog} .dspo-gather-group`).first().waitFor();
const drawn = (page) =>
  page.waitForFunction(() =>
    [...document.querySelectorAll(".dspo-gather-image img")]
      .slice(0, 12)
      .every((image) => image.complete && image.naturalWidth),
  );
const collectButton = (page) => page.locator(`${dialog} form button[type=submit]`);

async function drop(page, target, names) {
  const contents = names.map((name) => ({ name: path.basename(name), data: fs.readFileSync(name).toString("base64") }));
  const transfer = await page.evaluateHandle((list) => {
    const carried = new DataTransfer();
    for (const { name, data } of list) {
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      carried.items.add(new File([bytes], name, { type: name.endsWith(".png") ? "image/png" : "text/plain" }));
    }
    return carried;
  }, contents);
  for (const type of ["dragenter", "dragover", "drop"])
    await page.dispatchEvent(target, type, { dataTransfer: transfer });
}

/** Name the set, collect with Enter, and wait for the end. */
async function collect(page) {
  const set = page.locator(`${dialog} form input[list]`);
  await set.fill(SET);
  await set.press("Enter");
  const vote = page.locator(`${dialog} .dspo-gather-state .primary`);
  await vote.waitFor();
  return page.locator(`${dialog} .dspo-gather-said`).textContent();
}

async function looks(page) {
  const found = {};
  for (const theme of ["dark", "light"]) {
    await page.evaluate((name) => window.app.extensionManager.setting.set("Comfy.ColorPalette", name), theme);
    for (const width of [1440, 800, 420]) {
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(500);
      await drawn(page);
      const wide = await page.locator(dialog).evaluate((root) => root.scrollWidth - root.clientWidth);
      expect(`nothing is cut off: ${theme} ${width}`, wide <= 0, wide);
      found[`${theme} ${width}`] = await axe(page, dialog);
      await shot(page, `${theme}-${width}`);
    }
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  return found;
}

/** The dialog with the keyboard alone, from choosing to the first question. */
async function byKeyboard(page) {
  await open(page);
  await listed(page);
  const title = await page.locator(`${dialog} h2`).textContent();
  expect("it speaks the language", title === TEXTS[LOCALE].gatherTitle, title);
  const fox = group(page, "red fox");
  await fox.locator(".dspo-gather-head input").focus();
  await page.keyboard.press("Space");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  expect("19 of 20 foxes are chosen", /19.*20|20.*19/.test(await fox.locator(".dspo-gather-head span").textContent()));
  const tick = fox.locator(".dspo-gather-head input");
  expect("the group is half ticked", await tick.evaluate(({ indeterminate }) => indeterminate));
  const more = fox.locator(":scope > button");
  await more.focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll(".dspo-gather-group:first-child img").length === 20);
  expect("more images are ticked as well", (await fox.locator(".dspo-gather-image input:checked").count()) === 19);
  const house = group(page, "lighthouse");
  await house.locator(".dspo-gather-head input").focus();
  await page.keyboard.press("Space");
  const single = group(page, "one of a kind");
  expect(
    "a single image says that it cannot be compared",
    (await single.locator("p").count()) === 1 && (await single.locator("input:enabled").count()) === 0,
  );
  expect("28 are counted", /28/.test(await page.locator(`${dialog} form [role=status]`).textContent()));
  const found = await looks(page);
  const said = await collect(page);
  expect("28 images are collected: 45 + 45 - 9 + 36 - 30 pairs", /28/.test(said) && /87/.test(said), said);
  await shot(page, "collected");
  found.collected = await axe(page, dialog);
  await group(page, "lighthouse").locator(".dspo-mark").first().waitFor();
  const focused = await page.evaluate(() => document.activeElement?.className);
  expect("the focus is on voting", focused.includes("primary"), focused);
  await page.keyboard.press("Enter");
  await page.locator("dialog.dspo-vote img").first().waitFor();
  expect("voting opens", (await page.locator(dialog).count()) === 0);
  await page.keyboard.press("Escape");
  return found;
}

/** Naming another set marks what that one holds; the list is drawn anew, and the focus stays where it was. */
async function renaming(page) {
  await open(page);
  await page.locator(`${dialog} .dspo-mark`).first().waitFor();
  await page.locator(`${dialog} form input[list]`).fill("another");
  const prompt = group(page, "lighthouse").locator(".dspo-gather-head input");
  await prompt.focus();
  await page.waitForFunction(() => !document.querySelector(".dspo-gather .dspo-mark"));
  const kept = await prompt.evaluate((input) => input === document.activeElement);
  expect("the focus stays when the list is drawn anew", kept);
  await page.keyboard.press("Escape");
}

async function again(page, found) {
  await open(page);
  await listed(page);
  expect("what is in the set is marked", (await group(page, "lighthouse").locator(".dspo-mark").count()) === 9);
  await shot(page, "kept");
  found.kept = await axe(page, dialog);
  await group(page, "lighthouse").locator(".dspo-gather-head input").check();
  const said = await collect(page);
  expect("the same again is nothing new", !/\b[1-8]\b/.test(said) && /9/.test(said), said);
  await page.keyboard.press("Escape");
}

async function withoutPrompt(page) {
  await open(page);
  await page.locator(`${dialog} [data-source=input]`).click();
  const bare = page.locator(`${dialog} [data-group=none]`);
  await bare.waitFor();
  expect("the loose folder is offered", (await page.locator(`${dialog} option[value=loose]`).count()) === 1);
  await page.selectOption(`${dialog} select`, "loose");
  await bare.locator(".dspo-gather-head input").check();
  expect("without a prompt nothing is collected", await collectButton(page).isDisabled());
  await shot(page, "no-prompt");
  await bare.locator("input[type=text]").fill("grey noise");
  expect("with a prompt it is", await collectButton(page).isEnabled());
  const said = await collect(page);
  expect("three loose images are collected", /3/.test(said), said);
  await page.keyboard.press("Escape");
}

async function dropped(page) {
  await openPanel(page);
  const nodes = () => page.evaluate(() => window.app.graph.serialize().nodes.length);
  const before = await nodes();
  await drop(page, ".dspo-panel", files.slice(0, 2));
  await page.locator(`${dialog} .dspo-gather-group`).filter({ hasText: "a dropped cat" }).waitFor();
  const cat = group(page, "a dropped cat");
  await page.waitForFunction(() => document.querySelectorAll(".dspo-gather-image input:checked").length === 2);
  expect("files dropped onto the panel are chosen", (await cat.locator(".dspo-gather-image").count()) === 2);
  expect("ComfyUI does not open them", (await nodes()) === before);
  const chooser = page.waitForEvent("filechooser");
  await page.locator(`${dialog} .dspo-row button:not([data-source]):visible`).first().click();
  await (await chooser).setFiles(files.slice(2));
  await page.waitForFunction(() => document.querySelectorAll(".dspo-gather-image input:checked").length === 3);
  expect("and so is a chosen file", (await cat.locator(".dspo-gather-image").count()) === 3);
  const text = path.join(DROPS, "note.txt");
  fs.writeFileSync(text, "no image");
  await drop(page, dialog, [text]);
  await page.locator(`${dialog} [role=alert]:visible`).waitFor();
  await shot(page, "dropped");
  const found = { dropped: await axe(page, dialog) };
  const said = await collect(page);
  expect("three dropped images are collected", /3/.test(said), said);
  await page.locator(`${dialog} .dspo-gather-state button:not(.primary)`).click();
  await page.locator(`${dialog} .dspo-empty:visible`).waitFor();
  expect("the tray is empty then", (await page.locator(`${dialog} .dspo-gather-group`).count()) === 0);
  await shot(page, "tray-empty");
  await page.keyboard.press("Escape");
  return found;
}

/** A folder that was never judged has nothing to import, and says what can be done. */
async function instead(page) {
  await page.evaluate(async () => {
    const { openImport } = await import("/extensions/dspo-studio/ui/transfer.js");
    openImport("loose", () => {});
  });
  await page.locator("dialog.dspo-narrow .primary").click();
  await page.locator("dialog.dspo-narrow [role=status] button").click();
  await page.locator(`${dialog} [data-group=none]`).waitFor();
  const shown = await page.locator(`${dialog} select`).first().inputValue();
  expect("a loose folder that cannot be imported is offered here", shown === "loose", shown);
  await page.keyboard.press("Escape");
}

async function outage(page) {
  await page.route("**/dspo/gather?**", (route) => route.abort());
  await open(page);
  await page.locator(`${dialog} [role=alert]:visible`).waitFor();
  await page.unroute("**/dspo/gather?**");
  await page.locator(`${dialog} [role=alert] button`).click();
  await listed(page);
  expect("after an outage it can be tried again", true);
  await page.keyboard.press("Escape");
}

const report = await withPage({ locale: LOCALE }, async ({ page, problems }) => {
  // ComfyUI's own list of languages has no German.
  await page.evaluate(async (name) => (await import("/extensions/dspo-studio/texts.js")).speak(name), LOCALE);
  const found = await byKeyboard(page);
  await renaming(page);
  await again(page, found);
  await withoutPrompt(page);
  Object.assign(found, await dropped(page));
  await instead(page);
  await outage(page);
  // Among these, what ComfyUI's own start says of itself on a slow machine.
  const known = /ERR_FAILED|aborted|409 .*import|graph accessed before initialization|ComfyApp\.reloadNodeDefs/i;
  const wrong = problems.filter((each) => !known.test(each));
  expect("no error in the page", wrong.length === 0, wrong);
  for (const [name, list] of Object.entries(found)) expect(`axe: ${name}`, list.length === 0, list);
  return { checks };
});

console.log(JSON.stringify(report, null, 2));
process.exitCode = Object.values(checks).every((each) => each === "ok") ? 0 : 1;
