// Hover and pinned details of the timeline: what one item is, or what several in one pixel are.

const facts = (timeline, lane, item) => {
  const { side, items, data } = lane;
  const { words } = timeline;
  if (lane.role === "device") {
    return facts(timeline, ...lane.origin(item));
  }
  const [start, end] = [items.start[item], items.end[item]];
  const rows = [["duration", `${duration(end - start)} (${exactly(end - start)})`], ["begins", moment(start)]];
  const add = (name, value) => value && rows.push([name, value]);
  const bytes = items.bytes ? items.bytes[item] - 1 : -1;
  const moved = () => {
    if (bytes >= 0) {
      add("bytes", `${size(bytes)} (${bytes.toLocaleString("en-US")} B)`);
      add("rate", end > start ? `${significant(bytes / (end - start))} GB/s` : "");
    }
  };
  let title = timeline.title(lane, item);
  let stage = "";
  let kernel = "";
  if (lane.role === "stream") {
    const cls = items.cls[item];
    const { classes } = side;
    title = kernel = side.names[classes.name[cls]];
    stage = side.names[classes.stage[cls]];
    rows.unshift(["kind", words.kinds[classes.kind[cls]].filter(Boolean).join(": ")], ["stage", stage]);
    const [from, to] = [classes.from[cls], classes.to[cls]];
    add("moves", from || to ? `${from ? words.memory[from - 1] : "?"} to ${to ? words.memory[to - 1] : "?"}` : "");
    moved();
    const launch = timeline.launch(lane, item);
    if (launch) {
      const call = launch.lane.items;
      const begun = start - call.start[launch.item];
      add("launched by", `${timeline.title(launch.lane, launch.item)} on ${launch.lane.data.thread}, ${moment(call.start[launch.item])}`);
      add("delay", `${duration(begun)} after the call began, ${after(start - call.end[launch.item])}`);
    } else if (!data.host) {
      add("launched by", side.header.calls_grid ? "not held by this page (or not recorded)" : "not recorded");
    }
  } else if (lane.role === "stages") {
    const [, path, kind, open] = data.classes[items.cls[item]];
    stage = side.names[path];
    rows.unshift(["stage", stage], ["on", `${data.thread}${kind ? `, kind ${words.stages[kind - 1]}` : ""}`]);
    moved();
    add("note", open ? "never closed; drawn to the end of the recording" : "");
  } else if (lane.role === "idle") {
    const [cause, path] = data.causes[items.cls[item]];
    const [word, family, meaning] = words.causes[cause];
    title = `idle: ${meaning || word}`;
    stage = path >= 0 ? side.names[path] : "";
    rows.unshift(["cause", `${word} (${family.replace("_", " ")})`], ["stage", stage]);
    const gap = below(lane.gaps.start, start + 0.5, 0, lane.gaps.length) - 1;
    const whole = gap >= 0 ? lane.gaps.end[gap] - lane.gaps.start[gap] : 0;
    add("part of", whole > end - start ? `a gap of ${duration(whole)} from ${moment(lane.gaps.start[gap])}` : "");
  } else if (lane.role === "iterations") {
    title = `iteration ${title}`;
    add("note", side.slow.has(item) ? "slow: far above the median" : "");
  } else {
    const [, cls] = data.classes[items.cls[item]];
    rows.unshift(["call", words.calls[cls][0].replace("_", " ")], ["on", data.thread]);
  }
  return { title, rows, stage, kernel };
};

const after = (ns) => (ns >= 0 ? `${duration(ns)} after it returned` : "before it returned");

// What a pixel holds where it holds several items.
const crowd = (timeline, lane, t, near) => {
  const k = lane.paints.length;
  const { ns, touched, summed } = lane.columns(t - near / 2, near, 1);
  const parts = lane.paints.map((paint, p) => [PAINTS[paint - 1].name.replace(/^(idle|call) /, ""), ns[p]]);
  const shares = parts.filter(([, v]) => v > 0).sort((a, b) => b[1] - a[1]);
  if (shares.length === 0) {
    return "";
  }
  const lines = [lane.label || "stages"];
  lines.push(
    summed && summed[0]
      ? `sums only: this page holds no single operations here; about ${duration(near)} a pixel`
      : `${counted(touched[0], "item")} in this pixel of ${duration(near)}; zoom in to part them`,
  );
  lines.push(...shares.slice(0, 6).map(([name, v]) => `${name} ${shareOf(v, near)}`));
  if (!(summed && summed[0]) && k) {
    const { found } = lane.within(t - near / 2, t + near / 2, 2000);
    const length = (i) => lane.items.end[i] - lane.items.start[i];
    const longest = found.reduce((a, b) => (length(b) > length(a) ? b : a), found[0]);
    if (longest !== undefined) {
      lines.push(`longest: ${timeline.title(lane, longest)}, ${duration(length(longest))}`);
    }
  }
  return lines.join("\n");
};

Object.assign(Timeline.prototype, {
  laneAt(y) {
    return this.lanes.find((lane) => y >= lane.y - 1 && y < lane.y + lane.height + 4);
  },

  hover(x, y) {
    const lane = x > this.gutter ? this.laneAt(y) : null;
    if (!lane) {
      this.tip.hidden = true;
      return null;
    }
    const t = this.time(x) + this.origin(lane.side);
    const near = (this.to - this.from) / (this.width - this.gutter);
    const item = lane.hit(t, near);
    let text;
    if (item >= 0) {
      const { title, rows } = facts(this, lane, item);
      text = [title, ...rows.map(([name, value]) => `${name}: ${value}`)].join("\n");
    } else {
      text = crowd(this, lane, t, near);
    }
    this.tip.hidden = !text;
    this.tip.textContent = text;
    if (text) {
      const left = Math.min(x + 14, Math.max(this.width - this.tip.offsetWidth - 6, 4));
      this.tip.style.left = `${left}px`;
      const under = y + 18 + this.tip.offsetHeight < this.height + 60;
      this.tip.style.top = `${under ? y + 18 : Math.max(y - this.tip.offsetHeight - 8, 0)}px`;
    }
    return item >= 0 ? { lane, item } : null;
  },

  pin(what) {
    this.pinned = what;
    this.details.hidden = !what;
    this.details.textContent = "";
    this.drawOver();
    if (!what) {
      return;
    }
    const { lane, item } = what;
    const { title, rows, stage, kernel } = facts(this, lane, item);
    this.details.append(element("h3", title));
    const list = element("dl");
    for (const [name, value] of [...(this.sides.length > 1 ? [["trace", lane.side.name]] : []), ["lane", lane.label || "stages"], ...rows]) {
      list.append(element("dt", name), element("dd", value));
    }
    this.details.append(list);
    const button = (text, act) => {
      const made = element("button", text, { type: "button" });
      made.addEventListener("click", act);
      this.details.append(made);
    };
    const { start, end } = lane.items;
    const origin = this.origin(lane.side);
    const spare = Math.max((end[item] - start[item]) * 0.1, 1);
    button("Zoom to it", () => this.show(start[item] - origin - spare, end[item] - origin + spare));
    const launch = this.launch(lane, item);
    if (launch) {
      button("Go to the call", () => this.reveal(launch));
      button("Show both", () => {
        const from = launch.lane.items.start[launch.item] - origin;
        const to = end[item] - origin;
        this.show(from - 0.1 * (to - from), to + 0.1 * (to - from));
      });
    }
    if (kernel) {
      button("Only this kernel", () => this.set({ kernel }));
    }
    if (stage) {
      button("Only this stage", () => this.set({ stage }));
    }
    button("Close", () => this.pin(null));
  },

  // To the neighbour of what is pinned; without any, to the first operation in view.
  neighbour(by) {
    const lane = this.pinned ? this.pinned.lane : this.lanes.find((one) => one.role === "stream");
    if (!lane) {
      return;
    }
    const first = below(lane.items.start, this.from + this.origin(lane.side), 0, lane.items.start.length);
    const item = this.pinned ? this.pinned.item + by : first;
    if (item >= 0 && item < lane.items.start.length) {
      this.reveal({ lane, item });
    }
  },
});
