/** What all parts of the page share: who this tab is, and the one queue of votes. */
import * as api from "./api.js";
import { uuid } from "./core/uuid.js";
import { storedEntries, VoteQueue } from "./core/vote_queue.js";

const CLIENT = "dspo-studio.client";

/** This tab's id: the same after a reload, so that undo still finds its votes. */
function clientId() {
  try {
    const known = sessionStorage.getItem(CLIENT) ?? uuid();
    sessionStorage.setItem(CLIENT, known);
    return known;
  } catch {
    return uuid();
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
  const client = clientId();
  const watchers = new Set();
  const queue = new VoteQueue({
    store: storedEntries(localStorage, client, Date.now),
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
  return { client, queue, watch };
}
