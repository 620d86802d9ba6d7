"""Requests, responses and routes."""

import json
from urllib.parse import parse_qsl

from wit_world.imports import wit_headers, wit_http

from . import context
from .errors import Problem

_routes = {}


def route(method, pattern):
    """Makes a function the handler of a route, the same as in ``plugin.toml``. The host has matched the path.

    The function gets the request, and the parameters of the pattern by their names.
    """

    def add(handler):
        _routes.setdefault(pattern, {})[method] = handler
        return handler

    return add


def get(pattern):
    return route("GET", pattern)


def post(pattern):
    return route("POST", pattern)


def put(pattern):
    return route("PUT", pattern)


def patch(pattern):
    return route("PATCH", pattern)


def delete(pattern):
    return route("DELETE", pattern)


def find(method, pattern):
    """The handler of a route. A handler for GET answers HEAD, too; the host leaves the body out."""
    methods = _routes.get(pattern)
    if methods is None:
        raise Problem(404, "route.not_found", "there is nothing at this path")
    handler = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
    if handler is None:
        allow = ", ".join(methods)
        raise Problem(405, "route.method_not_allowed", f"this path answers only {allow}", headers={"allow": allow})
    return handler


class Request:
    """One request. What the host knows about the call is in ``context`` and ``identity``."""

    def __init__(self, request):
        self.method = request.method
        self.path = request.path
        """Below the plugin's mount, still percent-encoded."""
        self.body = request.body
        self.raw_query = request.query
        self.params = context.path_params()
        """The parameters of the route, decoded."""

    @property
    def query(self):
        """The parameters after ``?``: the first value of each name. All of them are in ``query_pairs``."""
        return dict(reversed(self.query_pairs))

    @property
    def query_pairs(self):
        try:
            return parse_qsl(self.raw_query, keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise Problem(400, "request.query_invalid", str(error)) from None

    def header(self, name):
        """The first value of a header, or None; the name in any case."""
        return wit_headers.get(name)

    @property
    def headers(self):
        """All headers, as pairs of name and value."""
        return wit_headers.all()

    def text(self):
        """The body as text; 400 if it is not UTF-8."""
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise Problem(400, "request.body_invalid", str(error)) from None

    def json(self):
        """The body as JSON; 400 if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Problem(400, "request.body_invalid", str(error)) from None


class Response:
    """An answer with a status and headers of its own."""

    def __init__(self, body="", status=200, headers=None):
        self.body = body
        self.status = status
        self.headers = dict(headers or {})

    @classmethod
    def json(cls, value, status=200, headers=None):
        return cls(json.dumps(value), status, {"content-type": "application/json", **(headers or {})})

    def to_host(self):
        body = self.body.encode() if isinstance(self.body, str) else bytes(self.body)
        headers = [(name.lower(), str(value)) for name, value in self.headers.items()]
        return wit_http.Response(self.status, headers, body)


def response_of(value):
    """What a handler returned, as a response: text, bytes, None as 204, ``(value, status)``, all else as JSON."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int):
        response = response_of(value[0])
        response.status = value[1]
        return response
    if isinstance(value, Response):
        return value
    if value is None:
        return Response(status=204)
    if isinstance(value, str):
        return Response(value, headers={"content-type": "text/plain; charset=utf-8"})
    if isinstance(value, (bytes, bytearray)):
        return Response(value, headers={"content-type": "application/octet-stream"})
    if hasattr(value, "__await__"):
        raise TypeError("a handler must not be async: calls of the host wait by themselves")
    return Response.json(value)
