"""Requests to the hosts that plugin.toml declares and the operator granted."""

import json
import re
from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world.imports import wit_outgoing, wit_outgoing_types as wit, wit_streams

from .errors import service_error

_WRITE_BYTES_MAX = 4096
_READ_BYTES_MAX = 64 * 1024
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}


class Answer:
    """What came back, with its whole body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        """Pairs of name, in small letters, and value."""
        self.body = body

    @property
    def ok(self):
        return 200 <= self.status < 300

    def header(self, name):
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


_NOTHING = object()


def fetch(url, method="GET", *, headers=None, body=b"", json_body=_NOTHING, timeout_ms=None, body_bytes_max=8 << 20):
    """Sends a request and waits for the whole answer, whatever its status.

    Raises a ServiceError with a code of ``outbound.…``.
    """
    headers = dict(headers or {})
    if json_body is not _NOTHING:
        headers.setdefault("content-type", "application/json")
        body = json.dumps(json_body)
    if isinstance(body, str):
        body = body.encode()
    request = _head(method, url, headers)
    outgoing = request.body()
    try:
        future = wit_outgoing.handle(request, None if timeout_ms is None else _within(timeout_ms))
    except Err as error:
        raise _of_code(error.value) from None
    _write(outgoing, body)
    # Handles go back in the end, what came out of them first: the host insists.
    with future:
        with future.subscribe() as pollable:
            pollable.block()
        outcome = future.get()
        if not isinstance(outcome, Ok):
            raise _failed("the answer came twice or not at all")
        if isinstance(outcome.value, Err):
            raise _of_code(outcome.value.value)
        with outcome.value.value as response:
            with response.headers() as fields:
                entries = fields.entries()
            with response.consume() as incoming, incoming.stream() as stream:
                body = _read(stream, body_bytes_max)
            return Answer(response.status(), list(_readable(entries)), body)


def _readable(entries):
    """The headers whose values are text."""
    for name, value in entries:
        try:
            yield name.lower(), value.decode()
        except UnicodeDecodeError:
            pass


def _head(method, url, headers):
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise _invalid(f"`{url}` does not begin with https:// or http://")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        fields = wit.Fields()
        for name, value in headers.items():
            fields.append(name, str(value).encode())
        request = wit.OutgoingRequest(fields)
        known = getattr(wit, f"Method_{method.capitalize()}", None) if method in _METHODS else None
        request.set_method(known() if known else wit.Method_Other(method))
        request.set_scheme(wit.Scheme_Https() if parts.scheme == "https" else wit.Scheme_Http())
        request.set_authority(parts.netloc)
        request.set_path_with_query(path)
    except Err:
        raise _invalid(f"{method} {url} is no valid request") from None
    return request


def _within(timeout_ms):
    options = wit.RequestOptions()
    for set_timeout in (
        options.set_connect_timeout, options.set_first_byte_timeout, options.set_between_bytes_timeout,
    ):
        try:
            set_timeout(timeout_ms * 1_000_000)
        except Err:
            pass  # A host that does not know one of these has its own limits.
    return options


def _write(outgoing, body):
    try:
        if body:
            with outgoing.write() as stream:
                for at in range(0, len(body), _WRITE_BYTES_MAX):
                    stream.blocking_write_and_flush(body[at:at + _WRITE_BYTES_MAX])
        wit.OutgoingBody.finish(outgoing, None)
    except Err:
        pass  # The other side answered without reading everything; its answer tells why.


def _read(stream, bytes_max):
    body = bytearray()
    while True:
        try:
            body += stream.blocking_read(_READ_BYTES_MAX)
        except Err as error:
            if isinstance(error.value, wit_streams.StreamError_Closed):
                return bytes(body)
            with error.value.value as problem:
                raise _of_stream(problem) from None
        if len(body) > bytes_max:
            raise service_error("Limit", "outbound.body_too_large", f"the response is larger than {bytes_max} bytes")


_CODES = {
    "HttpRequestDenied": ("Denied", "outbound.host_not_granted", "this host and port are not granted to the plugin"),
    "HttpRequestMethodInvalid": ("Denied", "outbound.method_not_granted", "this method is not granted to the plugin for this host"),
    "DestinationIpProhibited": ("Denied", "outbound.address_forbidden", "the address in the URL is none of the public internet"),
    "ConnectionTerminated": ("Unavailable", "outbound.broken", "the other side broke off or did not answer as HTTP demands"),
    "ConnectionLimitReached": ("Limit", "outbound.too_many_in_flight", "as many requests of this plugin are under way as may be"),
    "LoopDetected": ("Limit", "outbound.too_many_redirects", "the other side redirects too often"),
    "HttpRequestBodySize": ("Limit", "outbound.request_too_large", "the request is larger than it may be"),
    "HttpRequestHeaderSectionSize": ("Limit", "outbound.headers_too_large", "the headers are larger than they may be"),
    "HttpResponseHeaderSectionSize": ("Limit", "outbound.headers_too_large", "the headers are larger than they may be"),
    "HttpResponseBodySize": ("Limit", "outbound.response_too_large", "the answer is larger than it may be"),
    "HttpRequestUriInvalid": ("Invalid", "outbound.url_invalid", "the host does not send to such a URL"),
    "HttpRequestUriTooLong": ("Invalid", "outbound.url_invalid", "the host does not send to such a URL"),
}
_CODES["HttpProtocolError"] = _CODES["ConnectionTerminated"]
for _case in (
    "DnsTimeout", "ConnectionTimeout", "ConnectionReadTimeout", "ConnectionWriteTimeout", "HttpResponseTimeout",
):
    _CODES[_case] = ("Timeout", "outbound.timeout", "the other side took longer than it may")
for _case in (
    "DnsError", "DestinationNotFound", "DestinationUnavailable", "DestinationIpUnroutable", "ConnectionRefused",
    "TlsProtocolError", "TlsCertificateError", "TlsAlertReceived",
):
    _CODES[_case] = ("Unavailable", "outbound.unreachable", "the other side cannot be reached")

_KINDS = {"denied": "Denied", "invalid": "Invalid", "limit": "Limit", "timeout": "Timeout", "unavailable": "Unavailable"}


def _of_code(code):
    case = type(code).__name__.removeprefix("ErrorCode_")
    if case in _CODES:
        return service_error(*_CODES[case])
    text = getattr(code, "value", None)
    return _of_text(text) or _failed(text or case)


def _of_stream(problem):
    code = wit.http_error_code(problem)
    if code is not None:
        return _of_code(code)
    text = problem.to_debug_string()
    return _of_text(text.removeprefix("internal error: ")) or _failed(text)


def _of_text(text):
    """``KIND CODE: MESSAGE``, in which the host tells what ``wasi:http`` has no word for."""
    parts = re.match(r"(\w+) (\w+\.\w+): (.*)", text or "", re.DOTALL)
    if parts is None or parts[1] not in _KINDS:
        return None
    return service_error(_KINDS[parts[1]], parts[2], parts[3])


def _invalid(message):
    return service_error("Invalid", "outbound.invalid_request", message)


def _failed(message):
    return service_error("Internal", "outbound.failed", str(message))
