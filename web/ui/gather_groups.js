/** The groups of images in the dialog for images that are there already. */
import * as api from "../api.js";
import { comparable, NO_PROMPT } from "../core/gather.js";
import { t, told } from "../texts.js";
import { button, h } from "./dom.js";

const THUMBNAIL = 256; // pixels, for screens of twice the density
const MORE = 54;

/**
 * @param source of the images.
 * @param where gives the fields of a request that say what is listed.
 * @param selection what is chosen.
 * @param prompt an input for the prompt of images without one.
 * @param changed called when the person chose something.
 */
export class GroupList {
  constructor({ source, where, selection, prompt, changed }) {
    Object.assign(this, { source, where, selection, prompt, changed });
    this.root = h("div", { class: "dspo-gather-groups" });
    this.drawn = [];
  }

  clear() {
    this.drawn = [];
    this.root.replaceChildren();
  }

  append(groups) {
    const parts = groups.map((group) => this.#section(group));
    this.drawn.push(...parts);
    this.root.append(...parts.map(({ root }) => root));
    this.draw();
  }

  /** Bring the ticks up to date with the selection. */
  draw() {
    for (const { group, tick, count, images } of this.drawn) {
      const chosen = this.selection.count(group);
      const part = chosen > 0 && chosen < group.count;
      if (tick) Object.assign(tick, { checked: chosen === group.count, indeterminate: part });
      const all = group.count === 1 ? t("gatherCountOne") : t("gatherCount", group);
      count.textContent = part ? t("gatherSome", { chosen, count: group.count }) : all;
      for (const [name, input] of images) input.checked = this.selection.has(group, name);
    }
  }

  #section(group) {
    const bare = group.key === NO_PROMPT;
    const name = bare ? t("gatherNoPrompt") : group.prompt;
    const fits = comparable(group);
    const count = h("span", { class: "dspo-muted" });
    const toggle = () => (this.selection.toggleGroup(group), this.#chosen());
    const label = t("gatherSelectGroup", { prompt: name });
    const named = { "aria-label": label, "data-focus": group.key };
    const tick = fits && h("input", { type: "checkbox", ...named, onchange: toggle });
    const head = h(
      "div",
      { class: "dspo-gather-head" },
      tick,
      h("h3", { class: "dspo-row-prompt", title: name, onclick: fits ? toggle : null }, name),
      count,
    );
    const strip = h("div", { class: "dspo-gather-strip" });
    const part = { group, tick, count, images: new Map() };
    const more = button("", () => this.#more(part, strip, more), { kind: "small" });
    part.root = h(
      "section",
      { class: "dspo-gather-group", "data-group": group.key, "aria-label": name.slice(0, 120) },
      head,
      bare && this.prompt,
      !fits && h("p", { class: "dspo-muted" }, t("gatherSingle")),
      strip,
      more,
    );
    this.#fill(part, strip, more, group.images);
    return part;
  }

  #fill(part, strip, more, images) {
    strip.append(...images.map((image) => this.#image(part, image)));
    const left = part.group.count - part.images.size;
    more.hidden = left <= 0;
    more.textContent = t("gatherMore", { count: left });
  }

  #image({ group, images }, image) {
    const { name, seed, width, height, kept } = image;
    const known = seed == null ? name : t("gatherImage", { name, seed });
    const title = kept ? `${known} (${t("gatherKept")})` : known;
    const toggle = () => (this.selection.toggleImage(group, name), this.#chosen());
    const input = h("input", {
      type: "checkbox",
      "aria-label": title,
      "data-focus": `${group.key}:${name}`,
      disabled: !comparable(group),
      onchange: toggle,
    });
    images.set(name, input);
    const source = api.gatherableUrl(this.source, image, THUMBNAIL);
    const picture = h("img", { src: source, alt: "", loading: "lazy", decoding: "async", width, height });
    const mark = kept && h("span", { class: "dspo-mark", "aria-hidden": "true" }, t("gatherKept"));
    const about = { class: `dspo-gather-image ${kept ? "kept" : ""}`, title: `${title}\n${width} × ${height}` };
    return h("label", about, picture, input, mark);
  }

  async #more(part, strip, more) {
    more.disabled = true;
    try {
      const where = { ...this.where(), group: part.group.key };
      const { images } = await api.gatherable({ ...where, offset: part.images.size, limit: MORE });
      const known = images.filter(({ name }) => !part.images.has(name));
      this.#fill(part, strip, more, known);
      if (!images.length) more.hidden = true;
      part.images.get(known[0]?.name)?.focus();
      this.draw();
    } catch (error) {
      more.textContent = told(error);
    } finally {
      more.disabled = false;
    }
  }

  #chosen() {
    this.draw();
    this.changed();
  }
}
