/** A Chromium with ComfyUI's page loaded, for scripts that act in it. */
import { createRequire } from "node:module";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

export const { URL_ = "http://127.0.0.1:8188", CHROMIUM = "/usr/bin/chromium" } = process.env;
const require = createRequire(import.meta.url); // NODE_PATH counts for require only
const { chromium } = require("playwright-core");
const AXE = require.resolve("axe-core/axe.min.js");

const SWITCHES = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const BENIGN = [/\/user\.css$/, /\/favicon\.ico$/, /\/api\/userdata/, /\/docs\/\w+\/\w+\.md$/]; // 404 in ComfyUI itself
const SETTINGS = {
  "Comfy.TutorialCompleted": true,
  "Comfy.Canvas.NavigationMode": "custom",
  "Comfy.Minimap.Visible": false,
  "Comfy.Graph.CanvasInfo": false,
  "Comfy.VueNodes.AutoScaleLayout": false,
};

/** Store settings on the server, as they stand when the next page loads. */
export async function settings(values) {
  for (const [id, value] of Object.entries(values))
    await fetch(`${URL_}/api/settings/${id}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
}

/**
 * Call `act({page, problems, context})` with a loaded page, then close it. `problems` collects page errors, console
 * errors and failed requests that are not ComfyUI's own. `before(page)` comes before anything is loaded.
 */
export async function withPage(
  {
    locale = "en",
    palette = "dark",
    vueNodes = false,
    viewport = { width: 1440, height: 900 },
    reducedMotion = "no-preference",
    before = () => {},
  },
  act,
) {
  await settings({
    ...SETTINGS,
    "Comfy.Locale": locale,
    "Comfy.ColorPalette": palette,
    "Comfy.VueNodes.Enabled": vueNodes,
  });
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "dspo-ui-"));
  let context;
  try {
    context = await chromium.launchPersistentContext(profile, {
      executablePath: CHROMIUM,
      headless: true,
      viewport,
      args: SWITCHES,
      reducedMotion,
    });
    const page = context.pages()[0];
    const problems = watch(page);
    await before(page);
    await ready(page);
    return await act({ page, problems, context });
  } finally {
    await context?.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

/** The list that collects what goes wrong in the page. */
export function watch(page) {
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error.stack)));
  page.on("console", (message) => {
    // The frontend asks huggingface.co for the sizes of its templates' models, which its own security policy refuses.
    if (
      message.type() === "error" &&
      !/Failed to load resource|apple-mobile-web-app|huggingface\.co/.test(message.text())
    )
      problems.push(message.text());
  });
  page.on("response", (response) => {
    if (response.status() >= 400 && !BENIGN.some((each) => each.test(new URL(response.url()).pathname)))
      problems.push(`${response.status()} ${response.url()}`);
  });
  page.on("dialog", (dialog) => dialog.accept()); // beforeunload with an unsaved workflow
  return problems;
}

/** Our tab in the sidebar: a class of its name in frontends before 1.50 or so, a test id of that name since. */
export const TAB = '.dspo-studio-tab-button, [data-testid="dspo-studio-tab-button"]';

/** Load the page and wait until the graph and our tab are there. */
export async function ready(page) {
  await page.goto(URL_, { waitUntil: "domcontentloaded" });
  await page.waitForFunction(
    (tab) =>
      window.app?.extensionManager &&
      window.app.vueAppReady && // before it is, asking for the graph is an error in newer frontends
      window.app.graph &&
      window.LiteGraph?.registered_node_types?.DSPOCompareSampler &&
      document.querySelector(tab) &&
      !document.querySelector(".p-blockui-mask, .p-progress-spinner"),
    TAB,
    { timeout: 60_000 },
  );
}

/** Open our sidebar tab and wait for its list. */
export async function openPanel(page) {
  if (!(await page.locator(".dspo-panel").count())) await page.locator(TAB).click();
  await page.locator(".dspo-panel .dspo-note").waitFor({ state: "hidden" });
}

/** Choose from the menu of a card: "sets", "blind" or "runs", its name, and the action. */
export async function fromMenu(page, kind, name, action) {
  await page.locator(`[data-focus="menu:${kind}:${name}"]`).click();
  await page.locator(`.dspo-menu [data-action="${action}"]`).click();
}

/** Serious and critical findings of axe below a selector. */
export async function axe(page, selector) {
  if (!(await page.evaluate(() => Boolean(window.axe)))) await page.addScriptTag({ path: AXE });
  return page.evaluate(async (root) => {
    const tags = ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"];
    const { violations } = await window.axe.run(root, { runOnly: tags });
    return violations.map(
      ({ id, impact, nodes }) =>
        `${impact} ${id}: ${nodes
          .map(({ target, any }) => `${target} ${any[0]?.message ?? ""}`)
          .slice(0, 3)
          .join("; ")}`,
    );
  }, selector);
}

/** Milliseconds from a key until another image has been painted. */
export function paintTime(page, key) {
  return page.evaluate(async (pressed) => {
    const source = () => document.querySelector(".dspo-choice.left img")?.src;
    const before = source();
    const started = performance.now();
    document.activeElement.dispatchEvent(
      new KeyboardEvent("keydown", { key: pressed, bubbles: true, cancelable: true }),
    );
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    while (source() === before || !source()) await frame();
    await frame();
    await new Promise((done) => setTimeout(done)); // after the frame is painted
    return performance.now() - started;
  }, key);
}
