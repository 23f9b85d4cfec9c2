/** What keeps a vote from being cast or sent, one line each, with the buttons that help. */
import { t, told } from "../texts.js";
import { button, h } from "./dom.js";

/** The lines for a dialog with this queue and session; none if all is well. */
export function troubles(queue, session) {
  const lines = queue.failed.map((entry) =>
    line(
      t("refused", { reason: entry.refused }),
      quiet("tryAgain", () => queue.retry(entry.id).catch(() => {})),
      quiet("discard", () => queue.discard(entry.id)),
    ),
  );
  for (const { entry, reason } of queue.stuck)
    lines.push(
      line(
        t("stuck", { set: entry.body.set, reason }),
        quiet("discard", () => queue.discard(entry.id)),
      ),
    );
  if (session.state === "asking" && session.shown.images.broken)
    lines.push(
      line(
        t("imagesBroken"),
        quiet("tryAgain", () => session.reload()),
      ),
    );
  const count = queue.pending().length;
  if (queue.waiting && count)
    lines.push(
      line(
        count === 1 ? t("unsentOne") : t("unsent", { count }),
        quiet("tryAgain", () => queue.kick()),
      ),
    );
  else if (session.state === "error")
    lines.push(
      line(
        told(session.error),
        quiet("tryAgain", () => session.retry()),
      ),
    );
  return lines;
}

const line = (text, ...buttons) => h("p", {}, text, ...buttons);

const quiet = (key, act) => button(t(key), act, { kind: "quiet" });
