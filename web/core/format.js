/** Numbers and times for display. */

/** "1:05" for 65 seconds; "2:03:09" above an hour. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** A share in percent, halves to the even number: as Python writes it on the nodes and on saved images. */
export function wholePercent(share) {
  const whole = Math.round(100 * share); // halves up
  return whole - 100 * share === 0.5 && whole % 2 ? whole - 1 : whole;
}

/** "62%"; "–" if it is not a number. */
export function percent(share) {
  return Number.isFinite(share) ? `${wholePercent(share)}%` : "–";
}

/** A small figure with its sign: "+1.20e-3" or "−0.034". */
export function signed(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && size < 0.01 ? size.toExponential(digits - 1) : size.toFixed(digits);
  return `${value < 0 ? "−" : value > 0 ? "+" : ""}${text}`;
}

const AGES = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** "5 minutes ago" in the language; "" for a time that cannot be read. */
export function ago(iso, now, locale) {
  const seconds = (now - Date.parse(iso)) / 1000;
  if (!Number.isFinite(seconds)) return "";
  const words = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  const [unit, length] = AGES.find(([, each]) => seconds >= each) ?? ["minute", 60];
  return words.format(-Math.max(0, Math.floor(seconds / length)), unit);
}

/** Share done, 0 to 1, for a bar. */
export function share(done, total) {
  return total > 0 ? Math.min(1, Math.max(0, done / total)) : 0;
}
