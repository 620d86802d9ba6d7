// Where the host enters: finds the handler, and turns what it returns or throws into an answer.

import "./random.js";
import app from "../src/plugin.js";
import * as context from "./context.js";
import { Problem, ServiceError } from "./errors.js";
import { Request, Response, Router, responseOf, toHost } from "./http.js";
import * as log from "./log.js";

export const handler = {
  handle(request) {
    try {
      return toHost(responseOf(answer(request)));
    } catch (error) {
      if (error instanceof Problem) return toHost(shown(error));
      if (error instanceof ServiceError) throw error.wit;
      // The host knows of it, and says so.
      if (error instanceof InternalError && error.message === "out of memory") throw error;
      // The text is for the author; the client learns only that it was not its fault.
      log.error(error);
      throw { tag: "internal", val: { code: "plugin.failed", message: "the plugin could not answer", retryAfterMs: null } };
    }
  },
};

function answer(request) {
  const params = context.pathParams();
  if (app instanceof Router) {
    return app.find(request.method, context.route())(new Request(request, params));
  }
  if (typeof app === "function") return app(new Request(request, params));
  throw new TypeError("src/plugin.js must have a router or a function as its default export");
}

const TITLES = {
  400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
  405: "Method Not Allowed", 406: "Not Acceptable", 409: "Conflict", 410: "Gone", 412: "Precondition Failed",
  413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content", 423: "Locked",
  429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
  503: "Service Unavailable", 504: "Gateway Timeout",
};

function shown(problem) {
  const body = {
    type: "about:blank",
    title: TITLES[problem.status] ?? "Error",
    status: problem.status,
    code: problem.code,
    detail: problem.message,
    request_id: context.requestId(),
    ...(problem.errors.length > 0 && { errors: problem.errors }),
  };
  return Response.json(body, {
    status: problem.status,
    headers: { "content-type": "application/problem+json", ...problem.headers },
  });
}
