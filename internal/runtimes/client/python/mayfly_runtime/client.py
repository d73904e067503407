"""The loop of the client: start, load the handler, then event after event."""

import os
import sys

from . import codec, context, loader, sink, state
from .api import ApiError, RuntimeApi
from .loader import Fault


def main():
    if "MAYFLY_PREINIT_FD" in os.environ:
        from . import preinit

        preinit.wait(int(os.environ["MAYFLY_PREINIT_FD"]))
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    state.sink = sink.from_environment()
    state.json_logs = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    context.read_environment()
    encoder = codec.Encoder(ascii=not _writes_utf8(os.environ.get("AWS_EXECUTION_ENV", "")))
    try:
        loader.set_search_path()
        if "logging" in sys.modules:
            loader.install_logging()
        handler = loader.load(os.environ.get("_HANDLER", ""))
    except Exception as e:
        _report(e, None, encoder, api.fail_init)
        sys.exit(1)
    while True:
        headers, event = api.next()
        try:
            _invoke(api, handler, encoder, headers, event)
        except ApiError as e:
            if e.status >= 500:
                raise  # as the contract of the Runtime API has it
            state.sink.log("[ERROR] %s\n" % e, sink.ERROR)


def _writes_utf8(execution_env):
    """From Python 3.12 on, AWS writes text that is not ASCII as it is."""
    name, _, minor = execution_env.partition("python3.")
    return name == "AWS_Lambda_" and minor.isdigit() and int(minor) >= 12


def _invoke(api, handler, encoder, headers, event):
    request_id = headers.get("lambda-runtime-aws-request-id", "")
    state.request_id = request_id
    state.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
    if "lambda-runtime-trace-id" in headers:
        os.environ["_X_AMZN_TRACE_ID"] = headers["lambda-runtime-trace-id"]
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    try:
        lambda_context = context.LambdaContext(
            request_id,
            headers.get("lambda-runtime-invoked-function-arn"),
            int(headers.get("lambda-runtime-deadline-ms", 0)),
            _json_header(headers.get("lambda-runtime-client-context"), "Client Context"),
            _json_header(headers.get("lambda-runtime-cognito-identity"), "Cognito Identity"),
            state.tenant_id,
            state.sink.log,
        )
        if headers.get("content-type", "application/json") == "application/json":
            try:
                event = codec.decode(event)
            except Exception as e:
                raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)
        result = handler(event, lambda_context)
        content_type = "application/unknown"
        if not isinstance(result, bytes):
            content_type = "application/json"
            try:
                result = encoder.encode(result).encode("utf-8")
            except Exception as e:
                raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)
    except Exception as e:
        _report(
            e,
            request_id,
            encoder,
            lambda error_type, body, cause: api.fail(request_id, error_type, body, cause),
        )
        return
    _flush()
    api.respond(request_id, result, content_type)


def _json_header(text, name):
    if not text:
        return None
    try:
        return codec.decode(text.encode("utf-8", "surrogateescape"))
    except Exception as e:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, e))


def _report(error, request_id, encoder, post):
    """Logs an error and posts it; without a request id it is one of the start."""
    from . import faults

    if isinstance(error, Fault):
        payload, cause = faults.of_fault(error, request_id)
    else:
        payload, cause = faults.of_exception(error, request_id)
    if request_id is None:
        faults.warn()
    faults.log(payload)
    _flush()
    post(payload["errorType"], encoder.encode(payload).encode("utf-8", "backslashreplace"), cause)


def _flush():
    """Writes out what the function printed without a line break. It may have replaced or closed the streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
