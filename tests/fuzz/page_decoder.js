// The decoder of the page's timelines (base85.js, codec.js) against a plain one, on random inputs from a seed:
//
//   node tests/fuzz/page_decoder.js SEED NUMBER
//
// `fuzz` is what jazzer.js asks for, where it runs (glibc 2.38), to choose inputs by the code they reach.
// A page is written by us and read by a stranger's browser, so what is tried is what a writer can write: whole columns.
"use strict";
const fs = require("fs");
const os = require("os");
const path = require("path");
const zlib = require("zlib");

const page = path.join(__dirname, "..", "..", "report", "page");
const scripts = ["base85.js", "timeline/codec.js"].map((name) => fs.readFileSync(path.join(page, name), "utf8"));
const built = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "aisp-fuzz-")), "decoder.js"); // required, so that it is instrumented
fs.writeFileSync(built, scripts.join("\n") + "\nmodule.exports = { bytesOf, unpack, intervals };\n");
const { bytesOf, unpack, intervals } = require(built);

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;.=>?@^_`{|}~";

function base85(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 4) {
    let number = 0n;
    for (let k = 0; k < 4; k++) {
      number = number * 256n + BigInt(i + k < bytes.length ? bytes[i + k] : 0);
    }
    let digits = "";
    for (let k = 0; k < 5; k++) {
      digits = ALPHABET[Number(number % 85n)] + digits;
      number /= 85n;
    }
    text += digits.slice(0, 5 - Math.max(0, i + 4 - bytes.length));
  }
  return text;
}

function same(what, found, expected) {
  if (found.length !== expected.length || expected.some((value, i) => value !== found[i])) {
    throw new Error(`${what}: ${Array.from(found)} in place of ${expected}`);
  }
}

// Columns out of the input: a byte for rows, one for planes and sign, then the planes.
function columnsOf(data) {
  const described = [];
  const parts = [];
  const expected = [];
  for (let at = 0; at + 2 <= data.length && described.length < 8; ) {
    const rows = data[at] % 40;
    const planes = 1 + (data[at + 1] % 6); // up to 48 bits: what a number of JavaScript holds exactly
    const signed = data[at + 1] > 127 ? 1 : 0;
    const bytes = new Uint8Array(rows * planes);
    bytes.set(data.subarray(at + 2, at + 2 + bytes.length));
    at += 2 + bytes.length;
    described.push([rows, planes, signed]);
    parts.push(bytes);
    const values = [];
    for (let row = 0; row < rows; row++) {
      let value = 0n;
      for (let plane = planes - 1; plane >= 0; plane--) {
        value = value * 256n + BigInt(bytes[plane * rows + row]);
      }
      values.push(Number(signed ? (value % 2n ? -(value + 1n) / 2n : value / 2n) : value));
    }
    expected.push(values);
  }
  return { described, parts, expected };
}

module.exports.fuzz = async (data) => {
  same("base 85", bytesOf(base85(data)), Array.from(data));
  const { described, parts, expected } = columnsOf(data);
  const header = Buffer.from(JSON.stringify({ columns: described }));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(header.length);
  const side = await unpack(base85(zlib.deflateSync(Buffer.concat([size, header, ...parts]))));
  expected.forEach((values, number) => same(`column ${number}`, side.column(number), values));
  // A lane: steps and lengths that are not negative, in the order of their classes.
  const [step, length] = expected;
  if (!length || described[0][2] || described[1][2] || step.length > length.length) {
    return;
  }
  const classes = step.map((_, i) => (i * 7) % 3);
  const lane = { step: 0, length: 1, class: 2 };
  const column = (number, Type = Float64Array) => Type.from(number === 2 ? classes : expected[number]);
  const found = intervals(column, lane, 3);
  const queues = [0, 1, 2].map((one) => classes.map((c, i) => (c === one ? i : -1)).filter((i) => i >= 0));
  const lengths = [];
  [].concat(...queues).forEach((row, place) => (lengths[row] = length[place]));
  let at = 0;
  const ends = [];
  const starts = step.map((gap, i) => {
    const start = at + gap;
    at = start + lengths[i];
    ends.push(at);
    return start;
  });
  same("starts", found.start, starts);
  same("ends", found.end, ends);
};

if (require.main === module) {
  let state = Number(process.argv[2] || 1) >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0; // mulberry32
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  (async () => {
    const number = Number(process.argv[3] || 1000);
    for (let i = 0; i < number; i++) {
      await module.exports.fuzz(Uint8Array.from({ length: random() % 400 }, () => random() & (random() & 1 ? 255 : 15)));
    }
    console.log(`${number} inputs`);
  })();
}
