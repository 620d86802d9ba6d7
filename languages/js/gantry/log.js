// Messages for whoever operates the plugin.

import logging from "wasi:logging/logging@0.1.0-draft";

const write = (level) => (...values) => logging.log(level, "", values.map(shown).join(" "));

export const trace = write("trace");
export const debug = write("debug");
export const info = write("info");
export const warn = write("warn");
export const error = write("error");

/** As a person reads it. An error comes with its stack, which names files and lines. */
export function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value.name}: ${value.message}\n${value.stack ?? ""}`.trimEnd();
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

// What other people's code calls.
globalThis.console = { trace, debug, log: info, info, warn, error };
