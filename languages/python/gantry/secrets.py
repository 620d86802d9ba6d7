"""Secrets that the operator keeps, declared with ``use = "reveal"``. One with ``use = "inject"`` needs no code."""

from wit_world.imports import wit_reveal, wit_secrets

from .errors import asked


def reveal_bytes(label):
    """The value as bytes; ``Denied`` without a grant, ``NotFound`` if no value is set."""
    with asked():
        return wit_reveal.reveal(wit_secrets.get(label))


def reveal(label):
    """The value as text."""
    return reveal_bytes(label).decode()
