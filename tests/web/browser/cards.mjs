/**
 * Uses the panel as a person would: starts, renames, deletes and takes back, filters, folds. Prints what it found as
 * JSON; ends with 1 after a failure.
 *
 *   URL_=... CHROMIUM=... NODE_PATH=... PART=fresh|filled|many node tests/web/browser/cards.mjs
 *
 * The server needs for `fresh` no set and no run, for `filled` the sets of tests/host/test_panel.py, and for `many` a
 * thousand of each. What the buttons of web/loop.js would do to the graph is only noted. Also read: SHOTS (a folder
 * for images of the screen).
 */
import path from "node:path";
import { axe, fromMenu, openPanel, ready, withPage } from "./page.mjs";

const { PART = "fresh", SHOTS } = process.env;
const checks = {};
const found = {};
const expect = (name, passed, seen) => (checks[name] = passed ? "ok" : `FAILED: ${JSON.stringify(seen)}`);
const served = (page, what) => page.evaluate((url) => fetch(url).then((answer) => answer.json()), `/api/dspo/${what}`);

const NOTED = `
  export * from "./loop.js?own";
  const note = (...what) => { (window.noted ??= []).push(what.join(" ")); return Promise.resolve(); };
  export const startPlayground = () => note("playground");
  export const startWith = (name) => note("with", name);
  export const checkpoints = async () => ["sd15.safetensors", "xl/a-name-so-long-that-no-sidebar-shows-it-whole.safetensors"];
  export const nextSteps = (place, set) => [
    place === "sets"
      ? { key: "train", label: "Train", act: () => note("train", set) }
      : { key: "round", label: "Next round", act: () => note("round", set) },
  ];
`;
const before = (page) =>
  page.route(/\/loop\.js$/, (route) => route.fulfill({ contentType: "text/javascript", body: NOTED }));
const noted = (page) => page.evaluate(() => window.noted ?? []);
const focused = (page) =>
  page.evaluate(() => document.activeElement?.dataset?.focus ?? document.activeElement?.tagName);
const card = (page, name) => page.locator(`.dspo-card:has(.dspo-name[title="${name}"])`);
const state = (page, name) => card(page, name).locator(".dspo-state").textContent();

async function until(read, fits, seconds = 8) {
  const end = Date.now() + 1000 * seconds;
  for (;;) {
    const seen = await read();
    if (fits(seen) || Date.now() > end) return seen;
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Check with axe, and photograph, in both themes and at each width. */
async function look(page, name, widths = [1440, 800, 420], selector = ".dspo-panel") {
  for (const theme of ["light", "dark"]) {
    await page.evaluate((value) => window.app.extensionManager.setting.set("Comfy.ColorPalette", value), theme);
    for (const width of SHOTS ? widths : widths.slice(0, 1)) {
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(500);
      if (SHOTS) await page.screenshot({ path: path.join(SHOTS, `${name}-${theme}-${width}.png`) });
      const seen = await axe(page, selector);
      expect(`axe: ${name} ${theme} ${width}`, seen.length === 0, seen);
      const wide = await page.evaluate((at) => {
        const root = document.querySelector(at);
        return root.scrollWidth - root.clientWidth;
      }, selector);
      expect(`nothing sticks out: ${name} ${theme} ${width}`, wide <= 0, wide);
    }
  }
  await page.setViewportSize({ width: 1440, height: 900 });
}

async function fresh({ page, problems }) {
  await openPanel(page);
  expect("the start is large", await page.locator(".dspo-start.big .dspo-way").first().isVisible());
  expect("empty sections are not shown", (await page.locator('.dspo-panel [data-section="runs"]').isHidden()) === true);
  await until(
    () => card(page, "shapes-large-and-dark").locator(".dspo-state").textContent(),
    (text) => /24/.test(text),
  );
  expect(
    "the example is labelled",
    (await card(page, "shapes-large-and-dark").locator(".dspo-badge").textContent()) === "Example",
  );
  expect("what it holds", (await state(page, "shapes-large-and-dark")) === "labelled folder of 24 pairs");
  await look(page, "fresh");
  await page.locator('[data-focus="start:playground"]').click();
  await page.locator('[data-focus="start:select"]').selectOption({ index: 1 });
  await page.locator('[data-focus="start:model"]').click();
  const long = "xl/a-name-so-long-that-no-sidebar-shows-it-whole.safetensors";
  expect("one click each", (await noted(page)).join() === `playground,with ${long}`, await noted(page));
  await ready(page);
  await openPanel(page);
  const value = await until(
    () => page.locator('[data-focus="start:select"]').inputValue(),
    (it) => it === long,
  );
  expect("the last used checkpoint is chosen", value === long, value);
  expect("no error in the page", problems.length === 0, problems);
}

async function filled({ page, problems }) {
  await openPanel(page);
  for (const name of ["holiday", "shapes-large-and-dark"]) {
    await card(page, name).scrollIntoViewIfNeeded(); // a folder is looked into when its card is seen
    await until(
      () => state(page, name),
      (text) => /\d/.test(text),
    );
  }
  await page.evaluate(() => document.querySelector(".dspo-panel").scrollTo(0, 0));
  const said = await until(
    () =>
      page
        .locator(".dspo-card")
        .evaluateAll((all) =>
          Object.fromEntries(
            all.map((each) => [each.querySelector(".dspo-name").title, each.querySelector(".dspo-state").textContent]),
          ),
        ),
    (all) => Object.keys(all).length === 10,
  );
  found.said = said;
  found.primary = await page
    .locator(".dspo-card")
    .evaluateAll((all) =>
      Object.fromEntries(
        all.map((each) => [
          each.querySelector(".dspo-name").title,
          [...each.querySelectorAll(".dspo-row .dspo-button.primary")].map((it) => it.textContent),
        ]),
      ),
    );
  expect(
    "at most one button of a card stands out",
    Object.values(found.primary).every((all) => all.length <= 1),
    found.primary,
  );
  const pictures = (name) => card(page, name).locator(".dspo-mosaic img").count();
  expect("pictures of a set", (await pictures("voting")) === 4, await pictures("voting"));
  expect("none of a test that is not finished", (await pictures("open-01")) === 0);
  expect("those of a finished one", (await pictures("done-01")) === 4);
  expect("the start is small", await page.locator(".dspo-start .dspo-way").first().isHidden());
  await page.locator('[data-focus="fold:start"]').click();
  await look(page, "started", [800]);
  await page.locator('[data-focus="fold:start"]').click();
  await look(page, "filled");
  await card(page, "holiday").locator('[data-focus="collect:sets:holiday"]').click();
  await page.locator(".dspo-gather").waitFor();
  await page.keyboard.press("Escape");
  await card(page, "voted").locator('[data-focus="train:sets:voted"]').click();
  expect("Train asks the graph", (await noted(page)).join() === "train voted", await noted(page));
  await fromMenu(page, "sets", "voting", "train"); // earlier than asked is possible
  expect("and so does the menu of a set that is not voted yet", (await noted(page)).at(-1) === "train voting");
  await keyboard(page);
  await undo(page);
  await bin(page);
  await kept(page);
  await filter(page);
  await page.locator('[data-focus="menu:sets:voted"]').click();
  await look(page, "menu", [1440], ".dspo-menu");
  await page.keyboard.press("Escape");
  expect("Escape gives the focus back", (await focused(page)) === "menu:sets:voted", await focused(page));
  const refused = problems.filter((each) => each.startsWith("409 ") && each.endsWith("/dspo/rename")); // meant to be
  expect("no error in the page", problems.length === 1 && refused.length === 1, problems);
}

/** Rename, without a mouse. */
async function keyboard(page) {
  await page.locator('[data-focus="menu:sets:new"]').focus();
  await page.keyboard.press("Enter");
  const here = () => page.evaluate(() => document.activeElement.dataset.action);
  const ways = [await here()];
  for (const key of ["ArrowDown", "ArrowDown", "Home", "End", "r"]) {
    await page.keyboard.press(key);
    ways.push(await here());
  }
  expect("keys move in the menu", ways.join() === "rename,delete,rename,rename,delete,rename", ways);
  await page.keyboard.press("Enter");
  await page.locator(".dspo-narrow input").waitFor();
  await look(page, "rename", [1440], ".dspo-narrow");
  await page.keyboard.type("voted");
  await page.keyboard.press("Enter");
  await page.locator(".dspo-narrow .dspo-warning:visible").waitFor();
  expect(
    "a name that is taken is refused in words",
    /already/.test(await page.locator(".dspo-narrow .dspo-warning").textContent()),
  );
  await page.locator(".dspo-narrow input").fill("猫 & <b>dogs</b>".replaceAll(/[<>/]/g, ""));
  await page.keyboard.press("Enter");
  await card(page, "猫 & bdogsb").waitFor();
  expect("renamed", (await card(page, "new").count()) === 0);
  await fromMenu(page, "runs", "run-01", "rename");
  await page.locator(".dspo-narrow input").fill("Dark cats");
  await page.keyboard.press("Enter");
  await page.locator(".dspo-run-card:has-text('Dark cats')").waitFor();
  const { runs } = await served(page, "runs");
  expect(
    "a run keeps its name for resuming",
    runs.some(({ run, title }) => run === "run-01" && title === "Dark cats"),
    runs,
  );
}

async function undo(page) {
  await page.locator('[data-focus="menu:sets:voted"]').focus();
  for (const key of ["ArrowUp", "Enter"]) await page.keyboard.press(key); // the last entry
  await card(page, "voted").waitFor({ state: "detached" });
  expect(
    "the focus is on Undo",
    (await until(
      () => focused(page),
      (it) => it === "foot:undo",
    )) === "foot:undo",
    await focused(page),
  );
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, "deleted.png") });
  const seen = await axe(page, ".dspo-panel");
  expect("axe: deleted", seen.length === 0, seen);
  await page.keyboard.press("Enter");
  await card(page, "voted").waitFor();
  expect("back as it was", (await state(page, "voted")) === "voted: ready to train", await state(page, "voted"));
  expect(
    "and the focus on it",
    (await until(
      () => focused(page),
      (it) => it === "menu:sets:voted",
    )) === "menu:sets:voted",
    await focused(page),
  );
}

async function bin(page) {
  for (const name of ["gone", "erased"]) {
    await fromMenu(page, "sets", name, "delete");
    await card(page, name).waitFor({ state: "detached" });
  }
  await fromMenu(page, "runs", "run-02", "delete");
  await page.locator('[data-focus="menu:runs:run-02"]').waitFor({ state: "detached" });
  await page.locator('[data-focus="fold:bin"]').click();
  expect("three in the bin", (await page.locator(".dspo-binned").count()) === 3);
  await page.locator('[data-section="bin"]').scrollIntoViewIfNeeded();
  await look(page, "bin", [1440]);
  await page.locator(".dspo-binned:has-text('gone') [data-focus^='restore:']").click();
  await card(page, "gone").waitFor();
  await page.locator(".dspo-binned:has-text('erased') [data-focus^='erase:']").click();
  await page.locator(".dspo-narrow").waitFor();
  expect(
    "the cautious button has the focus",
    (await page.evaluate(() => document.activeElement.textContent)) === "Cancel",
  );
  await page.keyboard.press("Enter");
  expect("cancelled", (await page.locator(".dspo-binned").count()) === 2);
  await page.locator(".dspo-binned:has-text('erased') [data-focus^='erase:']").click();
  await page.locator(".dspo-narrow .dspo-button.danger").click();
  await page.locator(".dspo-binned:has-text('erased')").waitFor({ state: "detached" });
  const { entries } = await served(page, "bin");
  expect("one left", entries.length === 1 && entries[0].name === "run-02", entries);
}

/** Folds outlive a reload; a refresh leaves focus, scroll and what is open. */
async function kept(page) {
  await page.locator('[data-focus="fold:blind"]').click();
  await ready(page);
  await openPanel(page);
  const folded = (name) => page.locator(`[data-focus="fold:${name}"]`).getAttribute("aria-expanded");
  expect("a fold stays", (await folded("blind")) === "false" && (await folded("bin")) === "true");
  await page.locator('[data-focus="fold:blind"]').click();
  await page.locator(".dspo-run-card summary").first().click();
  await page.setViewportSize({ width: 1440, height: 500 });
  await page.evaluate(() => document.querySelector(".dspo-panel").scrollTo(0, 120));
  await page.locator('[data-focus="vote:sets:voting"]').evaluate((it) => it.focus({ preventScroll: true }));
  const was = await page.evaluate(() => ({
    scroll: document.querySelector(".dspo-panel").scrollTop,
    card: (window.kept = document.querySelector('[data-focus="vote:sets:voting"]')) && true,
  }));
  await page.evaluate(() => {
    const all = [...document.querySelectorAll(".dspo-head button")];
    all.at(-1).click(); // refresh, without moving the focus
  });
  await page.waitForTimeout(1200);
  const now = await page.evaluate(() => ({
    scroll: document.querySelector(".dspo-panel").scrollTop,
    card: document.activeElement === window.kept,
  }));
  expect("a refresh leaves focus and scroll", JSON.stringify(now) === JSON.stringify(was), [was, now]);
  expect(
    "and what is open",
    await page
      .locator(".dspo-run-card details")
      .first()
      .evaluate((it) => it.open),
  );
  await page.setViewportSize({ width: 1440, height: 900 });
}

async function filter(page) {
  await page.locator(".dspo-panel").focus();
  await page.keyboard.press("/");
  expect("/ leads to the filter", await page.locator(".dspo-filter").evaluate((it) => it === document.activeElement));
  await page.keyboard.type("ready TRAIN");
  const names = () => page.locator(".dspo-card .dspo-name").allTextContents();
  expect("by state", (await names()).join() === "voted", await names());
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, "filter.png") });
  await page.locator(".dspo-filter").fill("nothing has this name");
  expect(
    "nothing matches",
    (await names()).length === 0 && (await page.locator(".dspo-panel :text('Nothing matches.'):visible").count()) > 0,
  );
  await page.locator(".dspo-filter").press("Escape");
  expect("Escape shows all", (await names()).length > 4, await names());
}

async function many({ page, problems }) {
  const opened = await page.evaluate(async () => {
    const tab = document.querySelector('.dspo-studio-tab-button, [data-testid="dspo-studio-tab-button"]');
    const start = performance.now();
    tab.click();
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    while (document.querySelectorAll(".dspo-card .dspo-state").length < 12) await frame();
    await frame();
    return { ms: performance.now() - start, nodes: document.querySelectorAll(".dspo-panel *").length };
  });
  found.opened = opened;
  expect("the panel has few elements", opened.nodes < 3000, opened);
  await until(
    async () => (await served(page, "sets")).more,
    (more) => !more,
    60,
  );
  const times = await page.evaluate(async () => {
    const timed = async (act) => {
      const start = performance.now();
      await act();
      return performance.now() - start;
    };
    const get = (what) => fetch(`/api/dspo/${what}`).then((answer) => answer.json());
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const sets = await timed(() => get("sets"));
    const runs = await timed(() => get("runs"));
    const field = document.querySelector(".dspo-filter");
    const filtered = await timed(async () => {
      field.value = "set-0777";
      field.dispatchEvent(new Event("input"));
      await frame();
    });
    const cards = document.querySelectorAll(".dspo-card").length;
    field.value = "";
    field.dispatchEvent(new Event("input"));
    return { sets, runs, filtered, cards };
  });
  found.times = times;
  expect("the filter reaches what is not drawn", times.cards === 1, times);
  const cards = page.locator('[data-section="sets"] .dspo-card');
  const more = page.locator('[data-section="sets"] .dspo-list-end');
  expect(
    "a dozen at first, and how many more there are",
    (await cards.count()) === 12 && /988/.test(await more.textContent()),
  );
  await more.locator("button").click();
  const asked = await until(
    () => cards.count(),
    (count) => count >= 42,
  );
  await more.scrollIntoViewIfNeeded();
  const scrolled = await until(
    () => cards.count(),
    (count) => count > asked,
  );
  expect("more when asked, and then with scrolling", asked >= 42 && scrolled > asked, [asked, scrolled]);
  const drawn = await page.evaluate(async () => {
    const start = performance.now();
    document.querySelector(".dspo-head button").click();
    await new Promise((done) => setTimeout(done, 0));
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    let worst = 0;
    let last = performance.now();
    while (performance.now() - start < 3000) {
      await frame();
      worst = Math.max(worst, performance.now() - last);
      last = performance.now();
    }
    return worst;
  });
  found.longest_frame_during_refresh = drawn;
  await look(page, "many", [1440]);
  expect("no error in the page", problems.length === 0, problems);
}

/** The same view in the other languages. */
async function translated(locale) {
  await withPage({ before }, async ({ page }) => {
    // ComfyUI has no German of its own
    await page.evaluate(async (name) => {
      const link = document.querySelector('link[href$="/dspo.css"]').href;
      (await import(new URL("./texts.js", link).href)).speak(name);
    }, locale);
    await openPanel(page);
    await page.waitForTimeout(500);
    await look(page, `${PART}-${locale}`, [800]);
  });
}

await withPage({ before }, { fresh, filled, many }[PART]);
if (SHOTS && PART !== "many") for (const locale of ["de", "zh"]) await translated(locale);
console.log(JSON.stringify({ checks, found }, null, 2));
process.exitCode = Object.values(checks).every((each) => each === "ok") ? 0 : 1;
