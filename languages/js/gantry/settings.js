// Settings that the operator chose. What is not text in the schema is JSON text here.

import store from "wasi:config/store@0.2.0-rc.1";

/** One setting, or undefined if it has no value. */
export const get = (key) => store.get(key) ?? undefined;

/** All settings, by their names. */
export const all = () => Object.fromEntries(store.getAll());
