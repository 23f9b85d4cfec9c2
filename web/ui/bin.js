/** Renaming, deleting with a way back, and the bin. */
import * as api from "../api.js";
import { ago } from "../core/format.js";
import { spoken, t, told } from "../texts.js";
import { openDialog } from "./dialog.js";
import { button, h } from "./dom.js";
import { fold } from "./fold.js";

const STAYS_MS = 12_000;

/** One line at the foot of the panel: what was done, and a button that takes it back. */
export function footNote() {
  let timer = 0;
  const root = h("div", { class: "dspo-foot", role: "status" });
  const close = () => {
    clearTimeout(timer);
    root.replaceChildren();
  };
  const leave = () => {
    timer = setTimeout(() => (root.matches(":hover, :focus-within") ? leave() : close()), STAYS_MS);
  };
  /** @param {[string, () => void]} [offer] */
  const say = (text, offer) => {
    close();
    const act = offer && button(offer[0], () => (close(), offer[1]()), { kind: "small", "data-focus": "foot:undo" });
    root.append(h("p", {}, text), ...(act ? [act] : []));
    leave();
    return act;
  };
  return { root, say, close };
}

/** The bin's section; and how things get there, back and out of it. `shown`: what the panel calls them. */
export class Bin {
  /** `changed()` refreshes the panel and resolves when it has; `foot`: a `footNote`. */
  constructor({ changed, foot }) {
    Object.assign(this, { changed, foot });
    this.section = fold("bin", t("bin"), { folded: true });
    this.list = h("ul", { class: "dspo-list" });
    this.section.body.append(this.list);
    this.root = this.section.root;
    this.root.hidden = true;
  }

  show(entries) {
    const focused = document.activeElement?.dataset?.focus;
    this.root.hidden = entries.length === 0;
    this.section.count(entries.length || null);
    this.list.replaceChildren(...entries.map((each) => this.#item(each)));
    if (focused && document.activeElement === document.body)
      this.list.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  async remove(kind, name, shown) {
    try {
      const { entry } = await api.discard(kind, name);
      await this.changed();
      const back = () => this.#restore(kind, entry, (now) => (now === name ? shown : now));
      this.foot.say(t("deleted", { name: shown }), [t("undo"), back])?.focus({ preventScroll: true });
    } catch (error) {
      this.foot.say(told(error));
    }
  }

  /** `shown(name)`: what to call it, once it has the name that was free. */
  async #restore(kind, entry, shown) {
    try {
      const { name } = await api.putBack(kind, entry);
      await this.changed();
      this.foot.say(t("restored", { name: shown(name) }));
      this.root.parentElement?.querySelector(`[data-focus="${CSS.escape(`menu:${kind}:${name}`)}"]`)?.focus();
    } catch (error) {
      this.foot.say(told(error));
    }
  }

  #item({ kind, entry, name: folder, title, deleted }) {
    const name = title || folder;
    const restore = () => this.#restore(kind, entry, (now) => (now === folder ? name : now));
    const erase = () => askToErase(kind, name, () => this.#erase(kind, entry, name));
    return h(
      "li",
      { class: "dspo-binned" },
      h(
        "p",
        {},
        h("span", { class: "dspo-name" }, name),
        " ",
        h("span", { class: "dspo-muted" }, `${t(`kind_${kind}`)} · ${ago(deleted, Date.now(), spoken())}`),
      ),
      h(
        "div",
        { class: "dspo-row" },
        button(t("restore"), restore, {
          kind: "small",
          "aria-label": t("restoreOf", { name }),
          "data-focus": `restore:${entry}`,
        }),
        button(t("erase"), erase, {
          kind: "small quiet danger",
          "aria-label": t("eraseOf", { name }),
          "data-focus": `erase:${entry}`,
        }),
      ),
    );
  }

  async #erase(kind, entry, name) {
    await api.erase(kind, entry);
    await this.changed();
    this.foot.say(t("erased", { name }));
  }

  rename(kind, name, shown) {
    const field = h("input", { type: "text", required: true, value: shown, maxlength: 120, spellcheck: "false" });
    const hint = h("p", { class: "dspo-muted" }, t(kind === "sets" ? "renameSet" : "renameTitle"));
    ask({
      title: t("renameOf", { name: shown }),
      parts: [h("label", { class: "dspo-field" }, t("newName"), field), hint],
      go: t("rename"),
      act: async () => {
        await api.rename(kind, name, field.value.trim());
        await this.changed();
      },
    });
    field.select();
  }
}

function askToErase(kind, name, act) {
  const { focus } = ask({
    title: t("eraseOf", { name }),
    parts: [h("p", {}, t(`eraseText_${kind}`))],
    go: t("erase"),
    kind: "danger",
    act,
  });
  focus();
}

/** A small dialog with one action, which closes it if it succeeds: {focus()} of its cancel button. */
function ask({ title, parts, go, kind = "primary", act }) {
  const { body, close } = openDialog({ title, kind: "dspo-narrow" });
  const answer = h("p", { class: "dspo-warning", role: "alert", hidden: true });
  const yes = h("button", { type: "submit", class: `dspo-button ${kind}` }, go);
  const no = button(t("cancel"), close, { kind: "quiet" });
  const submit = async (event) => {
    event.preventDefault();
    yes.disabled = true;
    try {
      await act();
      close();
    } catch (error) {
      answer.textContent = told(error);
      answer.hidden = false;
      yes.disabled = false;
    }
  };
  body.append(h("form", { onsubmit: submit }, parts, answer, h("div", { class: "dspo-row" }, yes, no)));
  return { focus: () => no.focus() };
}
