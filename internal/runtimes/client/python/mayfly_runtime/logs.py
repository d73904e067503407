"""The root handler of the logging module, in AWS's text and JSON formats. Loaded with logging itself, not before."""

import logging
import os
import time

from . import state

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "aws_request_id", "tenant_id"}


def install():
    """Puts the handler on the root logger; called once, when logging has been imported."""
    logging.Formatter.converter = time.gmtime
    root = logging.getLogger()
    handler = LambdaLoggerHandler(state.sink)
    handler.setFormatter(JsonFormatter() if state.json_logs else _text_formatter())
    handler.addFilter(LambdaLoggerFilter())
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = "DEBUG" if level == "TRACE" else level
    if isinstance(logging.getLevelName(level), int):
        root.setLevel(level)
    root.addHandler(handler)


def _text_formatter():
    return logging.Formatter(
        "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"
    )


class LambdaLoggerHandler(logging.Handler):
    def __init__(self, log_sink):
        super().__init__()
        self.log_sink = log_sink

    def emit(self, record):
        self.log_sink.log(self.format(record), _level(record) // 10 + 1 if _level(record) else 0, not state.json_logs)


class LambdaLoggerFilter(logging.Filter):
    """Gives every record the request that it belongs to."""

    def filter(self, record):
        record.aws_request_id = state.request_id or ""
        record.tenant_id = state.tenant_id
        return True


def _level(record):
    return min(50, max(0, record.levelno)) // 10 * 10


class JsonFormatter(logging.Formatter):
    """One JSON object a record; what a caller passes as extra becomes further members."""

    def __init__(self):
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%SZ")

    def format(self, record):
        record.levelno = _level(record)
        record.levelname = logging.getLevelName(record.levelno)
        members = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[0] is not None:
            import traceback

            kind, error, trace = record.exc_info
            members["stackTrace"] = traceback.format_tb(trace)
            members["errorType"] = kind.__name__
            members["errorMessage"] = str(error)
        members["requestId"] = record.aws_request_id
        if record.exc_info:
            members["location"] = "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)
        if record.tenant_id is not None:
            members["tenantId"] = record.tenant_id
        for name, value in record.__dict__.items():
            if name not in _OWN and name not in members and value is not None:
                members[name] = value
        return state.log_encoder().encode(members) + "\n"
