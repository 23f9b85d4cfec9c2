/**
 * Looks at runs in the panel as a person would, and acts on them. Prints what it found as JSON; ends with 1 after a
 * failure. The server is that of tests/host/test_run_panel.py.
 *
 *   URL_=... CHROMIUM=... NODE_PATH=... PART=cards|live BASE=... node tests/web/browser/runs.mjs
 *
 * BASE: the server's base folder. For `live` it holds graph.json, a training in API format, and a file `kill` made
 * there has the server killed and started again. Also read: SHOTS (a folder for images of the screen).
 */
import fs from "node:fs";
import path from "node:path";
import { axe, openPanel, ready, TAB, withPage } from "./page.mjs";

const { PART = "cards", SHOTS, BASE } = process.env;
const RUN_MS = 240_000;
const checks = {};
const found = {};
const expect = (name, passed, seen) => (checks[name] = passed ? "ok" : `FAILED: ${JSON.stringify(seen)}`);
const served = (page, what) => page.evaluate((url) => fetch(url).then((answer) => answer.json()), `/api/dspo/${what}`);
const card = (page, run) => page.locator(`.dspo-run-card:has(.dspo-name[title="${run}"])`);
const state = (page, run) => card(page, run).locator(".dspo-state");
const action = (page, name, run) => page.locator(`[data-focus="${name}:run:${run}"]`);

async function until(read, fits, seconds = 10) {
  const end = Date.now() + 1000 * seconds;
  for (;;) {
    const seen = await read();
    if (fits(seen) || Date.now() > end) return seen;
    await new Promise((done) => setTimeout(done, 100));
  }
}

const says = (page, run, pattern, seconds = 30) =>
  until(
    () => state(page, run).textContent(),
    (text) => pattern.test(text),
    seconds,
  );

/** Check with axe, and photograph, in both themes and at each width. */
async function look(page, name, selector = ".dspo-panel") {
  for (const theme of ["light", "dark"]) {
    await page.evaluate((value) => window.app.extensionManager.setting.set("Comfy.ColorPalette", value), theme);
    for (const width of SHOTS ? [1440, 800, 420] : [1440]) {
      await page.setViewportSize({ width, height: 1000 });
      await page.waitForTimeout(500);
      if (SHOTS) await page.screenshot({ path: path.join(SHOTS, `${name}-${theme}-${width}.png`) });
      const seen = await axe(page, selector);
      expect(`axe: ${name} ${theme} ${width}`, seen.length === 0, seen);
      const wide = await page.evaluate((at) => {
        const root = document.querySelector(at);
        return root.scrollWidth - root.clientWidth;
      }, selector);
      expect(`nothing is cut off: ${name} ${theme} ${width}`, wide <= 0, wide);
    }
  }
  await page.setViewportSize({ width: 1440, height: 900 });
}

const texts = (page, selector) =>
  page.evaluate(
    (inside) =>
      Object.fromEntries(
        [...document.querySelectorAll(".dspo-run-card")].map((each) => [
          each.querySelector(".dspo-name").title,
          [...each.querySelectorAll(inside)]
            .filter(({ hidden }) => !hidden)
            .map(({ innerText }) => innerText.replace(/\s+/g, " ").trim()),
        ]),
      ),
    selector,
  );
const firsts = (all) => Object.fromEntries(Object.entries(all).map(([run, [text]]) => [run, text]));

async function cards(page, context) {
  await openPanel(page);
  await card(page, "my-taste-02").waitFor();
  found.states = firsts(await texts(page, ".dspo-state"));
  found.learned = firsts(await texts(page, ".dspo-run-body > .dspo-muted:not([role])"));
  found.facts = firsts(await texts(page, ".dspo-run-about"));
  found.actions = await texts(page, ".dspo-run-body > .dspo-row .dspo-button");
  await look(page, "cards");
  await previews(page);
  await curves(page);
  await acts(page, context);
  await languages(page);
}

/** The slider goes through the steps by keys; the newest preview comes first; the fold stays as it was left. */
async function previews(page) {
  const own = card(page, "my-taste-02");
  const source = () => own.locator(".dspo-preview img").getAttribute("src");
  const fold = own.locator(".dspo-disclosure > summary").first();
  await fold.focus();
  await page.keyboard.press("Enter");
  await own.locator(".dspo-previews").waitFor();
  expect("the newest preview is shown first", (await source()).includes("step-000060"), await source());
  await own.locator(".dspo-previews input").focus();
  await page.keyboard.press("ArrowLeft");
  const said = await own.locator(".dspo-previews input").getAttribute("aria-valuetext");
  expect("a key goes one preview back", (await source()).includes("step-000040"), await source());
  expect("and says which", said === "Preview at step 40", said);
  await page.keyboard.press("Home");
  expect("Home shows the first", (await source()).includes("step-000020"), await source());
  const drawn = () => own.locator(".dspo-preview img").evaluate((image) => image.complete && image.naturalWidth > 0);
  expect("it is drawn", await until(drawn, Boolean));
  await own.scrollIntoViewIfNeeded();
  await look(page, "previews");
  await ready(page);
  await openPanel(page);
  const again = card(page, "my-taste-02").locator(".dspo-disclosure").first();
  await again.waitFor();
  expect("what was unfolded stays so after a reload", await again.evaluate(({ open }) => open));
  const other = await card(page, "halted-01").locator(".dspo-disclosure").first().evaluate(({ open }) => open);
  expect("what was not stays folded", !other);
}

/** Numbers are behind a fold; the legend says what the line shows. */
async function curves(page) {
  const own = card(page, "my-taste-02");
  await own.locator(".dspo-curves").waitFor({ state: "attached" });
  expect("no chart is seen before it is asked for", !(await own.locator(".dspo-curves").isVisible()));
  const plain = await own.innerText();
  expect("no bare number before that", !/margin|\de-\d|[+−]0\.\d/i.test(plain), plain);
  await own.locator(".dspo-run .dspo-disclosure > summary").click();
  await own.locator(".dspo-line.mean").first().waitFor({ state: "attached" });
  const legends = await own.locator(".dspo-legend").allInnerTexts();
  expect("the legend has the smoothed value", /training 78%/.test(legends[1]), legends);
  await own.locator(".dspo-curves").scrollIntoViewIfNeeded();
  await look(page, "curves");
  await card(page, "my-taste-02").locator(".dspo-run-picture").click();
  await page.locator(".dspo-run-dialog .dspo-chart").first().waitFor();
  await look(page, "large", ".dspo-run-dialog");
  await page.keyboard.press("Escape");
}

async function acts(page, context) {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.locator('[data-focus="copy:dspo/my-taste-02.safetensors"]').click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect("the LoRA's name is copied", copied === "dspo/my-taste-02.safetensors", copied);
  const message = (run) => card(page, run).locator('[role="status"]');
  await action(page, "stop", "training-01").click();
  const refused = await until(
    () => message("training-01").textContent(),
    (text) => text.length > 0,
  );
  expect("a run of another program is not stopped here", /another program/.test(refused), refused);
  await action(page, "blindTest", "my-taste-02").click();
  await page.locator(".dspo-vote").waitFor();
  const test = await page.locator(".dspo-set-name").innerText();
  expect("the blind test of the LoRA opens", test.includes("of-taste-02"), test);
  await page.keyboard.press("Escape");
}

async function languages(page) {
  for (const [language, pattern] of [
    ["de", /^Abgestürzt bei Schritt 25: „Fortsetzen“ macht bei Schritt 20 weiter$/],
    ["zh", /^在第 25 步崩溃：“继续训练”将从第 20 步继续$/],
  ]) {
    // ComfyUI itself has no German in every version: the panel is drawn anew in the language instead.
    await page.evaluate(async (each) => (await import("/extensions/dspo-studio/texts.js")).speak(each), language);
    await page.locator(TAB).click();
    await openPanel(page);
    await card(page, "broken-01").waitFor();
    const text = await state(page, "broken-01").textContent();
    expect(`its words in ${language}`, pattern.test(text), text);
    await look(page, `cards-${language}`);
  }
}

async function queue(page) {
  const graph = JSON.parse(fs.readFileSync(path.join(BASE, "graph.json"), "utf8"));
  await page.evaluate((each) => window.app.loadApiJson(each, "live"), graph);
  await page.evaluate(() => void window.app.queuePrompt(0, 1));
}

const RUN = "live-01";
const going = /^Training: step \d+ of 100/;
const stepOf = (text) => Number(text.match(/\d+/)[0]);

async function live(page) {
  page.setDefaultTimeout(RUN_MS); // a busy machine takes minutes to load a model
  await openPanel(page);
  await queue(page);
  const first = await says(page, RUN, /^Training: step [1-9]/, 120);
  expect("it is seen to train", going.test(first), first);
  const left = await says(page, RUN, /left$/);
  expect("and for how long", /, (about \d+ minutes?|less than a minute) left$/.test(left), left);
  expect("while it trains there is Stop", await action(page, "stop", RUN).isVisible());
  await ready(page); // a reload: ComfyUI's own Cancel is grey now
  await openPanel(page);
  const followed = await says(page, RUN, going);
  expect("after a reload it is followed", going.test(followed), followed);
  const cancel = page.locator('[aria-label="Interrupt"], [data-testid="cancel-button"]');
  found.cancel = await cancel.evaluateAll((all) => all.map(({ disabled }) => disabled));
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, "live-running.png") });
  await action(page, "stop", RUN).focus();
  await page.keyboard.press("Enter");
  const stopped = await says(page, RUN, /^Stopped/, 60);
  expect("Stop stops it", /^Stopped at step \d+ of 100$/.test(stopped), stopped);
  const own = await until(() => focused(page), (name) => name === `resume:run:${RUN}`);
  expect("and Resume takes its place, with the focus", own === `resume:run:${RUN}`, own);
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, "live-stopped.png") });
  const before = stepOf(stopped);
  await page.keyboard.press("Enter");
  const resumed = await says(page, RUN, going, 120);
  expect("Resume goes on", going.test(resumed) && stepOf(resumed) >= before, [resumed, before]);
  await until(async () => stepOf(await state(page, RUN).textContent()), (step) => step > before + 5, 120);
  await crash(page);
  await action(page, "resume", RUN).click();
  const end = await says(page, RUN, /^Finished/, RUN_MS / 1000);
  expect("resumed once more, it ends well", end === "Finished: live-01 · 100 steps · dspo", end);
  expect("the next step is offered", await action(page, "nextRound", RUN).isVisible());
  const learned = await card(page, RUN).locator(".dspo-run-body > .dspo-muted:not([role])").innerText();
  expect("what it learned is said", /^The model now prefers your winners in \d+% of the/.test(learned), learned);
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, "live-finished.png") });
  found.runs = (await served(page, "runs")).runs.map(({ run }) => run);
}

const focused = (page) => page.evaluate(() => document.activeElement?.dataset?.focus ?? "");

/** The server's process is killed while it trains, and started again. */
async function crash(page) {
  const asked = path.join(BASE, "kill");
  fs.writeFileSync(asked, "");
  await until(() => fs.existsSync(asked), (there) => !there, 180);
  const text = await says(page, RUN, /^Crashed/, 60);
  const [, step, from] = text.match(/^Crashed at step (\d+): Resume goes on from step (\d+)$/) ?? [];
  const last = from % 5 === 0 && step - from >= 0 && step - from < 5;
  expect("a killed run is said to have crashed, without a reload", last, text);
  expect("it offers Resume", await action(page, "resume", RUN).isVisible());
  if (SHOTS) await page.screenshot({ path: path.join(SHOTS, "live-crashed.png") });
}

const parts = { cards, live };
await withPage({}, async ({ page, problems, context }) => {
  try {
    await parts[PART](page, context);
  } catch (error) {
    expect("it goes on to the end", false, String(error.stack));
    if (SHOTS) await page.screenshot({ path: path.join(SHOTS, `failure-${PART}.png`) });
  }
  // a refusal, a killed server, and events that come before the page listens
  const expected = /Unknown message type dspo|\/dspo\/stop|ERR_CONNECTION|WebSocket|Failed to fetch|NetworkError/;
  const own = problems.filter((each) => !expected.test(each));
  expect("no error in the page", own.length === 0, own);
});
console.log(JSON.stringify({ checks, found }, null, 2));
process.exitCode = Object.values(checks).every((each) => each === "ok") ? 0 : 1;
