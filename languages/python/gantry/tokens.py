"""Signed tokens for people without an account."""

from wit_world.imports import wit_tokens

from .errors import asked


def sign(purpose, subject, ttl_ms):
    """A token for ``subject``, good for ``purpose`` until the time is over."""
    with asked():
        return wit_tokens.sign(purpose, subject, ttl_ms)


def verify(purpose, token):
    """The subject; ``Denied`` with ``token.invalid`` or ``token.expired``."""
    with asked():
        return wit_tokens.verify(purpose, token)
