"""Where the host enters: finds the handler, and turns what it returns or raises into an answer."""

import encodings.idna  # noqa: F401 - what looks for a codec later finds no file
import json
import os
import random
import traceback

import plugin  # noqa: F401 - the author's module, whose decorators fill the routes
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import wit_types

from . import context, log
from .errors import Problem, ServiceError
from .http import Request, Response, find, response_of

_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 406: "Not Acceptable", 409: "Conflict", 410: "Gone", 412: "Precondition Failed",
    413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content", 423: "Locked",
    429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}


class Handler(exports.Handler):
    def handle(self, request):
        # The interpreter is a snapshot that was taken when the plugin was built: without this, each request would draw
        # the same numbers.
        random.seed(os.urandom(16))
        try:
            handler = find(request.method, context.route())
            request = Request(request)
            return response_of(handler(request, **request.params)).to_host()
        except Problem as problem:
            return _shown(problem).to_host()
        except ServiceError as error:
            raise Err(error.wit) from None
        except MemoryError:
            raise  # The host knows of it, and says so.
        except Exception:
            # The text is for the author; the client learns only that it was not its fault.
            log.error(traceback.format_exc().rstrip())
            detail = wit_types.Detail("plugin.failed", "the plugin could not answer", None)
            raise Err(wit_types.Error_Internal(detail)) from None


def _shown(problem):
    body = {
        "type": "about:blank",
        "title": _TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.message,
        "request_id": context.request_id(),
    }
    if problem.errors:
        body["errors"] = problem.errors
    headers = {"content-type": "application/problem+json", **problem.headers}
    return Response(json.dumps(body), problem.status, headers)
