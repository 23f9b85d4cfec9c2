/** Shared by all parts of the page: the identity of this tab and the queue of votes. */
import * as api from "./api.js";
import { uuid } from "./core/uuid.js";
import { storedEntries, VoteQueue } from "./core/vote_queue.js";

const CLIENTS = "dspo-studio.clients";
const PAST = "dspo-studio.past";
const REMEMBERED = 20;

/**
 * Ids of the pages this tab has shown, the current one last. Each page has its own because a duplicated tab copies
 * its session: with one id for both, either tab could undo the other's votes. Unsent votes of earlier pages are sent
 * by this one.
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

/**
 * Ids of the pages that this browser has closed, in any tab: their votes may be undone from here, those of a page that
 * is still open may not.
 */
function pastPages() {
  try {
    const ids = JSON.parse(localStorage.getItem(PAST) ?? "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  } catch {
    return [];
  }
}

function keepPast(ids) {
  try {
    localStorage.setItem(PAST, JSON.stringify(ids.slice(-REMEMBERED)));
  } catch {
    return; // full or forbidden: votes of this page cannot be undone from the next
  }
}

let studio = null;

/**
 * Created on the first call: {client, earlier, queue, watch}. `earlier()` gives the ids of closed pages; `watch(f)` calls f on every change of the queue and returns a
 * function that stops it.
 */
export function shared() {
  return (studio ??= assemble());
}

function assemble() {
  const clients = pageIds();
  const client = clients.at(-1);
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
  const others = () => pastPages().filter((id) => id !== client);
  addEventListener("pagehide", () => keepPast([...others(), client]));
  addEventListener("pageshow", () => keepPast(others())); // taken out of the browser's cache, it is open again
  return { client, earlier: others, queue, watch };
}
