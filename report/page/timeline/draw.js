// Drawing: where lanes are, their pixels, names inside of wide items, and the ruler.

const HEIGHTS = { iterations: 15, stages: 17, calls: 15, os: 15, device: 26, idle: 22, stream: 22 };
const TITLE = 24; // of a trace
const RULER = 32;
const PAPER = 690; // px of a page's width
const SPACE = 7; // under a lane, with its foot

Object.assign(Timeline.prototype, {
  arrange() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = Math.max(this.frame.clientWidth, 200);
    this.gutter = this.width < 620 ? 92 : 168;
    const nav = document.querySelector("nav");
    const above = nav && getComputedStyle(nav).position === "sticky" ? nav.offsetHeight : 0;
    this.place.style.setProperty("--tl-top", `${above}px`); // the ruler stays below what stays on top
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
  },

  x(t) {
    return this.gutter + ((t - this.from) / (this.to - this.from)) * (this.width - this.gutter);
  },

  time(x) {
    return this.from + ((x - this.gutter) / (this.width - this.gutter)) * (this.to - this.from);
  },

  // Where each lane's share area is on the picture's canvas, in its own pixels.
  area(lane) {
    const [left, top, height] = [this.gutter, lane.y, lane.height].map((v) => Math.round(v * this.ratio));
    return { left, top, height, width: this.picture.width - left, foot: Math.max(1, Math.round(this.ratio)) };
  },

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
  },

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
  },

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
  },

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
  },

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
  },
});

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
