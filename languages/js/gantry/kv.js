// A key-value store, declared by `kv = ["LABEL"]`.

import store from "gantry:kv/store@0.1.0";
import { asked } from "./errors.js";
import { bytesOf, decode } from "./text.js";

class Bucket {
  #bucket;

  constructor(label) {
    this.#bucket = asked(() => store.Bucket.open(label));
  }

  /** The value as bytes, or undefined. */
  get(key) {
    return this.getEntry(key)?.value;
  }

  /** The value with its version, or undefined. */
  getEntry(key) {
    const entry = asked(() => this.#bucket.get(key));
    return entry ? { value: Uint8Array.from(entry.value), version: entry.version } : undefined;
  }

  getText(key) {
    const value = this.get(key);
    return value && decode(value);
  }

  getJson(key) {
    const text = this.getText(key);
    return text === undefined ? undefined : JSON.parse(text);
  }

  /** Writes text or bytes, and returns the new version. `conflict` if a condition does not hold. */
  put(key, value, { ttlMs = null, ifAbsent = false, ifVersion = null } = {}) {
    return asked(() => this.#bucket.put(key, bytesOf(value), { ttlMs, ifAbsent, ifVersion }));
  }

  putJson(key, value, options) {
    return this.put(key, JSON.stringify(value), options);
  }

  /** Whether there was an entry. */
  delete(key, ifVersion = null) {
    return asked(() => this.#bucket.delete(key, ifVersion));
  }

  /** Adds to a whole number, which starts at 0, and returns the sum. */
  increment(key, delta = 1, ttlMs = null) {
    return asked(() => this.#bucket.increment(key, delta, ttlMs));
  }

  /** One page of the keys with this prefix, ascending: `{ keys, cursor }`. */
  keysPage(prefix = "", cursor = null, max = 1000) {
    return asked(() => this.#bucket.keys(prefix, cursor, max));
  }

  /** The keys with this prefix, as many as asked for at most. */
  keys(prefix = "", max = 1000) {
    const keys = [];
    let cursor = null;
    do {
      const page = this.keysPage(prefix, cursor, Math.min(max - keys.length, 1000));
      keys.push(...page.keys);
      cursor = page.cursor;
    } while (cursor != null && keys.length < max);
    return keys;
  }
}

/** Opens a store by its label; `denied` if it is not declared or not granted. */
export const open = (label) => new Bucket(label);
