// One trace as lanes, out of its payload. Everything here is read once; nothing is asked of the network.

const pause = () =>
  new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(0);
  });

class Side {
  constructor(header, column, words) {
    Object.assign(this, { header, column, words, names: header.names, name: header.name, trace: header.trace });
    this.lanes = [];
    this.calls = []; // {lane, item} ranges by the number of their first call
    this.problems = [];
    const classes = {};
    for (const key of ["name", "kind", "stage", "from", "to", "sized"]) {
      classes[key] = column(header.classes[key], Uint32Array);
    }
    this.classes = classes;
    this.kindPaints = Uint8Array.from(classes.kind, (kind) => kind + 1);
    const start = column(header.iterations.start);
    const end = column(header.iterations.length);
    for (let i = 0; i < end.length; i++) {
      end[i] += start[i];
    }
    this.warmUp = header.iterations.warm_up;
    this.firstSteady = header.iterations.first + this.warmUp; // its number
    this.slow = new Set(header.iterations.slow);
    const cls = Uint32Array.from(start, (_, i) => (this.slow.has(i) ? 2 : i < this.warmUp ? 3 : i % 2));
    this.iterations = { start, end, cls };
  }

  // In steps, so that the page stays responsive; each takes some tens of milliseconds for a million operations.
  async build(work) {
    const { header } = this;
    if (this.iterations.start.length) {
      const paints = ["0", "1", "slow", "warm-up"].map((word) => paintNumber.get(`iteration ${word}`));
      this.lane("iterations", "iterations", this.iterations, byNesting, paints);
    }
    const order = [];
    for (const thread of header.threads) {
      order.push(() => this.addThread(thread));
    }
    const streams = [];
    for (const stream of header.streams) {
      order.push(() => streams.push(this.stream(stream)));
    }
    for (const device of header.devices) {
      order.push(() => this.addDevice(device, streams.filter((lane) => lane.data.device === device.device)));
    }
    order.push(() => {
      const known = new Set(header.devices.map((device) => device.device));
      this.lanes.push(...streams.filter((lane) => !known.has(lane.data.device)));
    });
    for (const step of order) {
      await work(step);
    }
    return this;
  }

  shortName(number) {
    return this.header.short[number] ?? this.names[number];
  }

  lane(role, label, items, fill, paints, data = {}) {
    const lane = new Lane(role, label, this, items, fill(items.start, items.end), paints);
    lane.data = data;
    this.lanes.push(lane);
    return lane;
  }

  summed(data, grid, paintOf) {
    const exact = new Uint8Array(grid.bins);
    for (const [from, to] of grid.exact) {
      exact.fill(1, Math.round((from - grid.low) / grid.width), Math.round((to - grid.low) / grid.width));
    }
    const parts = data.kinds.map((kind, i) => ({ kind, paint: paintOf(kind), sums: this.column(data.sums[i]) }));
    return { low: grid.low, width: grid.width, exact, parts, count: this.column(data.count) };
  }

  addThread(thread) {
    thread.bands.forEach((band, row) => {
      const items = intervals(this.column, band, band.classes.length);
      items.bytes = this.column(band.bytes);
      const paints = band.classes.map(([, path, kind]) =>
        paintNumber.get(kind ? `stage ${this.words.stages[kind - 1]}` : `stage ${path % 3}`),
      );
      const label = row === 0 ? thread.label : "";
      this.lane("stages", label, items, byNesting, paints, { ...band, thread: thread.label });
    });
    for (const kind of ["calls", "os"]) {
      const data = thread[kind];
      if (data) {
        const items = intervals(this.column, data, data.classes.length);
        const paintOf = (cls) => paintNumber.get(`call ${this.words.calls[cls][1]}`);
        const paints = data.classes.map(([, cls]) => paintOf(cls));
        const label = `${thread.label} ${kind === "os" ? "OS calls" : "calls"}`;
        const lane = this.lane(kind, label, items, byNesting, paints, { ...data, thread: thread.label });
        if (data.summed) {
          lane.withSums(this.summed(data.summed, this.header.calls_grid, paintOf));
        }
        if (kind === "calls") {
          lane.firstCall = this.calls.length ? this.calls.at(-1).firstCall + this.calls.at(-1).items.start.length : 0;
          this.calls.push(lane);
        }
      }
    }
  }

  stream(data) {
    const { classes, words } = this;
    const items = intervals(this.column, data, classes.name.length);
    const sized = this.column(data.bytes);
    const relative = this.column(data.call);
    items.call = new Int32Array(relative.length).fill(-1);
    items.bytes = sized.length ? new Float64Array(relative.length) : null;
    for (let i = 0, call = 0, at = 0; i < relative.length; i++) {
      if (relative[i]) {
        const v = relative[i] - 1;
        call += v % 2 ? -(v + 1) / 2 : v / 2;
        items.call[i] = call;
      }
      if (classes.sized[items.cls[i]]) {
        items.bytes[i] = sized[at++];
      }
    }
    const rank = Uint8Array.from(items.cls, (cls) => classes.kind[cls]);
    const segments = byPriority(items.start, items.end, rank, words.kinds.length);
    const lane = new Lane("stream", data.label, this, items, segments, this.kindPaints);
    lane.data = data;
    if (data.summed) {
      lane.withSums(this.summed(data.summed, this.header.grid, (kind) => kind + 1));
    }
    return lane;
  }

  // A device: all of its streams by priority (as the ledger has it), its idle time, then each stream.
  addDevice(data, streams) {
    const { words, header } = this;
    const all = mergeOrder(streams.map((lane) => lane.items.start));
    const n = all ? all.row.length : 0;
    const end = new Float64Array(n);
    const rank = new Uint8Array(n);
    const cls = new Uint32Array(n);
    const ends = streams.map((lane) => lane.items.end);
    const kinds = streams.map((lane) => lane.items.cls);
    for (let i = 0; i < n; i++) {
      const [list, row] = [all.list[i], all.row[i]];
      end[i] = ends[list][row];
      cls[i] = kinds[list][row];
      rank[i] = this.classes.kind[cls[i]];
    }
    const items = { start: all ? all.values : end, end, cls };
    const segments = byPriority(items.start, end, rank, words.kinds.length);
    const several = streams.length > 1;
    const busy = new Lane("device", `${data.label}${several ? " · all streams" : ""}`, this, items, segments, this.kindPaints);
    busy.data = data;
    busy.origin = (i) => [streams[all.list[i]], all.row[i]];
    if (data.summed) {
      busy.withSums(this.summed(data.summed, header.grid, (kind) => kind + 1));
    }
    const idle = this.idleLane(data, busy);
    this.compareBusy(data, busy);
    this.lanes.push(...(several ? [busy] : []), idle, ...streams);
  }

  idleLane(data, busy) {
    const { words, header } = this;
    const gaps = gapsOf(busy, data.window, header.grid);
    const pieces = this.column(data.pieces);
    const lengths = this.column(data.lengths);
    const which = this.column(data.which, Uint32Array);
    const unknown = data.causes.length;
    const causes = [...data.causes, [words.causes.findIndex(([cause]) => cause === "unknown"), -1]];
    const found = new Segments(which.length);
    let fits = gaps.length === pieces.length;
    for (let g = 0, p = 0, l = 0; g < gaps.length; g++) {
      const [from, to] = [gaps.start[g], gaps.end[g]];
      let at = from;
      const last = fits ? p + pieces[g] - 1 : p;
      for (; fits && p < last; p++) {
        found.add(at, at + lengths[l], which[p]);
        at += lengths[l++];
      }
      fits = fits && at < to;
      found.add(at, to, fits ? which[p++] : unknown);
    }
    const items = {
      start: found.start.slice(0, found.length),
      end: found.end.slice(0, found.length),
      cls: found.item.slice(0, found.length),
    };
    const family = causes.map(([cause]) => paintNumber.get(`idle ${words.causes[cause][1]}`));
    const idle = new Lane("idle", `${data.label} idle`, this, items, null, family);
    idle.data = { ...data, causes };
    idle.gaps = gaps;
    if (data.summed_idle) {
      const paintOf = (cause) => paintNumber.get(`idle ${words.causes[cause][1]}`);
      idle.withSums(this.summed(data.summed_idle, header.grid, paintOf));
    }
    this.compare(data, idle, causes, fits);
    return idle;
  }

  // What the gaps sum to, cause by cause, against the ledger; a difference is said on the page.
  compare(data, idle, causes, fits) {
    const sums = new Map();
    const count = (cause, ns) => ns && sums.set(cause, (sums.get(cause) || 0) + ns);
    const ofClass = new Float64Array(causes.length);
    for (let i = 0; i < idle.items.start.length; i++) {
      ofClass[idle.items.cls[i]] += idle.items.end[i] - idle.items.start[i];
    }
    ofClass.forEach((ns, c) => count(this.words.causes[causes[c][0]][0], ns));
    if (idle.summed) {
      for (const part of idle.summed.parts) {
        part.sums.forEach((ns, b) => idle.summed.exact[b] || count(this.words.causes[part.kind][0], ns));
      }
    }
    const drawn = [...sums.values()].reduce((a, b) => a + b, 0);
    idle.sums = Object.fromEntries(sums);
    const ledger = Object.values(data.idle).reduce((a, b) => a + b, 0);
    const differs = Object.keys({ ...data.idle, ...Object.fromEntries(sums) }).filter(
      (cause) => (data.idle[cause] || 0) !== (sums.get(cause) || 0),
    );
    if (drawn !== ledger) {
      this.problems.push(
        `${this.name}, ${data.label}: the gaps drawn sum to ${exactly(drawn)}, the ledger's idle time is ` +
          `${exactly(ledger)}. Trust the ledger, not the picture.`,
      );
    } else if (differs.length || !fits) {
      this.problems.push(
        `${this.name}, ${data.label}: the gaps drawn sum to the ledger's idle time, but their causes do not ` +
          `(${differs.join(", ") || "their pieces do not fit"}). Trust the ledger, not the colours.`,
      );
    }
  }

  compareBusy(data, busy) {
    const k = busy.paints.length;
    const sums = new Float64Array(2 * k);
    busy.before(data.window[0], 0, sums, 0);
    busy.before(data.window[1], 0, sums, k);
    const found = Object.fromEntries(busy.paints.map((p, i) => [PAINTS[p - 1].name, sums[k + i] - sums[i]]));
    // Where the window cuts a bin of sums, what lies in it can only be estimated.
    const slack = busy.summed ? 2 * busy.summed.width : 0;
    const differs = Object.keys({ ...data.busy, ...found }).filter(
      (kind) => Math.abs((data.busy[kind] || 0) - (found[kind] || 0)) > slack,
    );
    if (differs.length) {
      this.problems.push(
        `${this.name}, ${data.label}: the busy time drawn is not the ledger's (${differs.join(", ")}). Trust the ledger.`,
      );
    }
  }

  // The lane and item of a call by its number.
  callOf(number) {
    const lane = this.calls.findLast((one) => one.firstCall <= number);
    return lane && number - lane.firstCall < lane.items.start.length ? { lane, item: number - lane.firstCall } : null;
  }
}

// What a device's busy segments leave of its window (where exact).
const gapsOf = (busy, window, grid) => {
  const [low, high] = window;
  const stretches = grid ? grid.exact : [[low, high]];
  const found = new Segments(busy.length + stretches.length);
  let i = 0;
  for (const [begin, stop] of stretches) {
    let at = Math.max(begin, low);
    const to = Math.min(stop, high);
    while (i && busy.end[i - 1] > at) {
      i--;
    }
    for (; i < busy.length && busy.start[i] < to; i++) {
      if (busy.end[i] > busy.start[i]) {
        found.add(at, Math.min(busy.start[i], to), 0);
        at = Math.max(at, busy.end[i]);
      }
    }
    found.add(at, to, 0);
  }
  return found;
};

const exactly = (ns) => `${ns.toLocaleString("en-US")} ns`;
