import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";
import { speak, spoken, t, TEXTS } from "../../web/texts.js";

const web = new URL("../../web/", import.meta.url);
const modules = fs
  .readdirSync(web, { recursive: true })
  .map((name) => String(name).replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".js"));
const source = (name) => fs.readFileSync(new URL(name, web), "utf8");
const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort();

test("every translation belongs to an English text and fills in the same values", () => {
  for (const [language, texts] of Object.entries(TEXTS))
    for (const [key, text] of Object.entries(texts))
      assert.deepEqual(holes(text), holes(TEXTS.en[key] ?? "none"), `${language} ${key}`);
});

test("German and Chinese lack nothing but names that are the same", () => {
  const same = new Set(["title", "layout_jsonl", "layout_csv"]);
  for (const language of ["de", "zh"]) {
    const missing = Object.keys(TEXTS.en).filter((key) => !(key in TEXTS[language]) && !same.has(key));
    assert.deepEqual(
      missing,
      language === "zh" ? [] : missing.filter((key) => TEXTS.en[key] === TEXTS.de[key]),
      language,
    );
  }
});

test("every key that the page names exists", () => {
  for (const name of modules)
    for (const [, key] of source(name).matchAll(/\bt\("(\w+)"/g)) assert.ok(key in TEXTS.en, `${name}: ${key}`);
});

test("each alarm that the server can name has its words", () => {
  const route = fs.readFileSync(new URL("../../nodes/routes/runs.py", import.meta.url), "utf8");
  const kinds = [...route.match(/_KIND = \{(.*?)\}/)[1].matchAll(/"(\w+)"/g)].map(([, kind]) => kind);
  assert.deepEqual(kinds, ["held_out", "training", "without_winning"]);
  for (const language of ["en", "de", "zh"])
    for (const kind of kinds) assert.ok(TEXTS[language][`alarm_${kind}`], `${language} ${kind}`);
});

test("the language by ComfyUI's locale", () => {
  speak("de");
  assert.equal(t("counter", { answered: 1, total: 2 }), "1 von 2");
  speak("zh-TW");
  assert.equal(spoken(), "zh");
  speak("xx");
  assert.equal(t("tie"), "Tie");
  speak(undefined);
  assert.equal(t("pairsLeft", {}), "{left} left");
});

test("no markup is made from data, URLs stand in api.js, and only dspo.js acts when it is imported", () => {
  for (const name of modules) {
    const text = source(name);
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(/, name);
    if (name !== "api.js")
      assert.doesNotMatch(text, /(?<![#\w])fetch\(|fetchApi|apiURL|["'`]\/(dspo|view|api)\b/, name);
    if (name !== "dspo.js") assert.doesNotMatch(text, /registerExtension|^(addEventListener|document|window)\b/m, name);
  }
});

test("nodes are called as in the node's own translation", () => {
  const names = (language) => {
    const url = new URL(`../../locales/${language}/nodeDefs.json`, import.meta.url);
    return Object.values(JSON.parse(fs.readFileSync(url, "utf8"))).map(({ display_name: name }) => name);
  };
  for (const language of ["de", "zh"]) {
    const known = names(language);
    const quoted = Object.values(TEXTS[language]).flatMap((text) => text.match(/(?<=[„“])DSPO [^”“]+(?=[”“])/g) ?? []);
    assert.equal(quoted.length, 5, language);
    for (const name of quoted) assert.ok(known.includes(name), `${language}: ${name}`);
    for (const text of Object.values(TEXTS[language]))
      for (const foreign of names("en")) assert.ok(known.includes(foreign) || !text.includes(foreign), text);
  }
});

test("Chinese terms are the same everywhere", () => {
  for (const [key, text] of Object.entries(TEXTS.zh)) assert.doesNotMatch(text, /你|平手|偏好集|此集/, key);
});
