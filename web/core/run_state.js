/** A run as the page knows it: reports by step, from GET /dspo/run and from events. */

export const CHARTS = [
  { title: "margin", zero: true, series: [{ key: "margin", held: "held_out_margin", name: "training" }] },
  { title: "accuracy", range: [0, 1], series: [{ key: "accuracy", held: "held_out_accuracy", name: "training" }] },
  {
    title: "errors",
    zero: true,
    series: [
      { key: "winner_change", held: "held_out_winner_change", name: "winner" },
      { key: "loser_change", held: "held_out_loser_change", name: "loser" },
    ],
  },
];

/** Both lists merged by step; a later report of a step adds to the earlier one. */
export function merged(known, more) {
  const bySteps = new Map(known.map((report) => [report.step, report]));
  for (const report of more) bySteps.set(report.step, { ...bySteps.get(report.step), ...report });
  return [...bySteps.values()].sort((a, b) => a.step - b.step);
}

/** The last step before the first gap: everything after it is requested again. */
export function knownUpTo(reports) {
  let last = reports.length ? reports[0].step - 1 : 0;
  if (last > 0) return 0;
  for (const { step } of reports) {
    if (step !== last + 1) break;
    last = step;
  }
  return last;
}

/** Points of one key, in order. */
export function pointsOf(reports, key) {
  return reports.filter((report) => key in report).map((report) => ({ x: report.step, y: report[key] }));
}

/** The newest finite value of one key, or null. */
export function lastOf(reports, key) {
  return reports.findLast((report) => Number.isFinite(report[key]))?.[key] ?? null;
}

/** Seconds to the end, by the median of the last steps, or null. */
export function secondsLeft({ step, steps, reports }) {
  const recent = reports
    .slice(-30)
    .map((report) => report.seconds)
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  if (!recent.length || !(steps > step)) return null;
  return (steps - step) * recent[Math.floor(recent.length / 2)];
}
