/** Every text of the page, by language. `{name}` is filled in; a missing translation falls back to English. */

import { de } from "./texts/de.js";
import { en } from "./texts/en.js";
import { zh } from "./texts/zh.js";

export const TEXTS = { en, de, zh };

let language = "en";

/** Choose by ComfyUI's locale, such as "de" or "zh-TW". */
export function speak(locale) {
  const short = String(locale ?? "en").split("-")[0];
  language = short in TEXTS ? short : "en";
}

export const spoken = () => language;

/** The text of a key, with `{name}` filled in from `values`. */
export function t(key, values = {}) {
  const text = TEXTS[language][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text for a count, {count}: of `keyOne` for 1, if there is one. */
export function counted(key, count, values = {}) {
  return t(count === 1 && `${key}One` in TEXTS.en ? `${key}One` : key, { count, ...values });
}

/** Why a request failed, as the server says it; or that it does not answer. */
export const told = (error) => (error?.permanent ? error.message : t("serverSilent"));
