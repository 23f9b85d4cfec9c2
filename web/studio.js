/** What all parts of the page share: who this tab is, and the one queue of votes. */
import * as api from "./api.js";
import { uuid } from "./core/uuid.js";
import { storedEntries, VoteQueue } from "./core/vote_queue.js";

const CLIENTS = "dspo-studio.clients";
const REMEMBERED = 20;

/**
 * Ids of the pages that this tab has shown, the present one last. Each page has its own, for a duplicated tab copies
 * its session: one id for both would let one tab take back the other's votes. The earlier ones' votes that could not
 * be sent go out now.
 */
function pageIds() {
  const fresh = uuid();
  try {
    const ids = [...JSON.parse(sessionStorage.getItem(CLIENTS) ?? "[]"), fresh].slice(-REMEMBERED);
    sessionStorage.setItem(CLIENTS, JSON.stringify(ids));
    return ids;
  } catch {
    return [fresh];
  }
}

let studio = null;

/**
 * Made at the first call: {client, queue, watch}. `watch(f)` calls f at every change of the queue and returns how to
 * stop that.
 */
export function shared() {
  return (studio ??= assemble());
}

function assemble() {
  const clients = pageIds();
  const watchers = new Set();
  const queue = new VoteQueue({
    store: storedEntries(localStorage, clients, Date.now),
    send: api.deliver,
    wait: (ms) => new Promise((done) => setTimeout(done, ms)),
    changed: () => watchers.forEach((each) => each()),
  });
  addEventListener("online", () => queue.kick());
  queue.resume();
  const watch = (each) => {
    watchers.add(each);
    return () => watchers.delete(each);
  };
  return { client: clients.at(-1), queue, watch };
}
