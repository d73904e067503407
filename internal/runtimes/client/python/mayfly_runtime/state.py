"""What the parts of the client share: the invocation that runs now, and how to log."""

sink = None
json_logs = False
request_id = None
tenant_id = None

_encoder = None


def log_encoder():
    global _encoder
    if _encoder is None:
        import json

        _encoder = json.JSONEncoder(ensure_ascii=False)
    return _encoder
