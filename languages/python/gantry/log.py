"""Messages for whoever operates the plugin. What is printed goes to the log, too."""

from wit_world.imports import wit_logging


def _write(level):
    def write(*values):
        wit_logging.log(level, "", " ".join(str(value) for value in values))

    return write


trace = _write(wit_logging.Level.TRACE)
debug = _write(wit_logging.Level.DEBUG)
info = _write(wit_logging.Level.INFO)
warn = _write(wit_logging.Level.WARN)
error = _write(wit_logging.Level.ERROR)
