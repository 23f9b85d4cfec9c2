/**
 * The loop by its buttons: playground, votes, training, blind test, next round.
 *
 * node one_workflow.mjs URL PACK; the last line printed is JSON: what was seen. SHOTS=folder keeps screenshots.
 */
import path from "node:path";
import { withPage } from "./page.mjs";

const [url, pack] = process.argv.slice(2);
const LONG = 500_000; // ms, for drawing and training on a busy processor
const seen = {};

const voting = (page) => page.locator("dialog.dspo[open]");
const shot = (page, name) =>
  process.env.SHOTS && page.screenshot({ path: path.join(process.env.SHOTS, `one-workflow-${name}.png`) });
const call = (page, name, ...values) =>
  page.evaluate(([url, name, values]) => import(url).then((loop) => loop[name](...values)), [
    `/extensions/${pack}/loop.js`,
    name,
    values,
  ]);

/** The dialog's set once it has opened by itself; it is closed again. */
async function votingOn(page) {
  await voting(page).waitFor({ timeout: LONG });
  const set = await voting(page).locator(".dspo-set-name").textContent();
  await page.waitForTimeout(500);
  await shot(page, set);
  await voting(page).press("Escape");
  await voting(page).waitFor({ state: "detached" });
  return set;
}

/** Answer questions over the routes, as the dialog does; the left one wins. */
const vote = (page, place, set, count) =>
  page.evaluate(
    async ([place, set, count]) => {
      const headers = { "Content-Type": "application/json", "X-DSPO": "1" };
      for (let n = 0; n < count; n += 1) {
        const query = new URLSearchParams({ place, set, count: 1 });
        const { questions } = await (await fetch(`/api/dspo/next?${query}`)).json();
        const [{ pair, left }] = questions;
        const id = crypto.randomUUID();
        const body = JSON.stringify({ place, set, pair, outcome: "win", winner: left, id, client: "other", seconds: 1 });
        await fetch("/api/dspo/vote", { method: "POST", headers, body });
      }
    },
    [place, set, count],
  );

const widgets = (page, type) =>
  page.evaluate((type) => {
    const node = window.app.graph._nodes.find((each) => each.type === type);
    const of = (widget) => [widget.name, { value: widget.value, label: widget.label }];
    return Object.fromEntries(node.widgets.map(of));
  }, type);

const label = async (page, text) => {
  await page.waitForFunction(
    (text) =>
      window.app.graph._nodes
        .find((each) => each.type === "DSPOCollectPairs")
        .widgets.some((widget) => widget.name === "vote_now" && widget.label?.includes(text)),
    text,
    { timeout: 30_000 },
  );
  return (await widgets(page, "DSPOCollectPairs")).vote_now.label;
};

await withPage(
  url,
  async (page, problems) => {
    const tabs = () => page.evaluate(() => window.app.extensionManager.workflow.openWorkflows.length);
    await page.waitForFunction(() => window.app.extensionManager.workflow.openWorkflows.length > 0);
    const before = await tabs();
    await call(page, "startPlayground");
    seen["other tab kept"] = (await tabs()) === before + 1;
    const set = (seen["first set"] = await votingOn(page));
    seen["label at first"] = await label(page, "0 of");
    await vote(page, "sets", set, 1);
    seen["label after a vote"] = await label(page, "1 of");
    await vote(page, "sets", set, 23);
    await label(page, "24 votes");
    await page.evaluate(() => {
      const { widgets } = window.app.graph._nodes.find((each) => each.type === "DSPOTrainLora");
      for (const [name, value] of [["steps", 4], ["preview_every", 0]]) widgets.find((each) => each.name === name).value = value;
    }); // what is learned is for test_one_workflow.py to see

    const steps = (place, set) =>
      page.evaluate(
        ([url, place, set]) => import(url).then((loop) => loop.nextSteps(place, set).map(({ key }) => key)),
        [`/extensions/${pack}/loop.js`, place, set],
      );
    const act = (place, set) =>
      page.evaluate(
        ([url, place, set]) => import(url).then((loop) => void loop.nextSteps(place, set)[0].act()),
        [`/extensions/${pack}/loop.js`, place, set],
      );
    seen.steps = await steps("sets", set);
    await act("sets", set);
    const notice = page.locator(".dspo-notice").filter({ hasText: "blind test" });
    await notice.waitFor({ timeout: LONG });
    seen.notice = await notice.getByRole("button", { name: "Vote now" }).isVisible();
    await shot(page, "notice");

    const own = () => window.app.graph._nodes.find((each) => each.type === "DSPOBlindTest").properties.dspo_blind;
    const test = await (await page.waitForFunction(own, null, { timeout: 60_000 })).jsonValue();
    seen["test steps"] = await steps("blind", test);
    await act("blind", test);
    seen["second set"] = await votingOn(page);
    const [drawn, collected, trained] = await Promise.all(
      ["DSPOCandidates", "DSPOCollectPairs", "DSPOTrainLora"].map((type) => widgets(page, type)),
    );
    seen["second round"] = [drawn.round, drawn.lora_name, collected.set, trained.refine_lora].map(({ value }) => value);
    await shot(page, "second-round");
    console.log(JSON.stringify({ ...seen, problems }));
  },
  { width: 1440, height: 900 },
);
