"""What can go wrong: a problem that the client shall see, and an error of a service of the host."""

from componentize_py_types import Err
from wit_world.imports import wit_types


class Problem(Exception):
    """Answers with a problem (RFC 9457): ``raise Problem(404, "note.unknown", "there is no such note")``."""

    def __init__(self, status, code, message, *, errors=(), headers=None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.errors = list(errors)
        self.headers = dict(headers or {})


class ServiceError(Exception):
    """What a service refused. Not caught, it becomes a problem with the status of its kind."""

    def __init__(self, wit):
        super().__init__(wit.value.message)
        self.wit = wit

    @property
    def kind(self):
        """``Denied``, ``NotFound``, ``Invalid``, ``Conflict``, ``Limit``, ``Timeout``, ``Unavailable`` or ``Internal``."""
        return type(self.wit).__name__.removeprefix("Error_")

    @property
    def code(self):
        """Stable and dotted: ``kv.value_too_large``."""
        return self.wit.value.code

    @property
    def retry_after_ms(self):
        """When trying again can succeed, or None."""
        return self.wit.value.retry_after_ms


def service_error(kind, code, message):
    """An error of a service, made here."""
    case = getattr(wit_types, f"Error_{kind}")
    return ServiceError(case(wit_types.Detail(code, message, None)))


class asked:
    """Around a call of the host: what it refuses is raised as a ServiceError."""

    def __enter__(self):
        return self

    def __exit__(self, _type, error, _traceback):
        if isinstance(error, Err) and isinstance(getattr(error.value, "value", None), wit_types.Detail):
            raise ServiceError(error.value) from None
        return False


class Undeclared:
    """Stands in for a service that plugin.toml does not ask for."""

    def __init__(self, service, line):
        self._complaint = f"the plugin does not ask for `{service}`: write `{line}` under [capabilities] of plugin.toml"

    def __getattr__(self, _name):
        raise RuntimeError(self._complaint)
