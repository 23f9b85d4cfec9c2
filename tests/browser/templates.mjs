/**
 * Open every example workflow from the template browser, as a person would.
 *
 * node templates.mjs URL PACK FOLDER; the last line printed is JSON: what each looked like, and what went wrong.
 */
import fs from "node:fs";
import path from "node:path";
import { withPage } from "./page.mjs";

const [url, pack, folder] = process.argv.slice(2);
const names = fs.readdirSync(folder).filter((file) => file.endsWith(".json")).map((file) => path.parse(file).name);

async function openTemplate(page, name) {
  await page.evaluate(() => window.app.graph.clear());
  await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.BrowseTemplates"));
  const dialog = page.getByRole("dialog");
  await dialog.getByText(pack, { exact: true }).first().click();
  await dialog.getByText(name, { exact: true }).first().waitFor({ timeout: 30_000 });
  const pictures = dialog.locator("img");
  await pictures.nth(names.length - 1).waitFor({ timeout: 30_000 });
  const thumbnails = await pictures.evaluateAll((all) => all.filter((img) => img.naturalWidth >= 500).length);
  await dialog.getByText(name, { exact: true }).first().click();
  await page.waitForFunction(() => window.app.graph._nodes.length > 0, null, { timeout: 30_000 });
  await page.waitForTimeout(1500); // a dialog about missing nodes or models would come now
  return thumbnails;
}

/** What the page made of a workflow, against the file; also after a refresh of the lists, as after a training. */
async function look(page, file) {
  await page.evaluate(() => window.app.refreshComboInNodes());
  await page.waitForTimeout(500);
  return page.evaluate((saved) => {
    const TITLE = 30; // pixels above a node's place
    const nodes = window.app.graph._nodes;
    const values = (id) => saved.nodes.find((node) => node.id === id)?.widgets_values ?? [];
    const kept = (node) => node.widgets ?? [];
    const boxes = nodes.map(({ type, pos, size }) => ({ type, left: pos[0], top: pos[1] - TITLE, right: pos[0] + size[0], bottom: pos[1] + size[1] }));
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return {
      nodes: nodes.length,
      covered: boxes.flatMap((a, place) => boxes.slice(place + 1).filter((b) => meet(a, b)).map((b) => `${a.type} and ${b.type}`)),
      dialogs: [...document.querySelectorAll("[role=dialog]")].map((each) => each.innerText.slice(0, 200)),
      undefined: nodes.flatMap((node) =>
        kept(node)
          .filter((widget) => widget.serialize !== false && widget.value === undefined)
          .map((widget) => `${node.type} ${widget.name}`),
      ),
      changed: nodes.flatMap((node) =>
        values(node.id)
          .map((value, place) => [value, kept(node)[place]?.value, kept(node)[place]?.name])
          .filter(([value, shown]) => shown !== undefined && shown !== value)
          .map(([value, shown, name]) => `${node.type} ${name}: ${value} became ${shown}`),
      ),
    };
  }, JSON.parse(fs.readFileSync(file, "utf8")));
}

await withPage(url, async (page, problems) => {
  const templates = {};
  for (const name of names) {
    const thumbnails = await openTemplate(page, name);
    templates[name] = { thumbnails, ...(await look(page, path.join(folder, `${name}.json`))) };
    if (process.env.SHOTS) await page.screenshot({ path: path.join(process.env.SHOTS, `${name}.png`) });
  }
  console.log(JSON.stringify({ templates, problems }));
});
