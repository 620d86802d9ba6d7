// Text and bytes. The engine has no TextEncoder; a lone surrogate becomes U+FFFD, as there.

/** The bytes of a text in UTF-8. */
export function encode(text) {
  const bytes = [];
  for (const character of String(text)) {
    let code = character.codePointAt(0);
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  return Uint8Array.from(bytes);
}

/** The text that these bytes are in UTF-8. Throws a RangeError if they are none. */
export function decode(bytes) {
  const parts = [];
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++];
    if (first < 0x80) {
      text += String.fromCharCode(first);
    } else {
      const more = first >= 0xf0 && first < 0xf5 ? 3 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xc2 && first < 0xe0 ? 1 : 0;
      let code = more && first & (0x3f >> more);
      for (let left = more; left > 0; left--) {
        const next = bytes[at++];
        if ((next & 0xc0) !== 0x80) throw new RangeError("these bytes are not UTF-8");
        code = (code << 6) | (next & 63);
      }
      const least = [Infinity, 0x80, 0x800, 0x10000][more];
      if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        throw new RangeError("these bytes are not UTF-8");
      }
      text += String.fromCodePoint(code);
    }
    if (text.length > 4096) {
      parts.push(text);
      text = "";
    }
  }
  return parts.join("") + text;
}

/** The bytes of whatever a body may be: bytes as they are, anything else as text. */
export function bytesOf(value) {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return encode(value);
}

/** One part of a form or query. Throws a RangeError if it is not well encoded. */
function unescaped(part) {
  try {
    return decodeURIComponent(part.replaceAll("+", " "));
  } catch {
    throw new RangeError(`\`${part}\` is not well encoded`);
  }
}

/** The parameters of a query, in their order. */
export class Query {
  constructor(text) {
    this.pairs = text.split("&").filter((pair) => pair !== "").map((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [unescaped(pair), ""] : [unescaped(pair.slice(0, at)), unescaped(pair.slice(at + 1))];
    });
  }

  /** The first value of this name, or undefined. */
  get(name) {
    return this.pairs.find(([key]) => key === name)?.[1];
  }

  /** All values of this name. */
  getAll(name) {
    return this.pairs.filter(([key]) => key === name).map(([, value]) => value);
  }

  [Symbol.iterator]() {
    return this.pairs[Symbol.iterator]();
  }
}
