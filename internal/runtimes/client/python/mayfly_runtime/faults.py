"""Errors as the caller, the log and X-Ray see them. Loaded when there is one."""

import linecache
import os
import time
import traceback

from . import sink, state

_HERE = os.path.dirname(__file__) + os.sep
_CAUSE_LIMIT = 32 << 10  # bytes of a header; a longer cause is left out


def of_fault(fault, request_id):
    """The report on an error of the runtime's own: (payload, X-Ray cause)."""
    return (
        _payload(fault.message, fault.error_type, request_id, fault.trace),
        _cause("LambdaValidationError", fault.message, []),
    )


def of_exception(error, request_id):
    """The report on an exception of the function: (payload, X-Ray cause). The client's own frames are left out."""
    linecache.checkcache()
    frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(error.__traceback__)]
    for i, frame in enumerate(frames):
        if not frame[0].startswith(_HERE):
            frames = frames[i:]
            break
    name = type(error).__name__
    try:
        message = str(error)
    except Exception:
        message = "<unprintable %s object>" % name
    return _payload(message, name, request_id, traceback.format_list(frames)), _cause(name, message, frames)


def _payload(message, error_type, request_id, trace):
    return {
        "errorMessage": message or "",
        "errorType": error_type or "",
        "requestId": request_id or "",
        "stackTrace": trace or [],
    }


def _cause(error_type, message, frames):
    import json

    cause = {
        "working_directory": os.getcwd(),
        "exceptions": [
            {
                "message": message,
                "type": error_type,
                "stack": [{"label": name, "path": path, "line": line} for path, line, name, _ in frames],
            }
        ],
        "paths": sorted({frame[0] for frame in frames}),
    }
    text = json.dumps(cause)
    return text if len(text) <= _CAUSE_LIMIT else ""


def log(payload):
    """Writes the error to the log as one record."""
    if state.json_logs:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = {"timestamp": stamp, "log_level": "ERROR"}
        record.update(payload)
        state.sink.log(state.log_encoder().encode(record) + "\n", sink.ERROR, 0)
        return
    head = "[ERROR]"
    if payload["errorType"]:
        head += " " + payload["errorType"] + (":" if payload["errorMessage"] else "")
    if payload["errorMessage"]:
        head += " " + payload["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for element in payload["stackTrace"]:
        for line in element.splitlines() or [""]:
            bare = line.lstrip(" ")
            lines.append("\u00a0" * (len(line) - len(bare)) + bare)  # the console would swallow spaces
    state.sink.log("\n".join(lines) + "\n", sink.ERROR)


def warn():
    """Says, as AWS does before the report of a failed start, whose error it most likely is."""
    import logging

    logging.warning(
        "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code. "
        "The version of Python that runs it is in the INIT_START log entry."
    )
