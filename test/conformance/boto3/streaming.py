"""Responses that are handed on while the function still writes them."""

import base64
import json

import suite
from suite import UUID, Case, lam, log_events

CODE = """
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');

exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.setContentType('text/plain');
  if (event.early) throw new RangeError('before anything');
  stream.write('first');
  console.log('wrote first');
  if (event.fail) throw new TypeError('boom');
  if (event.hang) await new Promise((resolve) => setTimeout(resolve, 1e6));
  if (event.exit) setTimeout(() => process.exit(7), 50);
  if (event.exit) await new Promise((resolve) => setTimeout(resolve, 1e6));
  if (event.wait) await new Promise((resolve) => setTimeout(resolve, event.wait));
  if (event.mb) {
    let left = event.mb;
    await pipeline(Readable.from((function* () { for (; left > 0; left--) yield Buffer.alloc(1 << 20, 'x'); })()), stream);
  } else {
    stream.end('second');
  }
  console.log('wrote all');
});

exports.http = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 418, headers: { 'x-a': 'b' }, cookies: ['c=d'] });
  stream.write('body');
  stream.end();
});

exports.buffered = async (event) => event;
"""


class Answer:
    """The events of a response, read to the end."""

    def __init__(self, answer):
        self.answer = answer
        self.id = answer["ResponseMetadata"]["RequestId"]
        self.events = list(answer["EventStream"])
        self.chunks = [e["PayloadChunk"]["Payload"] for e in self.events if "PayloadChunk" in e]
        self.payload = b"".join(self.chunks)
        self.end = self.events[-1]["InvokeComplete"]
        self.log = base64.b64decode(self.end.get("LogResult", "")).decode()
        self.details = json.loads(self.end.get("ErrorDetails", "null"))


def stream(name, event=None, **arguments):
    if event is not None:
        arguments["Payload"] = json.dumps(event)
    arguments.setdefault("LogType", "Tail")
    return Answer(lam.invoke_with_response_stream(FunctionName=name, **arguments))


class Streaming(Case):
    @classmethod
    def setUpClass(cls):
        case = Case()
        files = {"Code": {"ZipFile": suite.archive({"index.js": CODE})}}
        cls.streams = case.node(CODE, "index.js", Timeout=30)
        cls.short = case.node(CODE, "index.js", Timeout=1)
        cls.http = case.node(CODE, **dict(files, Handler="index.http"))
        cls.buffered = case.node(CODE, **dict(files, Handler="index.buffered"))
        cls.addClassCleanup(case.doCleanups)

    def test_answer(self):
        got = stream(self.streams, {})
        self.assertEqual((200, "$LATEST", b"firstsecond"), (got.answer["StatusCode"], got.answer["ExecutedVersion"], got.payload))
        self.assertEqual("application/vnd.amazon.eventstream", got.answer["ResponseMetadata"]["HTTPHeaders"]["content-type"])
        self.assertRegex(got.id, UUID)
        self.assertEqual(["LogResult"], list(got.end))
        self.assertIn(f"START RequestId: {got.id}", got.log)
        self.assertIn("wrote all", got.log)
        self.assertIn(f"REPORT RequestId: {got.id}\tDuration: ", got.log)
        self.assertEqual(1, sum("InvokeComplete" in e for e in got.events))
        self.assertEqual({}, stream(self.streams, {}, LogType="None").end)

    def test_first_byte_while_the_function_runs(self):
        name = self.node(CODE, "index.js", Timeout=5)
        answer = lam.invoke_with_response_stream(FunctionName=name, Payload=b'{"hang": true}')
        self.assertEqual(b"first", next(iter(answer["EventStream"]))["PayloadChunk"]["Payload"])
        printed = log_events("/aws/lambda/" + name, "wrote first")
        self.assertTrue(printed)
        self.assertFalse([m for m in printed if m.startswith("END ")])
        answer["EventStream"].close()
        log_events("/aws/lambda/" + name, "REPORT ")  # it goes on until its time is up

    def test_client_that_goes_away(self):
        name = self.node(CODE, "index.js", Timeout=30)
        answer = lam.invoke_with_response_stream(FunctionName=name, Payload=b'{"mb": 5, "wait": 200}')
        next(iter(answer["EventStream"]))
        answer["EventStream"].close()
        printed = log_events("/aws/lambda/" + name, "REPORT ")
        self.assertTrue([m for m in printed if "wrote all" in m], printed)
        report = next(m for m in printed if m.startswith("REPORT "))
        self.assertNotIn("Status:", report)
        self.assertGreater(float(report.split("Duration: ")[1].split(" ")[0]), 200)

    def test_megabytes(self):
        got = stream(self.streams, {"mb": 5})
        self.assertEqual(b"first" + b"x" * (5 << 20), got.payload)
        self.assertNotIn("ErrorCode", got.end)

    def test_failures(self):
        for event, name, payload, kind, message in [
            ({"early": True}, self.streams, b"", "RangeError", "before anything"),
            ({"fail": True}, self.streams, b"first", "TypeError", "boom"),
            ({"exit": True}, self.streams, b"first", "Runtime.ExitError", "Runtime exited with error: exit status 7"),
            ({"hang": True}, self.short, b"first", "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
        ]:
            with self.subTest(event=event):
                got = stream(name, event)
                self.assertEqual((200, payload, "Unhandled", kind), (got.answer["StatusCode"], got.payload, got.end["ErrorCode"], got.details["errorType"]))
                self.assertTrue(got.details["errorMessage"].endswith(message), got.details)
                self.assertIn("REPORT RequestId: " + got.id, got.log)
                self.assertEqual(b"firstsecond", stream(name, {}).payload)

    def test_http(self):
        prelude, _, body = stream(self.http).payload.partition(bytes(8))
        self.assertEqual(({"statusCode": 418, "headers": {"x-a": "b"}, "cookies": ["c=d"]}, b"body"), (json.loads(prelude), body))

    def test_buffered(self):
        got = stream(self.buffered, {"a": 1})
        self.assertEqual([b'{"a":1}'], got.chunks)
        self.assertEqual(b"firstsecond", suite.invoke(self.streams, {}).raw)
        whole = suite.invoke(self.streams, {"fail": True})
        self.assertEqual(("Unhandled", "TypeError"), (whole.error, whole.payload["errorType"]))

    def test_dry_run(self):
        answer = lam.invoke_with_response_stream(FunctionName=self.streams, InvocationType="DryRun")
        self.assertEqual(204, answer["ResponseMetadata"]["HTTPStatusCode"])

    def test_refused(self):
        with self.not_found("^Function not found: "):
            lam.invoke_with_response_stream(FunctionName="nobody")
        with self.refused("InvalidRequestContentException", 400, "^Could not parse request body into json"):
            lam.invoke_with_response_stream(FunctionName=self.streams, Payload=b"{")
        with self.validation("^1 validation error detected: Value 'Event' at 'invocationType' failed"):
            lam.invoke_with_response_stream(FunctionName=self.streams, InvocationType="Event")
