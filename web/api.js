/** The only file that knows URLs and how ComfyUI's page reaches its server. */
import { api } from "../../scripts/api.js";

const SECONDS = 20;
const LONG = 600; // an import or export of a large set

/** A refusal by the server; `permanent` if the same request would be refused again. */
export class Refused extends Error {
  constructor(status, message) {
    super(message || `HTTP ${status}`);
    this.status = status;
    this.permanent = status >= 400 && status < 500 && ![408, 425, 429].includes(status);
  }
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value != null)).toString();

/** @throws {Refused} with the reason that the server gives. */
async function fetched(path, { seconds = SECONDS, ...options } = {}) {
  const signal = AbortSignal.timeout(seconds * 1000);
  const response = await api.fetchApi(path, { cache: "no-store", signal, ...options });
  if (!response.ok) throw new Refused(response.status, (await response.json().catch(() => null))?.error);
  return response;
}

async function ask(path, options) {
  const body = await (await fetched(`/dspo/${path}`, options)).json().catch(() => null);
  if (!body) throw new Error("The answer is not JSON.");
  return body;
}

const post = (path, body, seconds) =>
  ask(path, {
    seconds,
    method: "POST",
    headers: { "Content-Type": "application/json", "X-DSPO": "1" },
    body: JSON.stringify(body),
  });

export const sets = () => ask("sets");
export const next = (place, set, client, count, skip, find = "") =>
  ask(`next?${query({ place, set, client, count, skip: skip.join(","), find: find || null })}`);
/** As `next`, with groups of a few images as one question each. */
export const groups = async (place, set, client, count, skip, find = "") => {
  const asked = query({ place, set, client, count, skip: skip.join(","), find: find || null });
  const { groups: questions, progress } = await ask(`groups?${asked}`);
  return { questions, progress };
};
/** Seeds and settings of a group. */
export const about = (place, set, group) => ask(`about?${query({ place, set, group })}`);
export const history = (place, set, offset, limit) => ask(`history?${query({ place, set, offset, limit })}`);
/** How well the taste behind a set is known after all its votes; null without features of its images. */
export const taste = (set) => ask(`taste?${query({ set })}`, { seconds: 120 });
/** A page of a set's images, the best first. */
export const ranked = (set, offset, limit) => ask(`ranked?${query({ set, offset, limit })}`, { seconds: 120 });
export const result = (set) => ask(`result?${query({ place: "blind", set })}`);
export const runs = () => ask("runs");
export const run = (name, since) => ask(`run?${query({ run: name, since })}`);
export const stopRun = (name) => post("stop", { run: name });
/** The graph that a run was made in, or null. */
export const workflowOf = (name) => ask(`workflow?${query({ run: name })}`).then(({ workflow }) => workflow);

/** Deliver a queue's entry; `path` is "vote", "judge" or "undo". */
export const deliver = ({ path, body }) => post(path, body);
export const remove = (place, set, target) => post("remove", { place, set, target });
export const restore = (place, set, target) => post("restore", { place, set, target });
export const importSet = (set, into) => post("import", { set, into }, LONG);
export const exportSet = (place, set, layout) => post("export", { place, set, layout }, LONG);

/** What a folder holds that was not collected here, and its pictures by their number. */
export const look = (set) => ask(`look?${query({ set })}`, { seconds: LONG });
export const thumbnailUrl = (set, index, size) => api.apiURL(`/dspo/thumbnail?${query({ set, index, size })}`);

/** `kind`: "sets", "blind" or "runs"; `entry`: the name in the bin, which `discard` answers. */
export const bin = () => ask("bin");
export const rename = (kind, name, to) => post("rename", { kind, name, to });
export const discard = (kind, name) => post("delete", { kind, name });
export const putBack = (kind, entry) => post("undelete", { kind, entry });
export const erase = (kind, entry) => post("erase", { kind, entry }, LONG);

/** A page of groups of images that are there already; with `group`, of its images. What `set` holds is marked. */
export const gatherable = ({ source, folder, set, group, offset, limit }) =>
  ask(`gather?${query({ source, folder, set, group, offset, limit })}`, { seconds: 120 });
export const gatherStatus = () => ask("gather.status");
export const collectImages = (order) => post("gather", order, 120);
export const cancelCollecting = (job) => post("gather.cancel", { job });
export const gatherableUrl = (source, { name, stamp }, size) =>
  api.apiURL(`/dspo/gather.image?${query({ source, image: name, stamp, size })}`);

/** Send an image file as it is. */
export const dropFile = (file) =>
  ask(`drop?${query({ name: file.name.slice(0, 200) })}`, {
    seconds: LONG,
    method: "POST",
    headers: { "Content-Type": "application/octet-stream", "X-DSPO": "1" },
    body: file,
  });

/** `attempt`: a number that makes the URL unique, so that no failure is served from a cache. */
export const imageUrl = (place, set, image, size, attempt) =>
  api.apiURL(`/dspo/image?${query({ place, set, image, size, attempt })}`);
export const previewUrl = (name, file, size) => api.apiURL(`/dspo/preview?${query({ run: name, file, size })}`);
/** An uncached image: an object URL, to be revoked by the caller. */
async function drawn(path) {
  return URL.createObjectURL(await (await fetched(`/dspo/${path}`)).blob());
}

/** The result of a blind test. */
export const resultImage = (set, theme) => drawn(`result.png?${query({ place: "blind", set, theme })}`);
/** What a run's LoRA does. */
export const runCard = (run, theme) => drawn(`card?${query({ run, theme })}`);

/** An image shown by a node: {filename, subfolder, type}. */
export const viewUrl = ({ filename, subfolder, type }) => api.apiURL(`/view?${query({ filename, subfolder, type })}`);
export const styleUrl = () => new URL("./dspo.css", import.meta.url).href;

/** One of the pack's own workflows, served under the name of the pack's folder. */
export async function template(name) {
  const pack = new URL(import.meta.url).pathname.split("/").at(-2);
  return plainly(`/workflow_templates/${pack}/${encodeURIComponent(name)}.json`);
}

export const checkpoints = () => choices("CheckpointLoaderSimple", "required", "ckpt_name");
export const loras = () => choices("LoraLoaderModelOnly", "required", "lora_name");

/** What a combo of a node offers now; newer cores write ["COMBO", {options}], older ones [[...], {}]. */
async function choices(node, kind, input) {
  const [type, details] = (await plainly(`/object_info/${node}`))[node].input[kind][input];
  return Array.isArray(type) ? type : (details?.options ?? []);
}

const plainly = (path) => fetched(path).then((response) => response.json());

/** The bytes of an image's file, as it was stored. */
export async function imageBytes(place, set, image) {
  const response = await fetched(`/dspo/image?${query({ place, set, image })}`, { cache: "default" });
  return new Uint8Array(await response.arrayBuffer());
}

/** Call `done()` when a graph has run, `failed()` when one has failed or was cancelled. */
export function onEnd(done, failed) {
  api.addEventListener("execution_success", done);
  for (const name of ["execution_error", "execution_interrupted"]) api.addEventListener(name, failed);
}

/** Call `act()` whenever the server answers again, as after a restart; returns a function that stops it. */
export function onReconnect(act) {
  api.addEventListener("reconnected", act);
  return () => api.removeEventListener("reconnected", act);
}

/** Call `heard(detail)` on every event of this name of ours, such as "lora_saved"; returns a function that stops it. */
export function listen(name, heard) {
  const handler = (event) => heard(event.detail);
  api.addEventListener(`dspo.${name}`, handler);
  return () => api.removeEventListener(`dspo.${name}`, handler);
}
