/** The dialog for images that are there already: found by prompt, chosen, collected into a set, voted on. */
import * as api from "../api.js";
import { NO_PROMPT, Selection } from "../core/gather.js";
import { t, told } from "../texts.js";
import { CollectForm } from "./gather_form.js";
import { GroupList } from "./gather_groups.js";
import { openDialog } from "./dialog.js";
import { button, h, bar } from "./dom.js";
import { acceptDrops, chooseFiles, sendFiles } from "./drops.js";

const SOURCES = ["output", "history", "input", "dropped"];
const PAGE = 24; // groups
const PAUSE_MS = 60; // between two requests while files are being read

/**
 * Open the dialog; `done` is called when it closes.
 * @param {{source?: string, folder?: string, files?: File[]}} options where to look first; `files` to take at once.
 */
export function openGather(done = () => {}, options = {}) {
  return new Gather(done, options);
}

/** Let files be dropped onto an element: they are received, and the dialog shows them. */
export function acceptImages(element, done = () => {}) {
  acceptDrops(element, (files) => openGather(done, { files }));
}

class Gather {
  #asked = 0; // the number of the latest listing; older answers are dropped
  #groups = 0; // on the page
  #found = null; // the latest listing without its groups
  #closed = false;

  constructor(done, { source = "output", folder = "", files = [] }) {
    Object.assign(this, { source: files.length ? "dropped" : source, folder });
    this.selection = new Selection();
    this.dialog = openDialog({
      title: t("gatherTitle"),
      kind: "dspo-gather",
      onclose: () => {
        this.#closed = true;
        this.form.destroy();
        this.watcher.disconnect();
        done();
      },
    });
    this.#build(done);
    acceptDrops(this.dialog.root, (dropped) => this.#take(dropped));
    if (files.length) this.#take(files);
    else this.show(this.source, this.folder);
  }

  #build(done) {
    const tab = (name) => button(t(`gather_${name}`), () => this.show(name), { "data-source": name });
    this.tabs = SOURCES.map(tab);
    this.folders = h("select", { onchange: (event) => this.show(this.source, event.target.value) });
    this.folderField = h("label", { class: "dspo-field" }, t("gatherFolder"), this.folders);
    this.choose = button(t("gatherChoose"), () => chooseFiles((files) => files.length && this.#take(files)));
    this.found = h("p", { class: "dspo-muted", role: "status" });
    this.every = button(t("gatherSelectAll"), () => this.#all(), { kind: "small" });
    this.reading = h("div", { class: "dspo-gather-reading", hidden: true });
    this.note = h("p", { class: "dspo-warning", role: "alert", hidden: true });
    this.prompt = h("input", {
      type: "text",
      class: "dspo-gather-prompt",
      "data-focus": "prompt",
      "aria-label": t("gatherGivePrompt"),
      placeholder: t("gatherGivePrompt"),
      autocomplete: "off",
      oninput: () => this.#chosen(),
    });
    this.empty = h("div", { class: "dspo-empty", hidden: true });
    this.more = button(t("more"), () => this.#page(), { hidden: true });
    const named = { role: "region", "aria-label": t("gatherTitle"), tabindex: 0 };
    this.scroll = h("div", { class: "dspo-gather-scroll", ...named });
    this.form = new CollectForm({
      order: () => this.#order(),
      again: () => this.show(this.source, this.folder),
      renamed: () => this.#list(),
      leave: () => this.dialog.close(),
      done,
    });
    const spring = h("span", { class: "dspo-spring" });
    this.dialog.body.append(
      h("div", { class: "dspo-row", role: "group", "aria-label": t("gatherSources") }, this.tabs),
      h("div", { class: "dspo-row" }, this.folderField, this.choose, this.found, spring, this.every),
      this.reading,
      this.note,
      this.scroll,
      this.form.root,
    );
    this.watcher = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && this.#page(), {
      root: this.scroll,
      rootMargin: "300px",
    });
    this.watcher.observe(this.more);
  }

  /** List a source from its start. */
  show(source, folder = "") {
    Object.assign(this, { source, folder });
    this.selection = new Selection();
    const { selection, prompt } = this;
    const where = () => this.#where();
    this.list = new GroupList({ source, where, selection, prompt, changed: () => this.#chosen() });
    this.scroll.replaceChildren(this.list.root, this.empty, this.more);
    for (const tab of this.tabs) tab.setAttribute("aria-pressed", String(tab.dataset.source === source));
    this.choose.hidden = source !== "dropped";
    this.folderField.hidden = !["output", "input"].includes(source);
    this.found.textContent = t("loading");
    for (const each of [this.more, this.empty, this.note]) each.hidden = true;
    return this.#list();
  }

  /** The first page, again and again until the server has read every file. */
  async #list() {
    const number = ++this.#asked;
    const current = () => number === this.#asked && !this.#closed;
    try {
      for (let reading = true; reading; ) {
        const page = await api.gatherable({ ...this.#where(), offset: 0, limit: PAGE });
        if (!current()) return;
        reading = page.reading;
        this.#drawPage(page);
        if (reading) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        if (!current()) return;
      }
    } catch (error) {
      if (current()) this.#trouble(error);
    }
  }

  async #page() {
    if (this.more.hidden || this.more.disabled || this.#found?.reading) return;
    const number = this.#asked;
    this.more.disabled = true;
    try {
      const { groups } = await api.gatherable({ ...this.#where(), offset: this.#groups, limit: PAGE });
      if (number !== this.#asked || this.#closed) return;
      this.#groups += groups.length;
      this.list.append(groups);
      this.more.hidden = !groups.length || this.#groups >= this.#found.total;
    } catch (error) {
      this.#trouble(error);
    } finally {
      this.more.disabled = false;
    }
  }

  #drawPage({ groups, ...found }) {
    this.#found = found;
    const { images, unusable, reading, total, folders } = found;
    const focused = document.activeElement?.dataset?.focus;
    this.list.clear();
    this.list.append(groups);
    if (focused) this.list.root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    this.#groups = groups.length;
    this.more.hidden = this.#groups >= total;
    const lines = images ? [t("gatherFound", { images, groups: total })] : [];
    if (unusable) lines.push(t("gatherUnusable", { count: unusable }));
    this.found.textContent = lines.join(" · ");
    this.every.hidden = !found.prompted.images;
    this.#drawFolders(folders);
    this.reading.hidden = !reading;
    const text = reading ? t("gatherReading", reading) : "";
    this.reading.replaceChildren(...(reading ? [bar(reading.done / reading.total, text), text] : []));
    this.#drawEmpty(!images && !reading);
    this.#chosen();
  }

  #drawEmpty(empty) {
    this.empty.hidden = !empty;
    this.empty.replaceChildren(h("p", {}, t(`gatherEmpty_${this.source}`)));
  }

  #drawFolders(folders) {
    this.folderField.hidden = !folders.length;
    const option = ({ name, images }) => h("option", { value: name }, `${name} (${images})`);
    this.folders.replaceChildren(h("option", { value: "" }, t("gatherWhole")), ...folders.map(option));
    this.folders.value = this.folder;
  }

  /** Receive files, then show them with everything chosen. */
  async #take(files) {
    const show = this.show("dropped");
    const refused = await sendFiles(files, (done, total) => {
      const text = t("gatherUploading", { done, total });
      this.reading.hidden = done === total;
      this.reading.replaceChildren(bar(total ? done / total : 1, text), text);
    });
    await show;
    if (this.#closed) return;
    await this.show("dropped");
    this.selection.all(true);
    const bare = this.list.drawn.find(({ group }) => group.key === NO_PROMPT && group.count > 1);
    if (bare) this.selection.toggleGroup(bare.group);
    this.list.draw();
    this.#chosen();
    this.#say(refused);
  }

  #all() {
    const none = this.selection.total(this.#found.prompted.images) === 0;
    this.selection.all(none);
    this.list.draw();
    this.#chosen();
  }

  #chosen() {
    const prompted = this.#found?.prompted.images ?? 0;
    const count = this.selection.total(prompted);
    this.every.textContent = t(count ? "gatherSelectNone" : "gatherSelectAll");
    const bare = this.list.drawn.find(({ group }) => group.key === NO_PROMPT);
    const lacks = bare && this.selection.count(bare.group) > 0 && !this.prompt.value.trim();
    const missing = lacks ? "gatherNeedPrompt" : this.selection.comparable(prompted) ? "" : "gatherNeedTwo";
    this.form.chosen(count, count ? missing : "gatherNeedTwo");
  }

  #where = () => ({ source: this.source, folder: this.folder, set: this.form.name() });

  #order() {
    return { source: this.source, folder: this.folder, ...this.selection.order(this.prompt.value.trim()) };
  }

  #trouble(error) {
    this.reading.hidden = true;
    this.found.textContent = "";
    this.#say([told(error)]);
    this.note.append(" ", button(t("tryAgain"), () => this.show(this.source, this.folder), { kind: "small" }));
  }

  #say(lines) {
    this.note.hidden = !lines.length;
    this.note.replaceChildren(...lines.map((line) => h("p", {}, line)));
  }
}
