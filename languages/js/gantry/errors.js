// What can go wrong: a problem that the client shall see, and an error of a service of the host.

/** Answers with a problem (RFC 9457): `throw new Problem(404, "note.unknown", "there is no such note")`. */
export class Problem extends Error {
  /** `more` may have `errors` (wrong fields) and `headers`. */
  constructor(status, code, message, more = {}) {
    super(message);
    this.name = "Problem";
    this.status = status;
    this.code = code;
    this.errors = more.errors ?? [];
    this.headers = more.headers ?? {};
  }
}

/** What a service refused. Not caught, it becomes a problem with the status of its kind. */
export class ServiceError extends Error {
  constructor(error) {
    super(error.val.message);
    this.name = "ServiceError";
    this.wit = error;
  }

  /** `denied`, `not-found`, `invalid`, `conflict`, `limit`, `timeout`, `unavailable` or `internal`. */
  get kind() {
    return this.wit.tag;
  }

  /** Stable and dotted: `kv.value_too_large`. */
  get code() {
    return this.wit.val.code;
  }

  /** When trying again can succeed, or null. */
  get retryAfterMs() {
    return this.wit.val.retryAfterMs;
  }
}

/** An error of a service, made here. */
export function serviceError(kind, code, message) {
  return new ServiceError({ tag: kind, val: { code, message, retryAfterMs: null } });
}

/** Calls the host, and throws what it refuses as a ServiceError. */
export function asked(call) {
  try {
    return call();
  } catch (error) {
    const payload = error?.payload;
    throw payload?.tag !== undefined && payload.val?.code !== undefined ? new ServiceError(payload) : error;
  }
}

/** Stands in for a service that plugin.toml does not ask for. */
export function undeclared(service, line) {
  const complain = () => {
    throw new Error(`the plugin does not ask for \`${service}\`: write \`${line}\` under [capabilities] of plugin.toml`);
  };
  return new Proxy({}, { get: complain });
}
