"""Settings that the operator chose. What is not text in the schema is JSON text here."""

from wit_world.imports import wit_config


def get(key):
    """One setting, or None if it has no value."""
    return wit_config.get(key)


def all():
    """All settings, by their names."""
    return dict(wit_config.get_all())
