// Filters and search: what does not match is drawn pale, so that shares stay true. Matches are stepped through in order of time.

Object.assign(Timeline.prototype, {
  mask() {
    const { stage, kernel, find } = this.filter;
    const text = find.toLowerCase();
    this.matches = null;
    const some = Boolean(stage || kernel || text);
    for (const side of this.sides) {
      const { names, classes } = side;
      const underStage = stage && names.map((name) => isBelow(name, stage));
      const either = (test) => names.map((name, i) => test(name) || (i in side.header.short && test(side.header.short[i])));
      const exact = kernel && either((name) => name === kernel);
      const isKernel = kernel && (exact.some(Boolean) ? exact : either((name) => isLike(name, kernel)));
      const found = text && either((name) => holds(name, text));
      const fits = (name, path) =>
        (!stage || underStage[path]) && (!kernel || isKernel[name]) && (!text || found[name] || found[path]);
      const ofClass = Array.from(classes.name, (name, c) => fits(name, classes.stage[c]));
      const byRole = {
        stream: () => ofClass,
        device: () => ofClass,
        stages: (lane) => !kernel && lane.data.classes.map(([name, path]) => fits(name, path)),
        calls: (lane) => text && !kernel && !stage && lane.data.classes.map(([name]) => found[name]),
        idle: (lane) =>
          !kernel &&
          lane.data.causes.map(
            ([cause, path]) =>
              (!stage || (path >= 0 && underStage[path])) && (!text || holds(this.words.causes[cause].join(" "), text)),
          ),
      };
      byRole.os = byRole.calls;
      for (const lane of side.lanes) {
        const keep = (some && byRole[lane.role]?.(lane)) || null;
        if (keep || lane.keep) {
          lane.colour(keep);
        }
      }
    }
  },

  set(changes) {
    Object.assign(this.filter, changes);
    this.search.value = this.filter.find;
    this.mask();
    this.draw();
    this.write();
    this.say();
  },

  // The lanes of what matches: operations, or, where none does, stages, calls, or gaps; how many match, and their ns in sum.
  found() {
    if (!this.matches) {
      for (const role of ["stream", "stages", "calls", "os", "idle"]) {
        const lanes = this.sides.flatMap((side) => side.lanes.filter((lane) => lane.role === role && lane.keep));
        let [count, ns] = [0, 0];
        for (const { keep, items } of lanes) {
          for (let i = 0; i < items.cls.length; i++) {
            if (keep[items.cls[i]]) {
              count++;
              ns += items.end[i] - items.start[i];
            }
          }
        }
        if (count || !this.matches) {
          this.matches = { role, lanes, count, ns };
        }
        if (count) {
          break;
        }
      }
    }
    return this.matches;
  },

  // To the next match (by 1) or the one before (by -1), round the end: matches lie in order of (start on the axis, lane, item).
  step(by) {
    if (!Object.values(this.filter).some(Boolean)) {
      return;
    }
    const { lanes, count } = this.found();
    if (count === 0) {
      return;
    }
    const pinned = this.pinned && lanes.includes(this.pinned.lane) ? this.pinned : null;
    const at = ({ lane, item }) => lane.items.start[item] - this.origin(lane.side);
    const from = pinned ? { t: at(pinned), lane: lanes.indexOf(pinned.lane), item: pinned.item } : { t: this.from, lane: -1, item: -1 };
    let best = null;
    lanes.forEach((lane, l) => {
      const { start, cls } = lane.items;
      const origin = this.origin(lane.side);
      const isPast = (i) => {
        const t = start[i] - origin;
        return t > from.t || (t === from.t && (l > from.lane || (l === from.lane && i > from.item)));
      };
      let i = below(start, from.t + origin, 0, start.length);
      while (i < start.length && !isPast(i)) {
        i++;
      }
      if (by < 0) {
        i--;
        while (i >= 0 && l === from.lane && i >= from.item && start[i] - origin === from.t) {
          i--;
        }
      }
      while (i >= 0 && i < start.length && !lane.keep[cls[i]]) {
        i += by;
      }
      if (i >= 0 && i < start.length) {
        const t = start[i] - origin;
        if (!best || (by > 0 ? t < best.t : t >= best.t)) {
          best = { t, lane, item: i };
        }
      }
    });
    best ||= this.outermost(lanes, by);
    this.reveal(best);
    this.say(`match ${this.rank(lanes, best).toLocaleString("en-US")} of ${count.toLocaleString("en-US")}`);
  },

  // The first match of all, or the last.
  outermost(lanes, by) {
    let best = null;
    for (const lane of lanes) {
      const { start, cls } = lane.items;
      let i = by > 0 ? 0 : start.length - 1;
      while (i >= 0 && i < start.length && !lane.keep[cls[i]]) {
        i += by;
      }
      const t = start[i] - this.origin(lane.side);
      if (i >= 0 && i < start.length && (!best || (by > 0 ? t < best.t : t >= best.t))) {
        best = { t, lane, item: i };
      }
    }
    return best;
  },

  rank(lanes, { lane: mine, item, t }) {
    let before = 0;
    lanes.forEach((lane, l) => {
      const { start, cls } = lane.items;
      const origin = this.origin(lane.side);
      for (let i = 0; i < start.length && start[i] - origin <= t; i++) {
        const same = start[i] - origin === t;
        if (lane.keep[cls[i]] && (!same || l < lanes.indexOf(mine) || (lane === mine && i <= item))) {
          before++;
        }
      }
    });
    return before;
  },

  // Pin an item and bring it into view.
  reveal({ lane, item }) {
    if (!this.lanes.includes(lane)) {
      this.do("quiet");
    }
    const [start, end] = [lane.items.start[item], lane.items.end[item]].map((t) => t - this.origin(lane.side));
    const length = this.to - this.from;
    if (start < this.from || end > this.to || (end - start) / length < 0.002) {
      const wanted = Math.max(Math.min(length, (end - start) * 20), (end - start) * 1.2, 2000);
      this.show((start + end) / 2 - wanted / 2, (start + end) / 2 + wanted / 2);
    }
    this.pin({ lane, item });
  },

  say(more = "") {
    const { stage, kernel, find } = this.filter;
    this.state.textContent = "";
    const chips = [["stage", stage], ["kernel", kernel], ["find", find]].filter(([, value]) => value);
    if (chips.length === 0) {
      this.state.textContent = more || this.overview();
      return;
    }
    const { role, count, ns } = this.found();
    const what = { stages: "range", calls: "call", os: "OS call", idle: "gap" }[count ? role : ""] || "operation";
    const sums = this.sides.some((side) => side.header.grid) ? " among those that the page holds one by one" : "";
    this.state.append(`${counted(count, what)} match${count === 1 ? "es" : ""}${sums}, ${duration(ns)} in sum; `);
    for (const [name, value] of chips) {
      const chip = element("button", `${name}: ${value.length > 60 ? `${value.slice(0, 59)}…` : value} ×`, { type: "button" });
      chip.setAttribute("aria-label", `remove the filter ${name}`);
      chip.addEventListener("click", () => this.set({ [name]: "" }));
      this.state.append(chip);
    }
    this.state.append(more ? ` ${more}` : "");
  },

  overview() {
    const parts = this.sides.map((side) => {
      const ops = side.header.streams.reduce((sum, lane) => sum + lane.items, 0);
      const steady = side.iterations.start.length - side.warmUp;
      const aside = side.warmUp ? ` (${side.warmUp} more of warm-up)` : "";
      const iterations = steady > 0 ? `, ${counted(steady, "iteration")}${aside}` : "";
      const several = this.sides.length > 1 ? `${side.name}: ` : "";
      const exact = side.header.grid
        ? `; exact in ${counted(side.header.grid.exact.length, "stretch").replace("stretchs", "stretches")}, sums elsewhere (hatched boldly)`
        : "";
      const calls = side.header.calls_grid && !side.header.grid ? "; host calls are summed outside some stretches (hatched boldly)" : "";
      const ranges = side.header.threads.reduce((sum, one) => sum + one.bands.reduce((n, band) => n + band.items, 0), 0);
      return `${several}${ops ? counted(ops, "operation") : counted(ranges, "range")}${iterations}${exact}${calls}`;
    });
    return `${parts.join(" · ")}. ${this.sides.flatMap((side) => side.header.notes).join("; ")}`;
  },
});

const holds = (name, text) => name.toLowerCase().includes(text);
// Whether a name is what a table shows of it, perhaps cut in its middle, or holds that.
const isLike = (name, shown) => {
  const [head, tail] = shown.replace(/ ·[0-9a-f]{8}$/, "").split("…");
  return tail === undefined ? holds(name, head.toLowerCase()) : name.startsWith(head) && name.endsWith(tail);
};
const isBelow = (path, stage) =>
  path === stage || path.startsWith(`${stage}/`) || path.endsWith(`/${stage}`) || path.includes(`/${stage}/`);
