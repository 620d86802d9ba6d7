// Requests to the hosts that plugin.toml declares and the operator granted.

import handler from "gate:http/outgoing-handler@0.2.10";
import types from "gate:http/types@0.2.10";
import { serviceError } from "./errors.js";
import { bytesOf, decode } from "./text.js";

const WRITE_BYTES_MAX = 4096;
const READ_BYTES_MAX = 65536;
const BODY_BYTES_MAX = 8 << 20;

class Answer {
  constructor(status, headers, bytes) {
    this.status = status;
    /** Pairs of name, in small letters, and value. */
    this.headers = headers;
    this.bytes = bytes;
  }

  get ok() {
    return this.status >= 200 && this.status < 300;
  }

  header(name) {
    const wanted = name.toLowerCase();
    return this.headers.find(([key]) => key === wanted)?.[1];
  }

  text() {
    return decode(this.bytes);
  }

  json() {
    return JSON.parse(this.text());
  }
}

/**
 * Sends a request and waits for the whole answer, whatever its status. Options: `method`, `headers`, `body` (text or
 * bytes), `json` (a value), `timeoutMs`, `bodyBytesMax`. Throws a ServiceError with a code of `outbound.…`.
 */
export function fetch(url, options = {}) {
  const { method = "GET", timeoutMs, bodyBytesMax = BODY_BYTES_MAX } = options;
  const headers = { ...options.headers };
  let body = options.body === undefined ? new Uint8Array(0) : bytesOf(options.body);
  if (options.json !== undefined) {
    headers["content-type"] ??= "application/json";
    body = bytesOf(JSON.stringify(options.json));
  }
  const request = head(method, url, headers);
  const outgoing = request.body();
  const future = told(() => handler.handle(request, timeoutMs === undefined ? null : within(timeoutMs)));
  write(outgoing, body);
  return using(future, () => {
    using(future.subscribe(), (pollable) => pollable.block());
    const outcome = future.get();
    if (outcome?.tag !== "ok") throw failed("the answer came twice or not at all");
    if (outcome.val.tag === "err") throw ofCode(outcome.val.val);
    return using(outcome.val.val, (response) => {
      const fields = using(response.headers(), (headers) => headers.entries()).flatMap(readable);
      const bytes = using(response.consume(), (incoming) => using(incoming.stream(), (stream) => read(stream, bodyBytesMax)));
      return new Answer(response.status(), fields, bytes);
    });
  });
}

/** Gives a handle back when the work is done: the host wants what came out of it back first. */
function using(handle, work) {
  try {
    return work(handle);
  } finally {
    handle[Symbol.dispose]();
  }
}

/** A header whose value is text. */
function readable([name, value]) {
  try {
    return [[name.toLowerCase(), decode(Uint8Array.from(value))]];
  } catch {
    return [];
  }
}

function head(method, url, headers) {
  const parts = /^(https?):\/\/([^/?#]+)([^#]*)/.exec(url);
  if (!parts) throw invalid(`\`${url}\` does not begin with https:// or http://`);
  const [, scheme, authority, rest] = parts;
  const fields = new types.Fields();
  try {
    for (const [name, value] of Object.entries(headers)) fields.append(name, bytesOf(value));
  } catch {
    throw invalid("one of the headers is none");
  }
  const request = new types.OutgoingRequest(fields);
  const known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
  try {
    request.setMethod(known.includes(method) ? { tag: method.toLowerCase() } : { tag: "other", val: method });
    request.setScheme({ tag: scheme === "https" ? "HTTPS" : "HTTP" });
    request.setAuthority(authority);
    request.setPathWithQuery(rest.startsWith("/") ? rest : `/${rest}`);
  } catch {
    throw invalid(`${method} ${url} is no valid request`);
  }
  return request;
}

function within(timeoutMs) {
  const options = new types.RequestOptions();
  for (const set of ["setConnectTimeout", "setFirstByteTimeout", "setBetweenBytesTimeout"]) {
    try {
      options[set](timeoutMs * 1_000_000);
    } catch {
      // A host that does not know one of these has its own limits.
    }
  }
  return options;
}

function write(outgoing, body) {
  try {
    if (body.length > 0) {
      using(outgoing.write(), (stream) => {
        for (let at = 0; at < body.length; at += WRITE_BYTES_MAX) {
          stream.blockingWriteAndFlush(body.subarray(at, at + WRITE_BYTES_MAX));
        }
      });
    }
    types.OutgoingBody.finish(outgoing, null);
  } catch {
    // The other side answered without reading everything; its answer tells why.
  }
}

function read(stream, bytesMax) {
  const chunks = [];
  let length = 0;
  for (;;) {
    let chunk;
    try {
      chunk = Uint8Array.from(stream.blockingRead(READ_BYTES_MAX));
    } catch (error) {
      const payload = error.payload;
      if (payload?.tag === "closed") break;
      if (payload?.tag === "last-operation-failed") throw using(payload.val, ofStream);
      throw error;
    }
    length += chunk.length;
    if (length > bytesMax) {
      throw serviceError("limit", "outbound.body_too_large", `the response is larger than ${bytesMax} bytes`);
    }
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function told(call) {
  try {
    return call();
  } catch (error) {
    throw error.payload?.tag === undefined ? error : ofCode(error.payload);
  }
}

const CODES = {
  "HTTP-request-denied": ["denied", "outbound.host_not_granted", "this host and port are not granted to the plugin"],
  "HTTP-request-method-invalid": ["denied", "outbound.method_not_granted", "this method is not granted to the plugin for this host"],
  "destination-IP-prohibited": ["denied", "outbound.address_forbidden", "the address in the URL is none of the public internet"],
  "connection-terminated": ["unavailable", "outbound.broken", "the other side broke off or did not answer as HTTP demands"],
  "connection-limit-reached": ["limit", "outbound.too_many_in_flight", "as many requests of this plugin are under way as may be"],
  "loop-detected": ["limit", "outbound.too_many_redirects", "the other side redirects too often"],
  "HTTP-request-body-size": ["limit", "outbound.request_too_large", "the request is larger than it may be"],
  "HTTP-request-header-section-size": ["limit", "outbound.headers_too_large", "the headers are larger than they may be"],
  "HTTP-response-header-section-size": ["limit", "outbound.headers_too_large", "the headers are larger than they may be"],
  "HTTP-response-body-size": ["limit", "outbound.response_too_large", "the answer is larger than it may be"],
  "HTTP-request-URI-invalid": ["invalid", "outbound.url_invalid", "the host does not send to such a URL"],
  "HTTP-request-URI-too-long": ["invalid", "outbound.url_invalid", "the host does not send to such a URL"],
};
CODES["HTTP-protocol-error"] = CODES["connection-terminated"];
for (const tag of ["DNS-timeout", "connection-timeout", "connection-read-timeout", "connection-write-timeout", "HTTP-response-timeout"]) {
  CODES[tag] = ["timeout", "outbound.timeout", "the other side took longer than it may"];
}
for (const tag of [
  "DNS-error", "destination-not-found", "destination-unavailable", "destination-IP-unroutable", "connection-refused",
  "TLS-protocol-error", "TLS-certificate-error", "TLS-alert-received",
]) {
  CODES[tag] = ["unavailable", "outbound.unreachable", "the other side cannot be reached"];
}

function ofCode(code) {
  const known = CODES[code.tag];
  if (known) return serviceError(...known);
  return ofText(code.val) ?? failed(code.val ?? code.tag);
}

function ofStream(problem) {
  const code = types.httpErrorCode(problem);
  if (code) return ofCode(code);
  const text = problem.toDebugString();
  return ofText(text.replace(/^internal error: /, "")) ?? failed(text);
}

/** `KIND CODE: MESSAGE`, in which the host tells what `wasi:http` has no word for. */
function ofText(text) {
  const parts = /^(denied|invalid|limit|timeout|unavailable) (\w+\.\w+): (.*)$/s.exec(text ?? "");
  return parts ? serviceError(parts[1], parts[2], parts[3]) : undefined;
}

const invalid = (message) => serviceError("invalid", "outbound.invalid_request", message);
const failed = (message) => serviceError("internal", "outbound.failed", message);
