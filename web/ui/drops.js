/** Image files dropped onto an element or chosen from the disk, sent to the server one after the other. */
import * as api from "../api.js";
import { mayBeImage } from "../core/gather.js";
import { t } from "../texts.js";

const ACCEPT = "image/png,image/jpeg,image/webp";

const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/** Call `take(files)` when files are dropped onto the element, in place of ComfyUI, which would open them as graphs. */
export function acceptDrops(element, take) {
  const over = (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    event.dataTransfer.dropEffect = "copy";
    element.classList.add("dspo-dropping");
  };
  const leave = (event) => {
    if (!element.contains(event.relatedTarget)) element.classList.remove("dspo-dropping");
  };
  const drop = (event) => {
    element.classList.remove("dspo-dropping");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    take([...event.dataTransfer.files]);
  };
  element.addEventListener("dragenter", over);
  element.addEventListener("dragover", over);
  element.addEventListener("dragleave", leave);
  element.addEventListener("drop", drop);
}

/** Let the person choose files; `take(files)` gets them. */
export function chooseFiles(take) {
  const input = Object.assign(document.createElement("input"), { type: "file", multiple: true, accept: ACCEPT });
  input.addEventListener("change", () => take([...input.files]));
  input.click();
}

/**
 * Send files; `told(done, total)` is called before each and at the end.
 * Resolves to sentences about those that were not taken.
 */
export async function sendFiles(files, told) {
  const fitting = files.filter(mayBeImage);
  const refused = fitting.length < files.length ? [t("gatherNotImages")] : [];
  for (const [n, file] of fitting.entries()) {
    told(n, fitting.length);
    try {
      await api.dropFile(file);
    } catch (error) {
      const reason = error instanceof api.Refused ? error.message : t("serverSilent");
      refused.push(t("gatherRefused", { name: file.name, reason }));
      if (!error.permanent) break; // the disk is full or the server is gone: the next would fail as well
    }
  }
  told(fitting.length, fitting.length);
  return refused;
}
