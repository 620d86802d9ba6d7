// Counts words, and remembers nothing: written in AssemblyScript, with the kit that Extism has for it.

import { Config, Host } from "@extism/as-pdk";

// Called instead of a trap with a message in memory that nobody reads.
export function stop(_message: string | null, _file: string | null, _line: u32, _column: u32): void {
  unreachable();
}

export function count_words(): i32 {
  const text = Host.inputString();
  const setting = Config.get("separators");
  const separators = setting == null ? " " : setting;
  let words = 0;
  let isInWord = false;
  for (let i = 0; i < text.length; i++) {
    const isSeparator = separators.includes(text.charAt(i));
    if (!isSeparator && !isInWord) words += 1;
    isInWord = !isSeparator;
  }
  Host.outputString('{"words":' + words.toString() + "}");
  return 0;
}

export function loop(): i32 {
  let n: u32 = 0;
  while (true) {
    n += 1;
    if (n == 0) Host.outputString("again");
  }
  return 0;
}
