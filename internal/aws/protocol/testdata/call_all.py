# Calls every operation of the services named in the arguments at an endpoint that answers each with all members set, and prints what is
# missing from the parsed answers. usage: call_all.py ENDPOINT SERVICE...
import datetime
import sys

import botocore.config
import botocore.session

endpoint, services = sys.argv[1], sys.argv[2:]


def value(shape, depth=0):
    """A value of a shape, the first member of a union, nothing below six levels."""
    kind = shape.type_name
    if kind == "structure":
        if depth > 5:
            return {}
        members = list(shape.members.items())
        return {n: value(m, depth + 1) for n, m in (members[:1] if shape.is_tagged_union else members)}
    if kind == "list":
        return [value(shape.member, depth + 1)]
    if kind == "map":
        return {"k": value(shape.value, depth + 1)}
    if kind == "string":
        return shape.enum[0] if shape.enum else "abcdefgh" * (int(shape.metadata.get("min") or 0) // 8 + 1)
    return {"blob": b"blob", "boolean": True, "integer": 1, "long": 1, "float": 1.5, "double": 1.5, "timestamp": datetime.datetime(2026, 1, 1)}[kind]


def check(shape, got, path, depth=0):
    """Prints the members that are missing or have the wrong size, two levels deep."""
    if shape.type_name != "structure" or shape.is_tagged_union or depth > 1:
        return
    for name, m in shape.members.items():
        at = path + "." + name
        if name not in got:
            print("missing:", at)
        elif m.type_name == "structure" and isinstance(got[name], dict):
            check(m, got[name], at, depth + 1)
        elif m.type_name in ("list", "map") and len(got[name]) != 2:
            print("size:", at, got[name])
        elif m.type_name == "list":
            check(m.member, got[name][0], at, depth + 1)


for service in services:
    client = botocore.session.Session().create_client(
        service, endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id="AKID", aws_secret_access_key="secret",
        config=botocore.config.Config(
            parameter_validation=False, retries={"total_max_attempts": 1}, inject_host_prefix=False, s3={"addressing_style": "path"},
            request_checksum_calculation="when_required", response_checksum_validation="when_required"))
    client.meta.events.register("before-sign.*", lambda request, operation_name, **_: request.headers.__setitem__("X-Operation", operation_name))
    for name in client.meta.service_model.operation_names:
        op = client.meta.service_model.operation_model(name)
        if op.has_event_stream_output:
            continue
        args = value(op.input_shape) if op.input_shape else {}
        for k in list(args):  # members that botocore fills or checks itself
            if k.startswith(("SSECustomer", "CopySourceSSE")) or "Checksum" in k or k in ("ContentMD5", "ContentLength"):
                del args[k]
        if service == "s3":
            args.update({k: v for k, v in (("Bucket", "bucket"), ("CopySource", "b/k")) if k in args})
        try:
            got = client._make_api_call(name, args)
        except Exception as e:
            print("failed:", service, name, repr(e)[:300])
            continue
        if op.output_shape:
            check(op.output_shape, got, service + "." + name)
