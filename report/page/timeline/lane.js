// One row of the timeline: intervals ("items") and, for every instant, which of them fills it. Sums up to any instant are exact:
// whole chunks from a table, the rest by looking at each segment.

const CHUNK = 64;

class Lane {
  // items: {start, end, cls}; segments: who fills each instant where items overlap, else null; paints: one a class.
  constructor(role, label, side, items, segments, paints) {
    Object.assign(this, { role, label, side, items, classPaints: Uint8Array.from(paints) });
    this.start = segments ? segments.start : items.start;
    this.end = segments ? segments.end : items.end;
    this.owner = segments ? segments.item : null;
    this.length = segments ? segments.length : items.start.length;
    this.summed = null;
    this.paint = new Uint8Array(this.length);
    this.colour(null);
  }

  // Sums where the page has no items: {low, width, exact (a flag a bin), parts: [{paint, sums}], count}.
  withSums(summed) {
    this.summed = summed;
    this.colour(null);
    return this;
  }

  item(segment) {
    return this.owner ? this.owner[segment] : segment;
  }

  // Draw the classes that `keep` (a flag each; null: all) names in their own paint, the others in DIM.
  colour(keep) {
    this.keep = keep;
    const { owner, length, start, end } = this;
    const { cls } = this.items;
    const paints = keep ? this.classPaints.map((paint, c) => (keep[c] ? paint : DIM)) : this.classPaints;
    const used = new Uint8Array(256);
    for (let i = 0; i < length; i++) {
      used[paints[cls[owner ? owner[i] : i]]] = 1;
    }
    const sums = this.summed ? this.summed.parts.map((part) => (keep ? DIM : part.paint)) : [];
    sums.forEach((paint) => (used[paint] = 1));
    this.paints = [...used.keys()].filter((paint) => used[paint]);
    const place = new Uint8Array(256);
    this.paints.forEach((paint, i) => (place[paint] = i));
    const places = paints.map((paint) => place[paint]);
    const k = this.paints.length;
    const chunks = Math.ceil(length / CHUNK);
    const table = new Float64Array((chunks + 1) * k);
    const total = new Float64Array(k);
    for (let i = 0; i < length; i++) {
      if (i % CHUNK === 0) {
        table.set(total, (i / CHUNK) * k);
      }
      const p = places[cls[owner ? owner[i] : i]];
      this.paint[i] = p;
      total[p] += end[i] - start[i];
    }
    table.set(total, chunks * k);
    this.table = table;
    if (this.summed) {
      this.bins = binTable(this.summed, sums.map((paint) => place[paint]), k);
    }
  }

  // The ns that it is filled, all in all.
  get total() {
    const [from, n] = this.summed ? [this.bins.before, this.summed.count.length] : [this.table, Math.ceil(this.length / CHUNK)];
    const k = this.paints.length;
    return from.subarray(n * k, (n + 1) * k).reduce((a, b) => a + b, 0);
  }

  // Write what each paint has filled before `t` into `out`; `from` segments begin before. Returns how many begin before `t`.
  exactBefore(t, from, out, at) {
    const n = below(this.start, t, from, this.length);
    const k = this.paints.length;
    const chunk = Math.floor(n / CHUNK);
    for (let p = 0; p < k; p++) {
      out[at + p] = this.table[chunk * k + p];
    }
    for (let i = chunk * CHUNK; i < n; i++) {
      out[at + this.paint[i]] += this.end[i] - this.start[i];
    }
    if (n && this.end[n - 1] > t) {
      out[at + this.paint[n - 1]] -= this.end[n - 1] - t;
    }
    return n;
  }

  before(t, from, out, at) {
    const n = this.exactBefore(t, from, out, at);
    if (!this.summed) {
      return n;
    }
    const { low, width, exact, count } = this.summed;
    const k = this.paints.length;
    const place = Math.min(Math.max((t - low) / width, 0), count.length);
    const bin = Math.min(Math.floor(place), count.length - 1);
    const base = this.bins.before;
    if (exact[bin]) {
      this.exactBefore(low + bin * width, 0, this.bins.edge, 0);
      for (let p = 0; p < k; p++) {
        out[at + p] += base[bin * k + p] - this.bins.edge[p];
      }
    } else {
      for (let p = 0; p < k; p++) {
        out[at + p] = base[bin * k + p] + (base[(bin + 1) * k + p] - base[bin * k + p]) * (place - bin);
      }
    }
    return n;
  }

  // Whether any of [from, to) is known from sums alone.
  isSummed(from, to) {
    if (!this.summed) {
      return false;
    }
    const { low, width, exact } = this.summed;
    const first = Math.max(Math.floor((from - low) / width), 0);
    const last = Math.min(Math.ceil((to - low) / width), exact.length);
    for (let b = first; b < last; b++) {
      if (!exact[b]) {
        return true;
      }
    }
    return false;
  }

  // Of each of `n` columns of `step` ns from `from` on: the ns of each paint, how many segments touch it, whether it is of sums.
  columns(from, step, n) {
    const k = this.paints.length;
    const ns = new Float64Array(n * k);
    const touched = new Uint32Array(n);
    const summed = this.summed ? new Uint8Array(n) : null;
    let one = new Float64Array(k);
    let two = new Float64Array(k);
    let begun = this.before(from, 0, one, 0);
    for (let x = 0; x < n; x++) {
      const t = from + (x + 1) * step;
      const next = this.before(t, begun, two, 0);
      for (let p = 0; p < k; p++) {
        ns[x * k + p] = two[p] - one[p];
      }
      touched[x] = next - begun + (begun && this.end[begun - 1] > from + x * step ? 1 : 0);
      if (summed && this.isSummed(from + x * step, t)) {
        summed[x] = 1;
      }
      begun = next;
      [one, two] = [two, one];
    }
    return { ns, touched, summed };
  }

  // The items that reach into [from, to): at most `most` of them, and how many there are.
  within(from, to, most) {
    const found = [];
    let total = 0;
    const seen = new Set();
    let i = below(this.start, from, 0, this.length);
    if (i && this.end[i - 1] > from) {
      i--;
    }
    for (; i < this.length && this.start[i] < to; i++) {
      const item = this.item(i);
      if (!seen.has(item)) {
        total++;
        if (found.length < most) {
          found.push(item);
          if (this.owner) {
            seen.add(item);
          }
        }
      }
    }
    return { found, total };
  }

  // The item at `t`, or, on a screen where a pixel is `near` long, the only one about there; -1 for none and for several.
  hit(t, near) {
    const i = below(this.start, t, 0, this.length) - 1;
    if (i >= 0 && this.end[i] > t && this.end[i] - this.start[i] >= near) {
      return this.item(i);
    }
    const { found, total } = this.within(t - near / 2, t + near / 2, 2);
    if (total === 0) {
      const wider = this.within(t - 3 * near, t + 3 * near, 2);
      return wider.total === 1 ? wider.found[0] : -1;
    }
    return total === 1 ? found[0] : -1;
  }
}

// Sums of each paint before each bin's edge.
const binTable = (summed, places, k) => {
  const n = summed.count.length;
  const before = new Float64Array((n + 1) * k);
  for (let b = 0; b < n; b++) {
    for (let p = 0; p < k; p++) {
      before[(b + 1) * k + p] = before[b * k + p];
    }
    summed.parts.forEach((part, i) => (before[(b + 1) * k + places[i]] += part.sums[b]));
  }
  return { before, edge: new Float64Array(k) };
};
