// Payloads of columns.py: base 85, deflate, a JSON header, byte planes.

const unpack = async (text) => {
  const plain = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(plain).arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  return { header, column: reader(buffer, 4 + size, header.columns) };
};

// A function that decodes a column by its number, into an array of the type given.
const reader = (buffer, first, described) => {
  const offsets = [];
  let at = first;
  for (const [rows, planes] of described) {
    offsets.push(at);
    at += rows * planes;
  }
  return (number, Type = Float64Array) => {
    const [rows, planes, signed] = described[number];
    const out = new Type(rows);
    let scale = 1;
    for (let p = 0; p < planes; p++, scale *= 256) {
      const plane = new Uint8Array(buffer, offsets[number] + p * rows, rows);
      if (p === 0) {
        out.set(plane);
      } else {
        for (let i = 0; i < rows; i++) {
          out[i] += plane[i] * scale;
        }
      }
    }
    if (signed) {
      for (let i = 0; i < rows; i++) {
        const v = out[i];
        out[i] = v % 2 ? -(v + 1) / 2 : v / 2;
      }
    }
    return out;
  };
};

// Start and end of each interval: steps count from the end of the one before, lengths lie in order of their classes.
const intervals = (column, lane, classes) => {
  const step = column(lane.step);
  const sorted = column(lane.length);
  const cls = column(lane.class, Uint32Array);
  const next = new Uint32Array(classes + 1);
  for (let i = 0; i < cls.length; i++) {
    next[cls[i] + 1]++;
  }
  for (let c = 0; c < classes; c++) {
    next[c + 1] += next[c];
  }
  const start = step;
  const end = new Float64Array(step.length);
  let from = 0;
  for (let i = 0; i < step.length; i++) {
    start[i] += from;
    from = start[i] + sorted[next[cls[i]]++];
    end[i] = from;
  }
  return { start, end, cls };
};
