"""A key-value store, declared by ``kv = ["LABEL"]``."""

import json

from wit_world.imports import wit_kv

from .errors import asked


def open(label):
    """Opens a store by its label; ``Denied`` if it is not declared or not granted."""
    with asked():
        return Bucket(wit_kv.Bucket.open(label))


class Bucket:
    """One store."""

    def __init__(self, bucket):
        self._bucket = bucket

    def get(self, key):
        """The value as bytes, or None."""
        entry = self.get_entry(key)
        return entry.value if entry is not None else None

    def get_entry(self, key):
        """The value with its version, or None."""
        with asked():
            return self._bucket.get(key)

    def get_text(self, key):
        value = self.get(key)
        return value.decode() if value is not None else None

    def get_json(self, key):
        value = self.get(key)
        return json.loads(value) if value is not None else None

    def put(self, key, value, *, ttl_ms=None, if_absent=False, if_version=None):
        """Writes text or bytes, and returns the new version. ``Conflict`` if a condition does not hold."""
        if isinstance(value, str):
            value = value.encode()
        with asked():
            return self._bucket.put(key, bytes(value), wit_kv.PutOptions(ttl_ms, if_absent, if_version))

    def put_json(self, key, value, **options):
        return self.put(key, json.dumps(value), **options)

    def delete(self, key, if_version=None):
        """Whether there was an entry."""
        with asked():
            return self._bucket.delete(key, if_version)

    def increment(self, key, delta=1, ttl_ms=None):
        """Adds to a whole number, which starts at 0, and returns the sum."""
        with asked():
            return self._bucket.increment(key, delta, ttl_ms)

    def keys_page(self, prefix="", cursor=None, max=1000):
        """One page of the keys with this prefix, ascending: ``.keys`` and ``.cursor``."""
        with asked():
            return self._bucket.keys(prefix, cursor, max)

    def keys(self, prefix="", max=1000):
        """The keys with this prefix, as many as asked for at most."""
        keys, cursor = [], None
        while len(keys) < max:
            page = self.keys_page(prefix, cursor, min(max - len(keys), 1000))
            keys += page.keys
            cursor = page.cursor
            if cursor is None:
                break
        return keys
