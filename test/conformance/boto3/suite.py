"""What the suites share: clients, archives, functions that go away with their test, and expected errors."""

import base64
import contextlib
import http.client
import io
import json
import os
import time
import unittest
import urllib.parse
import uuid
import zipfile

import boto3
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
REGION = os.environ["AWS_REGION"]
CREDENTIALS = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_session = boto3.session.Session()


def client(service, **settings):
    """A client that tries once and checks nothing itself, so that the server is what is tested."""
    return _session.client(service, config=Config(retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=90, **settings))


lam, logs, iam, sts = client("lambda"), client("logs"), client("iam"), client("sts")

ACCOUNT = sts.get_caller_identity()["Account"]
ROLE = f"arn:aws:iam::{ACCOUNT}:role/suite"  # made by whoever started the server


def function_arn(name, qualifier=None):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}" + (f":{qualifier}" if qualifier else "")


def archive(files):
    """A .zip file of names and contents; a content may be a pair with the mode."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            mode = 0o644
            if isinstance(content, tuple):
                content, mode = content
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100000 | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(info, content)
    return out.getvalue()


def bootstrap_archive():
    with open(os.environ["MAYFLY_BOOTSTRAP"], "rb") as f:
        return archive({"bootstrap": (f.read(), 0o755)})


def signed(method, path, body=b"", service="lambda", headers=None, credentials=CREDENTIALS, region=REGION, prepare=None, signer=SigV4Auth, **options):
    """Sends a signed request of any form. prepare may change it after it was signed."""
    request = AWSRequest(method=method, url=ENDPOINT + path, data=body, headers=headers or {})
    signer(credentials, service, region, **options).add_auth(request)
    if prepare:
        prepare(request)
    return send(method, request.url, request.body, dict(request.headers))


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The error's code as REST JSON services give it."""
        return self.headers["x-amzn-ErrorType"].partition(":")[0]


def send(method, url, body=b"", headers=None):
    u = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(u.netloc, timeout=90)
    try:
        connection.request(method, u.path + ("?" + u.query if u.query else ""), body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


class Case(unittest.TestCase):
    maxDiff = None

    def name(self, word="f"):
        return f"{word}-{uuid.uuid4().hex[:12]}"

    @contextlib.contextmanager
    def refused(self, code, status, message=None, **members):
        """Expects an error: its code, HTTP status and message, which may be a regular expression that starts with ^."""
        try:
            yield
        except ClientError as e:
            self.error = e.response
        else:
            self.fail(f"not refused with {code}")
        got, meta = self.error["Error"], self.error["ResponseMetadata"]
        self.assertEqual((code, status), (got["Code"], meta["HTTPStatusCode"]), got.get("Message"))
        if message is not None and message.startswith("^"):
            self.assertRegex(got["Message"], message)
        elif message is not None:
            self.assertEqual(message, got["Message"])
        self.assertRegex(meta["RequestId"], UUID)
        for name, value in members.items():
            self.assertEqual(value, self.error.get(name), name)

    def invalid(self, message):
        return self.refused("InvalidParameterValueException", 400, message, Type="User")

    def validation(self, message):
        return self.refused("ValidationException", 400, message)

    def not_found(self, message):
        return self.refused("ResourceNotFoundException", 404, message, Type="User")

    def create(self, name=None, **arguments):
        """Creates a function that is deleted after the test, and waits until it is active. The code is of Python unless told otherwise."""
        arguments = dict(dict(FunctionName=name or self.name(), Role=ROLE, Runtime="provided.al2023", Handler="bootstrap"), **arguments)
        if "Code" not in arguments:
            arguments["Code"] = {"ZipFile": bootstrap_archive()}
        answer = lam.create_function(**arguments)
        self.addCleanup(delete, answer["FunctionName"])
        self.wait("function_active_v2", answer["FunctionName"])
        return answer["FunctionName"]

    def python(self, code, **arguments):
        return self.create(**dict(dict(Runtime="python3.11", Handler="app.handler", Code={"ZipFile": archive({"app.py": code})}), **arguments))

    def node(self, code, file="index.mjs", **arguments):
        return self.create(**dict(dict(Runtime="nodejs22.x", Handler="index.handler", Code={"ZipFile": archive({file: code})}), **arguments))

    def wait(self, what, name, **arguments):
        w = lam.get_waiter(what)
        w.config.delay, w.config.max_attempts = 0.02, 1000
        w.wait(FunctionName=name, **arguments)

    def group(self, **arguments):
        name = "/conformance/" + self.name("group")
        logs.create_log_group(logGroupName=name, **arguments)
        self.addCleanup(delete_group, name)
        return name


def delete(name):
    with contextlib.suppress(ClientError):
        lam.delete_function(FunctionName=name)
    delete_group("/aws/lambda/" + name)


def delete_group(name):
    with contextlib.suppress(ClientError):
        logs.delete_log_group(logGroupName=name)


class Invocation:
    """An answer of Invoke with its payload and log read."""

    def __init__(self, answer):
        meta = answer["ResponseMetadata"]
        self.id = meta["RequestId"]
        self.status = answer["StatusCode"]
        self.error = answer.get("FunctionError")
        self.version = answer.get("ExecutedVersion")
        self.raw = answer["Payload"].read()
        self.headers = meta["HTTPHeaders"]
        self.log = base64.b64decode(answer.get("LogResult", "")).decode()
        self.lines = self.log.split("\n")

    @property
    def payload(self):
        return json.loads(self.raw)

    def report(self):
        """The REPORT line's parts by name."""
        line = next(l for l in self.lines if l.startswith("REPORT "))
        return dict(part.split(": ", 1) for part in line[len("REPORT "):].rstrip("\t").split("\t"))


def invoke(name, event=None, **arguments):
    if event is not None:
        arguments["Payload"] = json.dumps(event)
    arguments.setdefault("LogType", "Tail")
    return Invocation(lam.invoke(FunctionName=name, **arguments))


def eventually(read, limit=20):
    """Returns what read returns as soon as that is true of it."""
    deadline = time.monotonic() + limit
    while True:
        got = read()
        if got or time.monotonic() > deadline:
            return got
        time.sleep(0.02)


def log_events(group, wanted=None):
    """The messages in a group, once those are there that the wanted text stands in."""

    def read():
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            messages = [e["message"] for p in pages for e in p["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return None
        return messages if not wanted or any(wanted in m for m in messages) else None

    return eventually(read) or []
