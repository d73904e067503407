"""Invocations that succeed, what the function sees, and what the caller gets."""

import base64
import concurrent.futures
import json
import time

import suite
from suite import ACCOUNT, REGION, ROLE, UUID, Case, archive, eventually, function_arn, lam, log_events, signed

ECHO = "def handler(event, context):\n    print('printed', event)\n    return event\n"

# Signs a request by hand, as boto3 need not be in the sandbox.
WHO = '''
import datetime, hashlib, hmac, os, urllib.request

def handler(event, context):
    url, region = os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_REGION"]
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    host = url.split("//")[1].rstrip("/")
    headers = {"content-type": "application/x-www-form-urlencoded", "host": host, "x-amz-date": at, "x-amz-security-token": os.environ["AWS_SESSION_TOKEN"]}
    names = ";".join(sorted(headers))
    canonical = "\\n".join(["POST", "/", ""] + [f"{k}:{headers[k]}" for k in sorted(headers)] + ["", names, hashlib.sha256(body).hexdigest()])
    scope = f"{at[:8]}/{region}/sts/aws4_request"
    to_sign = "\\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, SignedHeaders={names}, Signature={signature}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        return answer.read().decode()
'''


class Invoke(Case):
    @classmethod
    def setUpClass(cls):
        case = Case()
        cls.echo = case.python(ECHO)
        cls.go = case.create()
        cls.addClassCleanup(case.doCleanups)

    def test_answer(self):
        got = suite.invoke(self.echo, {"a": [1, "zwei", None]})
        self.assertEqual((200, None, "$LATEST", {"a": [1, "zwei", None]}), (got.status, got.error, got.version, got.payload))
        self.assertRegex(got.id, UUID)
        self.assertEqual(str(len(got.raw)), got.headers["content-length"])

    def test_log_tail(self):
        got = suite.invoke(self.echo, {"n": 1})
        lines = [l for l in got.lines if l and not l.startswith("INIT_START")]
        self.assertEqual([f"START RequestId: {got.id} Version: $LATEST", "printed {'n': 1}", f"END RequestId: {got.id}"], lines[:3])
        self.assertRegex(lines[3], rf"^REPORT RequestId: {got.id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t")
        self.assertNotIn("LogResult", lam.invoke(FunctionName=self.echo))

    def test_cold_report(self):
        name = self.python(ECHO)
        cold, warm = suite.invoke(name, {}), suite.invoke(name, {})
        self.assertNotIn("INIT_START", cold.log)
        (start,) = [m for m in log_events("/aws/lambda/" + name, "REPORT RequestId: " + warm.id) if m.startswith("INIT_START")]
        self.assertRegex(start, rf"^INIT_START Runtime Version: python:3\.\d+\S*\tRuntime Version ARN: arn:aws:lambda:{REGION}::runtime:[0-9a-f]{{64}}\n$")
        report = cold.report()
        self.assertRegex(report["Init Duration"], r"^\d+\.\d\d ms$")
        ms = lambda r, k: float(r[k].split()[0])
        both = ms(report, "Init Duration") + ms(report, "Duration")  # each rounded to hundredths
        self.assertTrue(both - 0.02 <= ms(report, "Billed Duration") < both + 1.02, "init time is billed: " + cold.log)
        self.assertNotIn("Init Duration", warm.report())
        self.assertTrue(-0.01 <= ms(warm.report(), "Billed Duration") - ms(warm.report(), "Duration") < 1.01, warm.log)
        self.assertGreater(int(warm.report()["Max Memory Used"].split()[0]), 3)

    def test_long_log_tail(self):
        name = self.python("def handler(event, context):\n    for i in range(1000): print('line', i, 'x' * 50)\n")
        got = suite.invoke(name)
        self.assertLessEqual(len(got.log), 4096)
        self.assertGreater(len(got.log), 3500)
        self.assertIn("REPORT", got.log)
        self.assertIn("line 999", got.log)

    def test_null(self):
        name = self.python("def handler(event, context): pass\n")
        self.assertEqual(b"null", suite.invoke(name).raw)

    def test_no_payload(self):
        for payload in None, b"":
            with self.subTest(payload):
                got = lam.invoke(FunctionName=self.echo, **({} if payload is None else {"Payload": payload}))
                self.assertEqual(b"{}", got["Payload"].read())

    def test_any_json(self):
        self.assertEqual(b"null", suite.Invocation(lam.invoke(FunctionName=self.echo, Payload=b"null")).raw)
        for value in True, 7, -1.5e3, "text \u00e9 \U0001f98b", [], [1, [2]], {"": {}}:
            with self.subTest(value):
                self.assertEqual(value, suite.invoke(self.echo, value).payload)

    def test_bytes_pass_through(self):
        for raw in b' { "b" : 1.0,\n"a":1e2 } ', b'"\\u00e9"', b"123456789012345678901234567890":
            with self.subTest(raw):
                self.assertEqual(raw, suite.Invocation(lam.invoke(FunctionName=self.go, Payload=raw)).raw)

    def test_answer_that_is_no_json(self):
        self.assertEqual(b"plain text", suite.invoke(self.go, {"do": "raw", "text": "plain text"}).raw)

    def test_not_json(self):
        for payload in b"{", b"nope", b'{"a":1}x', b"{'a':1}", b"\xff", b'{"a":}':
            with self.subTest(payload), self.refused("InvalidRequestContentException", 400, "^Could not parse request body into json: ", Type="User"):
                lam.invoke(FunctionName=self.echo, Payload=payload)

    def test_dry_run(self):
        got = lam.invoke(FunctionName=self.echo, InvocationType="DryRun")
        self.assertEqual((204, b""), (got["StatusCode"], got["Payload"].read()))
        self.assertNotIn("ExecutedVersion", got)
        with self.not_found("Function not found: " + function_arn("nope", "$LATEST")):
            lam.invoke(FunctionName="nope", InvocationType="DryRun")

    def test_missing(self):
        with self.not_found("Function not found: " + function_arn("nope", "$LATEST")):
            lam.invoke(FunctionName="nope")
        with self.not_found("Function not found: " + function_arn(self.echo, "nope")):
            lam.invoke(FunctionName=self.echo, Qualifier="nope")

    def test_bad_arguments(self):
        with self.validation("^1 validation error detected: Value 'Sometimes' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: "):
            lam.invoke(FunctionName=self.echo, InvocationType="Sometimes")
        with self.validation("^1 validation error detected: Value 'All' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: "):
            lam.invoke(FunctionName=self.echo, LogType="All")

    def test_event_is_accepted(self):
        answer = lam.invoke(FunctionName=self.echo, InvocationType="Event")
        self.assertEqual((202, 202, b""), (answer["StatusCode"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Payload"].read()))
        self.assertNotIn("ExecutedVersion", answer)

    def test_six_megabytes(self):
        limit = 6 << 20
        largest = b'"' + b"x" * (limit - 2) + b'"'
        self.assertEqual(largest, suite.Invocation(lam.invoke(FunctionName=self.go, Payload=largest)).raw)
        with self.refused("RequestTooLargeException", 413, f"{limit + 1} byte payload is too large for the RequestResponse invocation type (limit {limit} bytes)", Type="User"):
            lam.invoke(FunctionName=self.go, Payload=b'"' + b"x" * (limit - 1) + b'"')

    def test_client_context(self):
        name = self.python("def handler(event, context):\n    c = context.client_context\n    return [c.custom, c.env, c.client and c.client.app_title]\n")
        sent = {"custom": {"k": "v"}, "env": {"locale": "de"}, "client": {"app_title": "t"}}
        encode = lambda v: base64.b64encode(json.dumps(v).encode()).decode()
        self.assertEqual([{"k": "v"}, {"locale": "de"}, "t"], suite.invoke(name, ClientContext=encode(sent)).payload)
        for bad in "%%%", encode("x" * 2700), base64.b64encode(b"{").decode():
            with self.subTest(bad[:10]), self.refused("InvalidRequestContentException", 400):
                suite.invoke(name, ClientContext=bad)

    def test_headers_of_the_runtime_api(self):
        got = suite.invoke(self.go, {"do": "headers"}, ClientContext=base64.b64encode(b'{"custom":{}}').decode())
        h = got.payload
        self.assertEqual((got.id, function_arn(self.go), '{"custom":{}}'), (h["Lambda-Runtime-Aws-Request-Id"], h["Lambda-Runtime-Invoked-Function-Arn"], h["Lambda-Runtime-Client-Context"]))
        self.assertAlmostEqual(time.time() + 3, int(h["Lambda-Runtime-Deadline-Ms"]) / 1000, delta=3)
        self.assertNotIn("Lambda-Runtime-Cognito-Identity", h)

    def test_context_in_python(self):
        name = self.python("def handler(event, c):\n    return [c.function_name, c.function_version, c.invoked_function_arn, c.memory_limit_in_mb, c.aws_request_id, "
                           "c.log_group_name, c.log_stream_name, c.get_remaining_time_in_millis(), c.identity.cognito_identity_id, c.client_context]\n", Timeout=30)
        got = suite.invoke(name)
        p = got.payload
        self.assertEqual([name, "$LATEST", function_arn(name), "128", got.id, "/aws/lambda/" + name], [str(v) for v in p[:6]])
        self.assertRegex(p[6], r"^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$")
        self.assertTrue(20000 < p[7] <= 30000, p[7])
        self.assertEqual([None, None], p[8:])

    def test_context_in_node(self):
        name = self.node("export const handler = async (event, c) => [c.functionName, c.functionVersion, c.invokedFunctionArn, c.memoryLimitInMB, c.awsRequestId, "
                         "c.logGroupName, c.logStreamName, c.getRemainingTimeInMillis(), c.callbackWaitsForEmptyEventLoop]", Timeout=30)
        got = suite.invoke(name)
        p = got.payload
        self.assertEqual([name, "$LATEST", function_arn(name), "128", got.id, "/aws/lambda/" + name], p[:6])
        self.assertRegex(p[6], r"^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$")
        self.assertTrue(20000 < p[7] <= 30000 and p[8] is True, p)

    def test_node_handlers(self):
        for what, file, code in (
            ("callback", "index.js", "exports.handler = (event, context, callback) => setTimeout(() => callback(null, event), 5)"),
            ("promise", "index.js", "exports.handler = async (event) => event"),
            ("value in a CommonJS file", "index.cjs", "exports.handler = (event) => Promise.resolve(event)"),
            ("module", "index.mjs", "await 0; export async function handler(event) { return event }"),
            ("stream", "index.mjs", "export const handler = awslambda.streamifyResponse(async (event, out) => { out.write(JSON.stringify(event)); out.end(); })"),
        ):
            with self.subTest(what):
                self.assertEqual({"n": 1}, suite.invoke(self.node(code, file), {"n": 1}).payload)

    def test_variables(self):
        name = self.python("import os\ndef handler(event, context): return dict(os.environ)\n", MemorySize=256, Environment={"Variables": {"OWN": "äö=ü \"'$X", "TZ": "UTC", "PYTHONPATH": "/x"}})
        v = suite.invoke(name).payload
        for key, want in dict(
            OWN="äö=ü \"'$X", TZ="UTC", AWS_LAMBDA_FUNCTION_NAME=name, AWS_LAMBDA_FUNCTION_VERSION="$LATEST", AWS_LAMBDA_FUNCTION_MEMORY_SIZE="256", AWS_REGION=REGION,
            AWS_DEFAULT_REGION=REGION, AWS_EXECUTION_ENV="AWS_Lambda_python3.11", LAMBDA_TASK_ROOT="/var/task", LAMBDA_RUNTIME_DIR="/var/runtime", _HANDLER="app.handler",
            AWS_LAMBDA_INITIALIZATION_TYPE="on-demand", AWS_LAMBDA_LOG_GROUP_NAME="/aws/lambda/" + name, AWS_XRAY_CONTEXT_MISSING="LOG_ERROR",
        ).items():
            self.assertEqual(want, v.get(key), key)
        for key in "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ENDPOINT_URL", "PATH", "LD_LIBRARY_PATH":
            self.assertTrue(v.get(key), key)
        self.assertFalse([k for k in v if k.startswith("MAYFLY")])

    def test_is_its_role(self):
        name = self.python(WHO)
        got = suite.invoke(name)
        self.assertIsNone(got.error, got.raw)
        self.assertIn(f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE.rpartition('/')[2]}/{name}</Arn>", got.payload)

    def test_files(self):
        name = self.python("""import os
def handler(event, context):
    refused = []
    for path in "/var/task/x", "/opt/x", "/var/runtime/x", "/etc/x", "/x", "/home/x":
        try:
            open(path, "w").close()
            refused.append(path + " is writable")
        except OSError:
            pass
    return [os.getcwd(), refused, sorted(os.listdir("/tmp")), os.getuid() != 0]
""")
        self.assertEqual(["/var/task", [], [], True], suite.invoke(name).payload)

    def test_tmp_is_full_at_its_size(self):
        name = self.python("""import errno, os
def handler(event, context):
    n = 0
    try:
        with open("/tmp/fill", "wb") as f:
            while True:
                f.write(bytes(1 << 20)); f.flush(); n += 1
    except OSError as e:
        size = os.statvfs("/tmp")
        os.remove("/tmp/fill")
        return [errno.errorcode[e.errno], n]
""", Timeout=60, MemorySize=1024)
        code, megabytes = suite.invoke(name).payload
        self.assertEqual("ENOSPC", code)
        self.assertTrue(480 <= megabytes <= 512, megabytes)

    def test_same_environment_again(self):
        name = self.python("n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n")
        self.assertEqual([1, 2, 3], [suite.invoke(name).payload for _ in range(3)])

    def test_many_at_once(self):
        name = self.create(Timeout=30)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda i: suite.invoke(name, {"i": i}), range(64)))
        self.assertEqual([{"i": i} for i in range(64)], [g.payload for g in got])
        self.assertEqual(64, len({g.id for g in got}))

    def test_trace_header(self):
        root = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
        got = signed("POST", f"/2015-03-31/functions/{self.go}/invocations", b'{"do":"headers"}', headers={"X-Amzn-Trace-Id": root})
        self.assertIn("Root=1-5759e988-bd862e3fe1be46a994272793", got.json["Lambda-Runtime-Trace-Id"])

    def test_logs_are_stored(self):
        name = self.python("def handler(event, context):\n    print('one\\ntwo')\n")
        got = suite.invoke(name)
        group = "/aws/lambda/" + name
        messages = log_events(group, "REPORT RequestId: " + got.id)
        self.assertEqual([f"START RequestId: {got.id} Version: $LATEST\n", "one\n", "two\n", f"END RequestId: {got.id}\n"],
                         [m for m in messages if not m.startswith(("INIT_START", "REPORT"))])
        (stream,) = suite.logs.describe_log_streams(logGroupName=group)["logStreams"]
        self.assertRegex(stream["logStreamName"], r"^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$")

    def test_prints_after_its_answer(self):
        self.assertEqual(b'"early"', suite.invoke(self.go, {"do": "late"}).raw)
        self.assertTrue(any("after the answer" in m for m in log_events("/aws/lambda/" + self.go, "after the answer")))

    def test_own_log_group(self):
        group = self.group()
        name = self.python(ECHO, LoggingConfig={"LogGroup": group})
        got = suite.invoke(name)
        self.assertTrue(log_events(group, "REPORT RequestId: " + got.id))
        (stream,) = suite.logs.describe_log_streams(logGroupName=group)["logStreams"]
        self.assertRegex(stream["logStreamName"], rf"^\d{{4}}/\d\d/\d\d/{name}\[\$LATEST\]\[[0-9a-f]{{32}}\]$")
