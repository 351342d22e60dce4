// Times, sizes and names as the rest of the page writes them.

const significant = (v) => {
  const size = Math.abs(v);
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
};

const scaled = (v, units, least) => {
  for (const [from, unit, word] of units) {
    if (Math.abs(v) >= from) {
      return `${significant(v / unit)} ${word}`;
    }
  }
  return `${Math.round(v)} ${least}`;
};

const duration = (ns) => (ns ? scaled(ns, [[1e12, 1e9, "s"], [1e6, 1e6, "ms"], [1e3, 1e3, "µs"]], "ns") : "0");
const size = (bytes) => scaled(bytes, [[1e12, 1e12, "TB"], [1e9, 1e9, "GB"], [1e6, 1e6, "MB"], [1e3, 1e3, "kB"]], "B");
const counted = (n, word) => `${n.toLocaleString("en-US")} ${word}${n === 1 ? "" : "s"}`;
const shareOf = (part, whole) => {
  const percent = (100 * part) / whole;
  return percent > 0 && percent < 0.1 ? "< 0.1 %" : percent > 99.9 && percent < 100 ? "> 99.9 %" : `${percent.toFixed(1)} %`;
};

// As `--window` takes it: +12.5ms.
const moment = (ns) => {
  const whole = Math.round(Math.abs(ns));
  const text = `${Math.floor(whole / 1e6)}.${String(whole % 1e6).padStart(6, "0")}`.replace(/0+$/, "").replace(/\.$/, "");
  return `${ns < 0 ? "-" : "+"}${text}ms`;
};

// A tick of the ruler, in a unit that suits its spacing.
const tick = (ns, step) => {
  const [unit, word] = step >= 1e9 ? [1e9, "s"] : step >= 1e5 ? [1e6, "ms"] : step >= 100 ? [1e3, "µs"] : [1, "ns"];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  return `${(ns / unit).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${word}`;
};
