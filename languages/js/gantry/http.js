// Requests, responses and the router.

import headers from "gantry:http/request-headers@0.1.0";
import { Problem } from "./errors.js";
import { Query, bytesOf, decode } from "./text.js";

/** One request. What the host knows about the call is in `context` and `identity`. */
export class Request {
  constructor(request, params) {
    this.method = request.method;
    /** Below the plugin's mount, still percent-encoded. */
    this.path = request.path;
    /** The parameters of the route, decoded: `params.id`. */
    this.params = params;
    this.bytes = Uint8Array.from(request.body);
    this.rawQuery = request.query;
  }

  /** The parameters after `?`; 400 if they are not well encoded. */
  get query() {
    return understood("request.query_invalid", () => new Query(this.rawQuery));
  }

  /** The first value of a header, or undefined; the name in any case. */
  header(name) {
    return headers.get(name) ?? undefined;
  }

  /** All headers, as pairs of name and value. */
  headers() {
    return headers.all();
  }

  /** The body as text; 400 if it is not UTF-8. */
  text() {
    return understood("request.body_invalid", () => decode(this.bytes));
  }

  /** The body as JSON; 400 if it is none. */
  json() {
    const text = this.text();
    return understood("request.body_invalid", () => JSON.parse(text));
  }
}

function understood(code, read) {
  try {
    return read();
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(400, code, error.message);
  }
}

/** An answer with a status and headers of its own. */
export class Response {
  constructor(body = "", { status = 200, headers = {} } = {}) {
    this.status = status;
    this.headers = { ...headers };
    this.body = body;
  }

  static json(value, options = {}) {
    return new Response(JSON.stringify(value), {
      ...options,
      headers: { "content-type": "application/json", ...options.headers },
    });
  }
}

/** What a handler returned, as a response: text as text, bytes as bytes, nothing as 204, all else as JSON. */
export function responseOf(value) {
  if (value instanceof Response) return value;
  if (value === undefined) return new Response("", { status: 204 });
  if (value instanceof Promise) throw new TypeError("a handler must not be async: calls of the host wait by themselves");
  if (typeof value === "string") {
    return new Response(value, { headers: { "content-type": "text/plain; charset=utf-8" } });
  }
  if (value instanceof Uint8Array) return new Response(value, { headers: { "content-type": "application/octet-stream" } });
  return Response.json(value);
}

/** In the words of the contract. */
export function toHost(response) {
  return {
    status: response.status,
    headers: Object.entries(response.headers).map(([name, value]) => [name.toLowerCase(), String(value)]),
    body: bytesOf(response.body),
  };
}

/** The routes of the plugin, the same as in `plugin.toml`. The host has matched the path and decoded its parameters. */
export class Router {
  #handlers = new Map();

  /** Adds a route for any method. */
  on(method, pattern, handler) {
    const methods = this.#handlers.get(pattern) ?? new Map();
    this.#handlers.set(pattern, methods.set(method, handler));
    return this;
  }

  get(pattern, handler) { return this.on("GET", pattern, handler); }
  post(pattern, handler) { return this.on("POST", pattern, handler); }
  put(pattern, handler) { return this.on("PUT", pattern, handler); }
  patch(pattern, handler) { return this.on("PATCH", pattern, handler); }
  delete(pattern, handler) { return this.on("DELETE", pattern, handler); }

  /** The handler of a route. A handler for GET answers HEAD, too; the host leaves the body out. */
  find(method, pattern) {
    const methods = this.#handlers.get(pattern);
    const handler = methods?.get(method) ?? (method === "HEAD" ? methods?.get("GET") : undefined);
    if (handler) return handler;
    if (!methods) throw new Problem(404, "route.not_found", "there is nothing at this path");
    const allow = [...methods.keys()].join(", ");
    throw new Problem(405, "route.method_not_allowed", `this path answers only ${allow}`, { headers: { allow } });
  }
}

export const router = () => new Router();
