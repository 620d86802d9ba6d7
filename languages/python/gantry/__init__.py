"""Everything a plugin usually needs: ``from gantry import Problem, get, kv``.

A module of a service that plugin.toml does not ask for says so as soon as it is used.
"""

from . import context, identity, log, settings, tokens
from .errors import Problem, ServiceError, Undeclared
from .http import Request, Response, delete, get, patch, post, put, route

try:
    from . import kv
except ImportError:
    kv = Undeclared("kv", 'kv = ["LABEL"]')

try:
    from . import sql
except ImportError:
    sql = Undeclared("sql", 'sql = [{ label = "main", migrations = "migrations/" }]')

try:
    from . import secrets
except ImportError:
    secrets = Undeclared("secrets", 'secrets = [{ label = "LABEL", use = "reveal" }]')

try:
    from . import outbound
except ImportError:
    outbound = Undeclared("outbound", 'http = [{ host = "api.example.com", reason = "…" }]')

__all__ = [
    "Problem", "Request", "Response", "ServiceError",
    "context", "identity", "kv", "log", "outbound", "secrets", "settings", "sql", "tokens",
    "delete", "get", "patch", "post", "put", "route",
]
