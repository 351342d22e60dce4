// The timeline on the page: what is in view, how it is drawn, and what mouse, keys and links do to it.

const HEIGHTS = { iterations: 15, stages: 17, calls: 15, os: 15, device: 26, idle: 22, stream: 22 };
const TITLE = 24; // of a trace
const RULER = 32;
const PAPER = 690; // px of a page's width
const SPACE = 7; // under a lane, with its foot
const NARROWEST = 40; // ns in view at most zoom

const element = (tag, text = "", attributes = {}) => {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  return made;
};

class Timeline {
  constructor(place, sides, words) {
    Object.assign(this, { place, sides, words });
    const of = (selector) => place.querySelector(selector);
    this.frame = of(".tl-frame");
    this.picture = of(".tl-picture");
    this.over = of(".tl-over");
    this.ruler = of(".tl-ruler canvas");
    this.labels = of(".tl-labels");
    this.tip = of(".tl-tip");
    this.state = of(".tl-state");
    this.details = of(".tl-details");
    this.search = of(".tl-search input");
    this.iterationInput = of(".tl-iteration");
    this.alignSelect = of(".tl-align select");
    this.filter = { stage: "", kernel: "", find: "" };
    this.align = sides.length > 1 && sides.every((side) => side.iterations.start.length) ? "iteration" : "start";
    this.iteration = 0;
    this.pinned = null;
    this.theme = readTheme(place);
    this.paintNames = PAINTS.map((one) => one.name);
    this.quietButton = of('[data-do="quiet"]');
    this.quiet = sides.flatMap(quietLanes);
    this.showsQuiet = false;
    this.quietButton.hidden = this.quiet.length === 0;
    of(".tl-align").hidden = sides.length < 2 || !sides.every((side) => side.iterations.start.length);
    of(".tl-iterate").hidden = !sides.some((side) => side.iterations.start.length > 1);
    for (const side of sides) {
      for (const problem of side.problems) {
        of(".tl-problems").append(element("p", problem, { class: "caution" }));
      }
    }
    this.arrange();
    this.home();
    this.listen();
    this.legend();
    this.numbers();
    if (!this.follow(location.hash)) {
      this.say();
    }
  }

  // Local time of a side is the axis's time plus its origin.
  origin(side) {
    if (this.align !== "iteration" || this.sides.length < 2) {
      return 0;
    }
    const { start } = side.iterations;
    return start[Math.min(side.warmUp + this.iteration, start.length - 1)];
  }

  // The number of the iteration that is shown, of the first side; others show the one that is as far from their first steady one.
  get number() {
    return this.iteration + this.sides[0].firstSteady;
  }

  get zero() {
    return this.sides.every((side) => side.header.zero) ? "from first op" : "from the start";
  }

  // --- What is in view

  home() {
    const first = (side) => Math.min(side.warmUp, side.iterations.start.length - 1);
    const spans = this.sides.map((side) => {
      const { start, end } = side.iterations;
      if (start.length === 0) {
        const windows = side.header.devices.map((device) => device.window);
        const [low, high] = windows.length
          ? [Math.min(...windows.map((w) => w[0])), Math.max(...windows.map((w) => w[1]))]
          : side.header.span;
        return [low, high];
      }
      return [start[first(side)], end[Math.min(first(side) + 1, end.length - 1)]];
    });
    this.iteration = 0;
    this.iterationInput.value = String(this.number);
    const from = Math.min(...spans.map(([low], i) => low - this.origin(this.sides[i])));
    const to = Math.max(...spans.map(([, high], i) => high - this.origin(this.sides[i])));
    this.show(from - 0.01 * (to - from), to + 0.01 * (to - from), false);
  }

  limits() {
    const low = Math.min(...this.sides.map((side) => side.header.span[0] - this.origin(side)));
    const high = Math.max(...this.sides.map((side) => side.header.span[1] - this.origin(side)));
    const spare = 0.01 * (high - low) + 1;
    return [low - spare, high + spare];
  }

  show(from, to, write = true) {
    const [low, high] = this.limits();
    const length = Math.min(Math.max(to - from, NARROWEST), high - low);
    const middle = (from + to) / 2;
    const begin = Math.min(Math.max(middle - length / 2, low), high - length);
    this.from = begin;
    this.to = begin + length;
    this.draw();
    if (write) {
      this.write();
    }
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    this.show(at + (this.from - at) * factor, at + (this.to - at) * factor);
  }

  pan(share) {
    const by = share * (this.to - this.from);
    this.show(this.from + by, this.to + by);
  }

  goTo(number) {
    const most = Math.max(...this.sides.map((side) => side.iterations.start.length - side.warmUp)) - 1;
    const least = -Math.max(...this.sides.map((side) => side.warmUp));
    this.iteration = Math.min(Math.max(number, least), most);
    this.iterationInput.value = String(this.number);
    const spans = this.sides
      .filter((side) => side.iterations.start.length)
      .map((side) => {
        const i = Math.min(Math.max(side.warmUp + this.iteration, 0), side.iterations.start.length - 1);
        return [side.iterations.start[i] - this.origin(side), side.iterations.end[i] - this.origin(side)];
      });
    const from = Math.min(...spans.map(([low]) => low));
    const to = Math.max(...spans.map(([, high]) => high));
    this.show(from - 0.02 * (to - from), to + 0.02 * (to - from));
  }

  // --- Links: #timeline&trace=NAME&from=NS&to=NS&stage=PATH&kernel=NAME&find=TEXT

  follow(hash) {
    if (!/^#timeline(&|$)/.test(hash)) {
      return false;
    }
    if (hash === "#timeline") {
      this.place.scrollIntoView({ block: "start", behavior: "instant" });
      return false;
    }
    const given = new URLSearchParams(hash.slice(1).replace(/^timeline&?/, ""));
    const side = this.sides.find((one) => [one.trace, one.name].includes(given.get("trace"))) || this.sides[0];
    if (["iteration", "start"].includes(given.get("align")) && this.sides.length > 1) {
      this.align = given.get("align");
      this.alignSelect.value = this.align;
    }
    const wanted = Number.parseInt(given.get("iteration") ?? "", 10);
    if (Number.isFinite(wanted)) {
      this.iteration = wanted - this.sides[0].firstSteady;
      this.iterationInput.value = String(wanted);
    }
    this.filter = { stage: given.get("stage") || "", kernel: given.get("kernel") || "", find: given.get("find") || "" };
    this.search.value = this.filter.find;
    this.mask();
    const [from, to] = ["from", "to"].map((name) => Number.parseFloat(given.get(name) ?? ""));
    if (Number.isFinite(from) && Number.isFinite(to) && to > from) {
      this.show(from - this.origin(side), to - this.origin(side), false);
    } else {
      this.draw();
    }
    this.say();
    this.place.scrollIntoView({ block: "start", behavior: "instant" });
    return true;
  }

  write() {
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      const side = this.sides[0];
      const parts = { trace: side.trace, from: Math.round(this.from + this.origin(side)) };
      parts.to = Math.round(this.to + this.origin(side));
      if (this.sides.length > 1) {
        parts.align = this.align;
        parts.iteration = this.number;
      }
      for (const [name, value] of Object.entries(this.filter)) {
        if (value) {
          parts[name] = value;
        }
      }
      const text = Object.entries(parts).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
      history.replaceState(null, "", `#timeline&${text.join("&")}`);
    }, 150);
  }

  // --- Filters: what does not match is drawn pale, so that shares stay true

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
  }

  set(changes) {
    Object.assign(this.filter, changes);
    this.search.value = this.filter.find;
    this.mask();
    this.draw();
    this.write();
    this.say();
  }

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
  }

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
  }

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
  }

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
  }

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
  }

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
  }

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
      const calls = side.header.calls_grid && !side.header.grid ? "; host calls are summed outside of some stretches (hatched boldly)" : "";
      const ranges = side.header.threads.reduce((sum, one) => sum + one.bands.reduce((n, band) => n + band.items, 0), 0);
      return `${several}${ops ? counted(ops, "operation") : counted(ranges, "range")}${iterations}${exact}${calls}`;
    });
    return `${parts.join(" · ")}. ${this.sides.flatMap((side) => side.header.notes).join("; ")}`;
  }

  // --- Drawing

  arrange() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = Math.max(this.frame.clientWidth, 200);
    this.gutter = this.width < 620 ? 92 : 168;
    const hidden = new Set(this.showsQuiet ? [] : this.quiet);
    this.lanes = this.sides.flatMap((side) => side.lanes).filter((lane) => !hidden.has(lane));
    const threads = new Set(this.quiet.map((lane) => `${this.sides.indexOf(lane.side)} ${lane.data.thread}`)).size;
    this.quietButton.textContent = `${this.showsQuiet ? "Hide" : "Show"} ${counted(threads, "quiet thread")}`;
    let y = 2;
    this.labels.textContent = "";
    this.titles = [];
    const label = (text, top, height, name = "") => {
      const made = element("div", text, { class: name, title: text });
      made.style.top = `${top}px`;
      made.style.height = `${height}px`;
      made.style.lineHeight = `${height}px`;
      made.style.width = `${name ? this.width : this.gutter}px`;
      this.labels.append(made);
    };
    for (const side of this.sides) {
      if (this.sides.length > 1) {
        label(side.name, y, TITLE, "tl-trace");
        this.titles.push(y);
        y += TITLE;
      }
      for (const lane of side.lanes.filter((one) => !hidden.has(one))) {
        lane.y = y;
        lane.height = HEIGHTS[lane.role];
        label(this.width < 620 ? brief(lane.label) : lane.label, y, lane.height);
        const tight = lane.role === "stages" || lane.role === "iterations";
        y += lane.height + (tight ? 4 : SPACE);
      }
      y += 6;
    }
    this.height = Math.max(y, 40);
    for (const [canvas, height] of [[this.picture, this.height], [this.over, this.height], [this.ruler, RULER]]) {
      canvas.width = Math.round(this.width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
      canvas.style.width = `${this.width}px`;
      canvas.style.height = `${height}px`;
    }
    this.image = this.picture.getContext("2d").createImageData(this.picture.width, this.picture.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  x(t) {
    return this.gutter + ((t - this.from) / (this.to - this.from)) * (this.width - this.gutter);
  }

  time(x) {
    return this.from + ((x - this.gutter) / (this.width - this.gutter)) * (this.to - this.from);
  }

  // Where each lane's share area is on the picture's canvas, in its own pixels.
  area(lane) {
    const [left, top, height] = [this.gutter, lane.y, lane.height].map((v) => Math.round(v * this.ratio));
    return { left, top, height, width: this.picture.width - left, foot: Math.max(1, Math.round(this.ratio)) };
  }

  draw() {
    const began = performance.now();
    const { theme, pixels, ratio } = this;
    pixels.fill(packed(theme.ground));
    const { width } = this.picture;
    for (const lane of this.lanes) {
      const { left, top, height, width: n, foot } = this.area(lane);
      const step = (this.to - this.from) / n;
      const from = this.from + this.origin(lane.side);
      for (let row = top; row < top + height; row++) {
        pixels.fill(theme.track, row * width + left, row * width + width);
      }
      this.shade(lane, from, step, n, left, top, height);
      drawLane(pixels, width, left, top, height, foot, ratio, lane, from, step, n, theme);
    }
    const context = this.picture.getContext("2d");
    context.putImageData(this.image, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = theme.font;
    context.textBaseline = "middle";
    for (const lane of this.lanes) {
      this.name(context, lane);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    this.drawRuler();
    this.drawOver();
    this.spent = performance.now() - began;
  }

  // Outside of its window a device's time is not accounted for.
  shade(lane, from, step, n, left, top, height) {
    if (!["device", "idle"].includes(lane.role)) {
      return;
    }
    const [low, high] = lane.data.window.map((t) => Math.min(Math.max(Math.round((t - from) / step), 0), n));
    const { width } = this.picture;
    for (let row = top; row < top + height; row++) {
      this.pixels.fill(this.theme.outside, row * width + left, row * width + left + low);
      this.pixels.fill(this.theme.outside, row * width + left + high, row * width + left + n);
    }
  }

  // Names inside of what is wide enough for them.
  name(context, lane) {
    const scale = (this.width - this.gutter) / (this.to - this.from);
    const from = this.from + this.origin(lane.side);
    const to = this.to + this.origin(lane.side);
    let i = below(lane.start, from, 0, lane.length);
    i = Math.max(i - 1, 0);
    const last = below(lane.start, to, i, lane.length);
    if (last - i > 4000 || lane.role === "device") {
      return;
    }
    for (; i < last; i++) {
      const left = Math.max(this.gutter, this.gutter + (lane.start[i] - from) * scale);
      const right = Math.min(this.width, this.gutter + (lane.end[i] - from) * scale);
      if (right - left > 26) {
        context.fillStyle = this.theme.paints[lane.paints[lane.paint[i]]].text;
        const text = fitting(context, this.title(lane, lane.item(i)), right - left - 8);
        if (text && (lane.role !== "idle" || !text.endsWith("…"))) {
          context.fillText(text, left + 4, lane.y + lane.height / 2 + 0.5);
        }
      }
    }
  }

  title(lane, item) {
    const { side, items, data } = lane;
    switch (lane.role) {
      case "iterations":
        return `${item < side.warmUp ? "warm-up " : ""}${item + side.header.iterations.first}`;
      case "stages":
      case "calls":
      case "os":
        return side.names[data.classes[items.cls[item]][0]];
      case "idle":
        return this.words.causes[data.causes[items.cls[item]][0]][0];
      case "device": {
        const [stream, row] = lane.origin(item);
        return this.title(stream, row);
      }
      default: {
        const cls = items.cls[item];
        const kind = this.words.kinds[side.classes.kind[cls]][0];
        return ["compute", "graph", "comm"].includes(kind) ? side.shortName(side.classes.name[cls]) : kind;
      }
    }
  }

  drawRuler() {
    const context = this.ruler.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, RULER);
    context.font = this.theme.font;
    context.textBaseline = "middle";
    const room = this.width - this.gutter;
    const rough = ((this.to - this.from) * 96) / room;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    context.fillStyle = this.theme.soft;
    context.strokeStyle = this.theme.line;
    context.beginPath();
    for (let t = Math.ceil(this.from / step) * step; t <= this.to; t += step) {
      const x = Math.round(this.x(t)) + 0.5;
      context.moveTo(x, 18);
      context.lineTo(x, RULER - 4);
      const text = tick(Math.abs(t) < step / 2 ? 0 : t, step);
      if (x + context.measureText(text).width + 3 < this.width) {
        context.fillText(text, x + 3, 10);
      }
    }
    context.stroke();
    const since = this.align === "iteration" && this.sides.length > 1 ? `from iteration ${this.number}` : this.zero;
    context.fillText(this.width < 620 ? "" : since, 6, 10);
    // Which part of everything is in view.
    const [low, high] = this.limits();
    const whole = (t) => this.gutter + ((t - low) / (high - low)) * room;
    context.fillStyle = this.theme.line;
    context.fillRect(this.gutter, RULER - 4, room, 4);
    context.fillStyle = this.theme.accent;
    const left = Math.min(whole(this.from), this.width - 4);
    context.fillRect(left, RULER - 4, Math.max(whole(this.to) - left, 4), 4);
  }

  // What lies above the picture: iterations, what is pinned, the arrow from its call, what is being marked.
  drawOver() {
    const context = this.over.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.beginPath();
    context.rect(this.gutter, 0, this.width - this.gutter, this.height);
    context.save();
    context.clip();
    if (this.marking) {
      const [a, b] = this.marking.map((t) => this.x(t));
      context.fillStyle = this.theme.accent;
      context.globalAlpha = 0.18;
      context.fillRect(Math.min(a, b), 0, Math.abs(b - a), this.height);
      context.globalAlpha = 1;
    }
    if (this.pinned) {
      const { lane, item } = this.pinned;
      context.strokeStyle = this.theme.accent;
      context.lineWidth = 2;
      this.outline(context, lane, item);
      const launch = this.launch(lane, item);
      if (launch) {
        this.outline(context, launch.lane, launch.item);
        this.arrow(context, launch, this.pinned);
      }
    }
    context.restore();
    context.strokeStyle = this.theme.line;
    context.lineWidth = 1;
    context.beginPath();
    for (const y of this.titles.slice(1)) {
      context.moveTo(0, y - 2.5);
      context.lineTo(this.width, y - 2.5);
    }
    context.stroke();
  }

  box(lane, item) {
    const [start, end] = [lane.items.start[item], lane.items.end[item]].map((t) => this.x(t - this.origin(lane.side)));
    return [start, lane.y, Math.max(end - start, 1), lane.height];
  }

  outline(context, lane, item) {
    const [x, y, width, height] = this.box(lane, item);
    const left = Math.max(x, this.gutter - 10);
    context.strokeRect(left - 1, y - 1, Math.min(x + width, this.width + 10) - left + 2, height + 2);
  }

  arrow(context, from, to) {
    const [x0, y0, w0, h0] = this.box(from.lane, from.item);
    const [x1, y1, , h1] = this.box(to.lane, to.item);
    const down = y1 > y0;
    const [sx, sy, ex, ey] = [x0 + w0, down ? y0 + h0 : y0, x1, down ? y1 : y1 + h1];
    context.beginPath();
    context.moveTo(sx, sy);
    const bend = (ey - sy) / 2;
    context.bezierCurveTo(sx, sy + bend, ex, ey - bend, ex, ey);
    context.moveTo(ex - 4, ey - (down ? 6 : -6));
    context.lineTo(ex, ey);
    context.lineTo(ex + 4, ey - (down ? 6 : -6));
    context.stroke();
  }

  launch(lane, item) {
    if (lane.role === "device") {
      const [stream, row] = lane.origin(item);
      return this.launch(stream, row);
    }
    const call = lane.role === "stream" ? lane.items.call[item] : -1;
    return call >= 0 ? lane.side.callOf(call) : null;
  }

  legend() {
    const list = this.place.querySelector(".tl-legend");
    list.textContent = "";
    const used = new Set(this.sides.flatMap((side) => side.lanes.flatMap((lane) => lane.paints)));
    const meaning = new Map(this.words.kinds.map(([kind, text]) => [kind, text]));
    for (const family of this.words.families) {
      const causes = this.words.causes.filter(([, one]) => one === family);
      meaning.set(`idle ${family}`, causes.map(([cause]) => cause.replaceAll("_", " ")).join(", "));
    }
    const heads = new Map([[false, "Work"], [true, "Idle time, and the calls that cause it"]]);
    for (const number of [...used].sort((a, b) => a - b)) {
      const { name } = PAINTS[number - 1];
      if (meaning.has(name)) {
        const idle = name.startsWith("idle ");
        if (heads.has(idle)) {
          list.append(element("li", `${heads.get(idle)}:`));
          heads.delete(idle);
        }
        const row = element("li");
        const swatch = element("canvas", "", { width: 24, height: 12, "aria-hidden": "true" });
        this.swatch(swatch, number);
        const word = name.replace("idle ", "").replaceAll("_", " ");
        const text = meaning.get(name);
        row.append(swatch, element("b", word), text === word ? "" : ` ${text}`);
        list.append(row);
      }
    }
  }

  swatch(canvas, number) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const { plain, second, pattern } = this.theme.paints[number];
    for (let i = 0; i < pixels.length; i++) {
      const [x, y] = [i % canvas.width, Math.floor(i / canvas.width)];
      pixels[i] = pattern && pattern[y * CELL + x] ? second : plain;
    }
    context.putImageData(image, 0, 0);
  }

  numbers() {
    const rows = this.place.querySelector(".tl-numbers tbody");
    rows.textContent = "";
    for (const lane of this.sides.flatMap((side) => side.lanes)) {
      const items = lane.data.items ?? lane.items.start.length;
      const row = element("tr");
      row.append(element("td", lane.side.name), element("td", lane.label || "(nested)"));
      row.append(element("td", items.toLocaleString("en-US"), { class: "num" }), element("td", duration(lane.total), { class: "num" }));
      rows.append(row);
    }
  }
}

// Lanes of threads that did nothing in the window of any device.
const quietLanes = (side) => {
  const windows = side.header.devices.map((device) => device.window);
  if (windows.length === 0) {
    return [];
  }
  const [low, high] = [Math.min(...windows.map((w) => w[0])), Math.max(...windows.map((w) => w[1]))];
  const host = side.lanes.filter((lane) => ["stages", "calls", "os"].includes(lane.role));
  const isBusy = (lane) => lane.within(low, high, 1).total > 0 || lane.isSummed(low, high);
  const busy = new Set(host.filter(isBusy).map((lane) => lane.data.thread));
  return host.filter((lane) => !busy.has(lane.data.thread));
};

// A lane's label on a narrow screen.
const brief = (label) => label.replace(" · stream ", " · ").replace(" · all streams", " · all").replace(/^thread /, "");

// As much of a text as fits into `room`; nothing where that says nothing.
const fitting = (context, text, room) => {
  const width = context.measureText(text).width;
  if (width <= room) {
    return text;
  }
  const kept = Math.floor((text.length * room) / width) - 1;
  return kept < 3 ? "" : `${text.slice(0, kept)}…`;
};

const holds = (name, text) => name.toLowerCase().includes(text);
// Whether a name is what a table shows of it, perhaps cut in its middle, or holds that.
const isLike = (name, shown) => {
  const [head, tail] = shown.replace(/ ·[0-9a-f]{8}$/, "").split("…");
  return tail === undefined ? holds(name, head.toLowerCase()) : name.startsWith(head) && name.endsWith(tail);
};
const isBelow = (path, stage) =>
  path === stage || path.startsWith(`${stage}/`) || path.endsWith(`/${stage}`) || path.includes(`/${stage}/`);
