// Signed tokens for people without an account.

import tokens from "gantry:tokens/tokens@0.1.0";
import { asked } from "./errors.js";

/** A token for `subject`, good for `purpose` until the time is over. */
export const sign = (purpose, subject, ttlMs) => asked(() => tokens.sign(purpose, subject, ttlMs));

/** The subject; `denied` with `token.invalid` or `token.expired`. */
export const verify = (purpose, token) => asked(() => tokens.verify(purpose, token));
