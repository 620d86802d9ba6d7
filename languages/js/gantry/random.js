// Chance. The engine is a snapshot that was taken when the plugin was built: what it had drawn then, it would draw again
// in each request, so all of it comes from the host.

import random from "wasi:random/random@0.2.12";

let drawn = new Uint8Array(0);
let next = 0;

/** This many random bytes, at most 65536. */
export function bytes(length) {
  return Uint8Array.from(random.getRandomBytes(length));
}

function u32() {
  if (next + 4 > drawn.length) {
    drawn = bytes(256);
    next = 0;
  }
  const value = (drawn[next] | (drawn[next + 1] << 8) | (drawn[next + 2] << 16) | (drawn[next + 3] << 24)) >>> 0;
  next += 4;
  return value;
}

Math.random = () => ((u32() >>> 5) * 0x4000000 + (u32() >>> 6)) / 0x20000000000000;

globalThis.crypto = {
  getRandomValues(array) {
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(bytes(array.byteLength));
    return array;
  },
  randomUUID() {
    const id = bytes(16);
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    const hex = Array.from(id, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  },
};
