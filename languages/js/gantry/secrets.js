// Secrets that the operator keeps, declared with `use = "reveal"`. One with `use = "inject"` needs no code.

import store from "gantry:secrets/store@0.1.0";
import revealing from "gantry:secrets/reveal@0.1.0";
import { asked } from "./errors.js";
import { decode } from "./text.js";

/** The value as bytes; `denied` without a grant, `not-found` if no value is set. */
export const revealBytes = (label) => asked(() => Uint8Array.from(revealing.reveal(store.get(label))));

/** The value as text. */
export const reveal = (label) => decode(revealBytes(label));
