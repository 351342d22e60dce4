// Paints: a colour for each kind of work and each family of idle time, read from the page's style sheet. Work is plain and idle time
// striped; calls are plain in the colour of the idle time that they cause.

const PAINTS = [];
const paintNumber = new Map();
const paint = (name, style, mixed = 1, striped = false) => {
  const number = PAINTS.length + 1; // 0 is the ground
  PAINTS.push({ name, style, mixed, striped });
  paintNumber.set(name, number);
  return number;
};
let DIM = 0;

const isStripe = (x, y) => (x + y) % 5 === 0;

const definePaints = (words) => {
  words.kinds.forEach(([kind]) => paint(kind, `kind-${kind}`));
  words.families.forEach((family) => paint(`idle ${family}`, `cause-${family}`, 1, true));
  words.families.forEach((family) => paint(`call ${family}`, `cause-${family}`));
  words.stages.forEach((kind) => paint(`stage ${kind}`, `kind-${kind}`, 0.55));
  [0.34, 0.46, 0.58].forEach((mixed, i) => paint(`stage ${i}`, "kind-stage", mixed));
  [0.22, 0.36].forEach((mixed, i) => paint(`iteration ${i}`, "kind-stage", mixed));
  paint("iteration slow", "bad", 0.75);
  paint("iteration warm-up", "kind-stage", 0.1);
  DIM = paint("filtered out", "kind-stage", 0.22);
};

const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgb = (text, otherwise) => {
  probe.canvas.width = probe.canvas.height = 1;
  probe.fillStyle = otherwise;
  probe.fillStyle = text || otherwise;
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)];
};
const mix = (a, b, share) => a.map((v, i) => Math.round(v * share + b[i] * (1 - share)));
const packed = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const light = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b) / 255;

// What the style sheet says at the moment; asked again when the colour scheme changes.
const readTheme = (place) => {
  const style = getComputedStyle(place);
  const value = (name) => style.getPropertyValue(name).trim();
  const ground = rgb(value("--tl-ground"), "#ffffff");
  const ink = rgb(value("--tl-ink"), "#1b2127");
  const theme = { ground, ink, soft: value("--tl-soft"), line: value("--tl-line"), accent: value("--tl-accent") };
  theme.font = `11px ${style.fontFamily}`;
  theme.track = packed(rgb(value("--tl-track"), "#f5f7f9"));
  theme.outside = packed(mix(ink, ground, 0.1));
  theme.paints = [null];
  for (const one of PAINTS) {
    const colour = mix(rgb(value(`--${one.style}`), "#888888"), ground, one.mixed);
    const text = light(colour) > 0.55 ? "#101418" : "#ffffff";
    theme.paints.push({
      plain: packed(colour),
      hatched: packed(mix(colour, ground, 0.72)),
      sparse: packed(mix(colour, ground, 0.42)),
      second: packed(mix(colour, ground, 0.5)),
      edge: packed(mix(colour, light(colour) > 0.5 ? [0, 0, 0] : ground, 0.7)),
      striped: one.striped,
      text,
    });
  }
  return theme;
};

// Draw a lane's columns into `pixels` (32 bits each, `width` a row), its share area from row `top` on, `height` rows high, with a
// line of `foot` rows below that marks every column in which anything is.
const drawLane = (pixels, width, left, top, height, foot, ratio, lane, from, step, n, theme) => {
  const { ns, touched, summed } = lane.columns(from, step, n);
  const k = lane.paints.length;
  const carry = new Float64Array(k);
  const level = new Int32Array(k + 1);
  const least = step * 1e-6; // less is what rounding a column's edges leaves
  for (let x = 0; x < n; x++) {
    let sum = 0;
    let most = -1;
    let largest = 0;
    for (let p = 0; p < k; p++) {
      const v = ns[x * k + p];
      if (v > least) {
        sum += v;
        if (v > largest) {
          largest = v;
          most = p;
        }
      }
    }
    if (most < 0) {
      continue;
    }
    // Heights are whole pixels, and what rounding takes from one column the next ones get: over any width they sum to the share.
    const full = sum / step >= 1 - 1e-9;
    let last = k;
    while (full && ns[x * k + last - 1] <= least) {
      last--;
    }
    for (let p = 0; p < k; p++) {
      level[p + 1] = level[p];
      if (ns[x * k + p] > least) {
        const wanted = (ns[x * k + p] / step) * height + carry[p];
        const rows = full && p === last - 1 ? height - level[p] : Math.min(Math.max(Math.round(wanted), 0), height - level[p]);
        carry[p] = Math.min(Math.max(wanted - rows, -1), 1);
        level[p + 1] += rows;
      }
    }
    const several = touched[x] > 1;
    const sums = summed !== null && summed[x] === 1;
    const edge = touched[x] === 1 && startsWide(lane, from + x * step, step);
    for (let p = 0; p < k; p++) {
      const { plain, hatched, sparse, second, edge: dark, striped } = theme.paints[lane.paints[p]];
      for (let y = level[p]; y < level[p + 1]; y++) {
        const row = top + height - 1 - y;
        const px = left + x;
        let colour = edge ? dark : plain;
        if (sums) {
          colour = Math.floor((px + row) / ratio) % 4 < 2 ? sparse : plain;
        } else if (several && Math.floor((px - row + 65536) / ratio) % 4 === 0) {
          colour = hatched;
        } else if (striped && isStripe(Math.floor(px / ratio), Math.floor(row / ratio))) {
          colour = second;
        }
        pixels[row * width + px] = colour;
      }
    }
    const mark = theme.paints[lane.paints[most]].plain;
    for (let y = 0; y < foot; y++) {
      pixels[(top + height + foot + y) * width + left + x] = mark;
    }
  }
};

// Whether a segment at least four columns wide begins in the column at `t`.
const startsWide = (lane, t, step) => {
  const i = below(lane.start, t + step, 0, lane.length) - 1;
  return i >= 0 && lane.start[i] >= t && lane.end[i] - lane.start[i] >= 4 * step;
};
