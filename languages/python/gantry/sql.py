"""A database of the plugin's own, declared by ``sql = [{ label = "main", migrations = "migrations/" }]``."""

import json
from contextlib import contextmanager

from wit_world.imports import wit_sql

from .errors import asked


def open(label):
    """Opens a database by its label; ``Denied`` if it is not declared or not granted."""
    with asked():
        return Connection(wit_sql.Connection.open(label))


def _to_host(value):
    if value is None:
        return wit_sql.Value_Null()
    if isinstance(value, bool):
        return wit_sql.Value_Boolean(value)
    if isinstance(value, int):
        return wit_sql.Value_Integer(value)
    if isinstance(value, float):
        return wit_sql.Value_Real(value)
    if isinstance(value, str):
        return wit_sql.Value_Text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return wit_sql.Value_Blob(bytes(value))
    if isinstance(value, (dict, list, tuple)):
        return wit_sql.Value_Text(json.dumps(value))
    return wit_sql.Value_Text(str(value))


def _from_host(value):
    return getattr(value, "value", None)


class _Executor:
    def __init__(self, inner):
        self._inner = inner

    def query(self, sql, *params):
        """The rows, as dictionaries by the names of the columns. Parameters are ``$1``, ``$2``, …"""
        with asked():
            found = self._inner.query(sql, [_to_host(value) for value in params])
        return [dict(zip(found.columns, map(_from_host, row))) for row in found.rows]

    def query_one(self, sql, *params):
        """The first row, or None."""
        rows = self.query(sql, *params)
        return rows[0] if rows else None

    def execute(self, sql, *params):
        """Writes: ``.rows_affected`` and ``.last_insert_id``. On a connection, in a transaction of its own."""
        with asked():
            return self._inner.execute(sql, [_to_host(value) for value in params])


class Connection(_Executor):
    """One database."""

    @contextmanager
    def transaction(self):
        """``with db.transaction() as tx``: commits at the end, undoes everything if something is raised."""
        with asked():
            transaction = self._inner.begin()
        try:
            yield _Executor(transaction)
        except BaseException:
            # What was raised says more than a rollback that failed, which the host does anyway.
            try:
                wit_sql.Transaction.rollback(transaction)
            except Exception:
                pass
            raise
        with asked():
            wit_sql.Transaction.commit(transaction)
