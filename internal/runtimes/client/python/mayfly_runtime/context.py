"""The context object that a handler gets as its second argument."""

import os
import time

_memory = _name = _version = _group = _stream = None


def read_environment():
    """Takes what is the same for all events from the environment."""
    global _memory, _name, _version, _group, _stream
    get = os.environ.get
    _memory = get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    _name = get("AWS_LAMBDA_FUNCTION_NAME")
    _version = get("AWS_LAMBDA_FUNCTION_VERSION")
    _group = get("AWS_LAMBDA_LOG_GROUP_NAME")
    _stream = get("AWS_LAMBDA_LOG_STREAM_NAME")


class _Record:
    """Has the attributes named in __slots__, None where the JSON object has no such member."""

    __slots__ = ()

    def __init__(self, members):
        for name in self.__slots__:
            setattr(self, name, members.get(name))

    def __repr__(self):
        return "%s([%s])" % (
            type(self).__name__,
            ",".join("%s=%s" % (name, getattr(self, name, None)) for name in self.__slots__),
        )


class CognitoIdentity(_Record):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(_Record):
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(_Record):
    __slots__ = ("custom", "env", "client")


class LambdaContext:
    """One invocation. client_context and identity are the parsed JSON of their headers, or None."""

    def __init__(self, request_id, arn, deadline_ms, client_context, identity, tenant_id, log):
        self.aws_request_id = request_id
        self.log_group_name = _group
        self.log_stream_name = _stream
        self.function_name = _name
        self.memory_limit_in_mb = _memory
        self.function_version = _version
        self.invoked_function_arn = arn
        self.tenant_id = tenant_id
        self.client_context = None
        if client_context is not None:
            self.client_context = ClientContext(client_context)
            if self.client_context.client is not None:
                self.client_context.client = Client(self.client_context.client)
        identity = identity or {}
        self.identity = CognitoIdentity(
            {
                "cognito_identity_id": identity.get("cognitoIdentityId"),
                "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId"),
            }
        )
        self._epoch_deadline_time_in_ms = deadline_ms
        self._log = log

    def get_remaining_time_in_millis(self):
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def log(self, msg):
        self._log(str(msg))

    def __repr__(self):
        shown = (
            "aws_request_id",
            "log_group_name",
            "log_stream_name",
            "function_name",
            "memory_limit_in_mb",
            "function_version",
            "invoked_function_arn",
            "client_context",
            "identity",
            "tenant_id",
        )
        return "%s([%s])" % (type(self).__name__, ",".join("%s=%s" % (name, getattr(self, name)) for name in shown))
