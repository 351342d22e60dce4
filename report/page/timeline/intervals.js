// Interval algebra on arrays sorted by start, as in analyze/intervals.py. A set of segments is {start, end, item}: disjoint, each
// owned by one item.

class Segments {
  constructor(most) {
    this.start = new Float64Array(most);
    this.end = new Float64Array(most);
    this.item = new Uint32Array(most);
    this.length = 0;
  }

  add(start, end, item) {
    if (end <= start) {
      return;
    }
    if (this.length === this.start.length) {
      const most = 2 * this.length + 16;
      for (const [name, Type] of [["start", Float64Array], ["end", Float64Array], ["item", Uint32Array]]) {
        const grown = new Type(most);
        grown.set(this[name]);
        this[name] = grown;
      }
    }
    this.start[this.length] = start;
    this.end[this.length] = end;
    this.item[this.length++] = item;
  }
}

// How many of the first `n` of sorted `values` are below `t`, from `low` on.
const below = (values, t, low, n) => {
  let step = 1;
  let high = low;
  while (high < n && values[high] < t) {
    low = high + 1;
    high += step;
    step *= 2;
  }
  high = Math.min(high, n);
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] < t) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
};

const disjoint = (start, end) => {
  for (let i = 1; i < start.length; i++) {
    if (start[i] < end[i - 1]) {
      return false;
    }
  }
  return true;
};

// Every instant to the lowest rank that has an item then, and of these to the one that starts first.
const byPriority = (start, end, rank, ranks) => {
  if (disjoint(start, end)) {
    return null;
  }
  const count = new Uint32Array(ranks);
  for (let i = 0; i < rank.length; i++) {
    count[rank[i]]++;
  }
  let above = new Segments(0);
  for (let r = 0; r < ranks; r++) {
    if (count[r]) {
      const fresh = new Segments(count[r]);
      let reach = -Infinity;
      let a = 0;
      for (let i = 0; i < start.length; i++) {
        if (rank[i] !== r) {
          continue;
        }
        let from = Math.max(start[i], reach);
        reach = Math.max(reach, end[i]);
        while (a < above.length && above.end[a] <= from) {
          a++;
        }
        for (let b = a; from < end[i]; b++) {
          const stop = b < above.length ? Math.min(above.start[b], end[i]) : end[i];
          fresh.add(from, stop, i);
          from = b < above.length ? Math.max(from, above.end[b]) : end[i];
        }
      }
      above = above.length ? merged(above, fresh) : fresh;
    }
  }
  return above;
};

const merged = (a, b) => {
  const out = new Segments(a.length + b.length);
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (j >= b.length || (i < a.length && a.start[i] <= b.start[j])) {
      out.add(a.start[i], a.end[i], a.item[i]);
      i++;
    } else {
      out.add(b.start[j], b.end[j], b.item[j]);
      j++;
    }
  }
  return out;
};

// Every instant to the item that was opened last.
const byNesting = (start, end) => {
  if (disjoint(start, end)) {
    return null;
  }
  const out = new Segments(2 * start.length);
  const open = [];
  let t = -Infinity;
  const close = (until) => {
    while (open.length && end[open[open.length - 1]] <= until) {
      const top = open.pop();
      out.add(t, end[top], top);
      t = Math.max(t, end[top]);
    }
  };
  for (let i = 0; i < start.length; i++) {
    close(start[i]);
    if (open.length) {
      out.add(t, start[i], open[open.length - 1]);
    }
    t = Math.max(t, start[i]);
    open.push(i);
  }
  close(Infinity);
  return out;
};

// The positions of several sorted arrays in one order of their values: {list, row}.
const mergeOrder = (arrays) => {
  let all = arrays.map((values, list) => {
    const row = new Uint32Array(values.length);
    for (let i = 0; i < row.length; i++) {
      row[i] = i;
    }
    return { values, list: new Uint8Array(values.length).fill(list), row };
  });
  while (all.length > 1) {
    const next = [];
    for (let i = 0; i < all.length; i += 2) {
      next.push(i + 1 < all.length ? mergeTwo(all[i], all[i + 1]) : all[i]);
    }
    all = next;
  }
  return all[0];
};

const mergeTwo = (a, b) => {
  const n = a.row.length + b.row.length;
  const out = { values: new Float64Array(n), list: new Uint8Array(n), row: new Uint32Array(n) };
  for (let i = 0, j = 0, k = 0; k < n; k++) {
    const first = j >= b.row.length || (i < a.row.length && a.values[i] <= b.values[j]);
    const [from, at] = first ? [a, i++] : [b, j++];
    out.values[k] = from.values[at];
    out.list[k] = from.list[at];
    out.row[k] = from.row[at];
  }
  return out;
};
