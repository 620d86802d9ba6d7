"""What the host knows about the call in progress."""

from wit_world.imports import wit_invocation


def request_id():
    return wit_invocation.request_id()


def traceparent():
    return wit_invocation.traceparent()


def trigger():
    return wit_invocation.trigger()


def route():
    """The pattern of the matched route."""
    return wit_invocation.route()


def path_params():
    """The parameters of the route's pattern, decoded, by their names."""
    return dict(wit_invocation.path_params())


def client_address():
    return wit_invocation.client_address()


def remaining_ms():
    """Milliseconds left before the host stops this call."""
    return wit_invocation.remaining_ms()


def attempt():
    return wit_invocation.attempt()


def idempotency_key():
    return wit_invocation.idempotency_key()
