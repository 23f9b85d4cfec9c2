/**
 * ComfyUI's page in a headless Chromium.
 *
 * playwright-core is found by NODE_PATH or beside this file; CHROMIUM names the browser.
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";

const { chromium } = createRequire(import.meta.url)("playwright-core"); // `import` does not look into NODE_PATH
const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
const SETTINGS = {
  "Comfy.TutorialCompleted": true, // else the template browser opens by itself
  "Comfy.Canvas.NavigationMode": "custom", // frontend 1.27.10 throws for a fresh user
  "Comfy.Locale": "en",
  "Comfy.ColorPalette": "dark",
  "Comfy.Minimap.Visible": false,
  "Comfy.Graph.CanvasInfo": false,
  "Comfy.VueNodes.Enabled": false,
};
/** What a page of a new user asks for and does not find, on either frontend. */
const BENIGN = [
  /^404 \/(api\/)?(user\.css|favicon\.ico)$/,
  /^404 \/api\/userdata(\?|\/user\.css$|\/comfy\.templates\.json$|\/workflows%2F\.index\.json$)/,
  /^404 \/templates\/index(\.[a-z-]+)?\.json$/i, // ComfyUI's own workflows, a package that may be absent
  /^404 \/extensions\/[^/]+\/docs\//, // a help page of another language is tried first
];

/**
 * Open the page, hand it to `act`, and close the browser whatever happened.
 *
 * `act(page, problems)`: `problems` collects page errors and failed requests as they occur.
 */
export async function withPage(url, act, { width = 1600, height = 1000, settings = {} } = {}) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "dspo-page-"));
  let context;
  try {
    await seed(url, { ...SETTINGS, ...settings });
    context = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
      headless: true,
      viewport: { width, height },
      args: FLAGS,
    });
    const page = context.pages()[0];
    const problems = collected(page);
    page.on("dialog", (dialog) => dialog.accept()); // "leave this page?"
    await page.goto(url, { waitUntil: "domcontentloaded" });
    await ready(page);
    return await act(page, problems);
  } finally {
    await context?.close();
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Wait until the pack's nodes are registered and nothing covers the page. */
export async function ready(page) {
  await page.waitForFunction(
    () =>
      window.app?.extensionManager &&
      window.app.graph &&
      window.app.vueAppReady &&
      window.LiteGraph?.registered_node_types?.DSPOTrainLora &&
      !document.querySelector(".p-blockui-mask, .p-progress-spinner"),
    null,
    { timeout: 90_000 },
  );
}

async function seed(url, settings) {
  for (const [id, value] of Object.entries(settings)) {
    const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) };
    const answer = await fetch(`${url}/api/settings/${id}`, request);
    if (!answer.ok) throw new Error(`the setting ${id} was refused with ${answer.status}`);
  }
}

function collected(page) {
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error.stack)));
  page.on("response", (response) => {
    const { pathname, search } = new URL(response.url());
    const line = `${response.status()} ${pathname}${search}`;
    if (response.status() >= 400 && !BENIGN.some((known) => known.test(line))) problems.push(line);
  });
  return problems;
}
