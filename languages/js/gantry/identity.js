// Who is calling, and what they may do.

import identity from "gantry:context/identity@0.1.0";
import { Problem } from "./errors.js";

/** Somebody the host has authenticated. */
class Principal {
  #principal;

  constructor(principal) {
    this.#principal = principal;
  }

  /** Stable for the life of the account. */
  get id() { return this.#principal.id(); }
  /** `user` or `api-key`. Expect new words. */
  get kind() { return this.#principal.kind(); }
  /** For a user the e-mail address. */
  get name() { return this.#principal.name(); }
  get roles() { return this.#principal.roles(); }
  get permissions() { return this.#principal.permissions(); }

  has(permission) {
    return this.#principal.hasPermission(permission);
  }
}

/** The caller, or undefined if nobody logged in. */
export function current() {
  const principal = identity.current();
  return principal ? new Principal(principal) : undefined;
}

/** The caller, who must have the permission, if one is named: else 401 or 403. */
export function require(permission) {
  const principal = current();
  if (!principal) {
    throw new Problem(401, "auth.required", "log in first", { headers: { "www-authenticate": "Bearer" } });
  }
  if (permission !== undefined && !principal.has(permission)) {
    throw new Problem(403, "auth.permission_missing", `this needs the permission \`${permission}\``);
  }
  return principal;
}
