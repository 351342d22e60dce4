// Perfetto's trace processor, as the Perfetto UI ships it (WebAssembly), behind stdin and stdout.
//
//   node perfetto_engine.js FOLDER      FOLDER holds engine_bundle.js and trace_processor*.wasm
//
// The bundle is written for a web worker: it gets a port, answers what the port brings, and loads its module with a
// synchronous request. Here the port is a pair of pipes. Requests are framed by their length (4 bytes, little-endian);
// answers are the bytes of Perfetto's RPC as they are.
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const folder = process.argv[2];
globalThis.self = globalThis;
globalThis.location = { href: "file:///engine_bundle.js" };
globalThis.WorkerGlobalScope = function () {};
globalThis.importScripts = function () {};
globalThis.XMLHttpRequest = class {
  open(method, name) {
    this.file = path.join(folder, path.basename(String(name)));
  }
  send() {
    this.status = 200;
    this.response = new Uint8Array(fs.readFileSync(this.file)).buffer;
  }
};
console.log = console.warn = console.error = () => {}; // stdout belongs to the answers
globalThis.process = undefined; // or the bundle would take this for something else than a worker
vm.runInThisContext(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"));

const port = {
  postMessage(bytes) {
    for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at);
  },
};

function take(length) {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const got = fs.readSync(0, bytes, at, length - at, null);
    if (got === 0) return null;
    at += got;
  }
  return bytes;
}

// Later, because the bundle finishes its own start with a promise.
setTimeout(() => {
  self.onmessage({ data: port });
  for (let head = take(4); head !== null; head = take(4)) {
    port.onmessage({ data: new Uint8Array(take(head.readUInt32LE(0))) });
  }
}, 0);
