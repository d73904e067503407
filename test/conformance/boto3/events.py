"""Asynchronous invocation: retries, destinations, configurations. The server retries after 200 ms, and twice that."""

import json

from permissions import CALLER
from queueing import QueueCase, queue_arn, queue_name
from suite import ACCOUNT, Case, REGION, eventually, function_arn, invoke, lam, log_events, signed

FAILS = """
def handler(event, context):
    print('attempt', context.aws_request_id)
    raise ValueError(event.get('why', 'no'))
"""

RECEIVES = """
import json
def handler(event, context):
    print('record', json.dumps(event))
"""

WORKS = "def handler(event, context):\n    return {'got': event}\n"


class Events(Case):
    def event(self, name, payload, **arguments):
        answer = lam.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(payload), **arguments)
        self.assertEqual((202, b""), (answer["StatusCode"], answer["Payload"].read()))
        self.assertNotIn("ExecutedVersion", answer)
        return answer["ResponseMetadata"]["RequestId"]

    def receiver(self):
        name = self.python(RECEIVES)
        return name, function_arn(name)

    def records(self, name, n=1):
        def read():
            found = [m[len("record "):] for m in log_events("/aws/lambda/" + name, "record ") if m.startswith("record ")]
            return found if len(found) >= n else None

        return [json.loads(r) for r in eventually(read, 30) or []]

    def test_retries_and_failure(self):
        name = self.python(FAILS)
        to, arn = self.receiver()
        lam.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnFailure": {"Destination": arn}})
        request = self.event(name, {"why": "boom"})
        (record,) = self.records(to)
        self.assertEqual(["version", "timestamp", "requestContext", "requestPayload", "responseContext", "responsePayload"], list(record))
        self.assertEqual("1.0", record["version"])
        self.assertRegex(record["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            {"requestId": request, "functionArn": function_arn(name, "$LATEST"), "condition": "RetriesExhausted", "approximateInvokeCount": 3},
            record["requestContext"],
        )
        self.assertEqual({"why": "boom"}, record["requestPayload"])
        self.assertEqual({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}, record["responseContext"])
        self.assertEqual(("boom", "ValueError", request), tuple(record["responsePayload"][k] for k in ("errorMessage", "errorType", "requestId")))
        attempts = [m for m in log_events("/aws/lambda/" + name, "attempt") if m.startswith("attempt")]
        self.assertEqual([f"attempt {request}"] * 3, [a.strip() for a in attempts])

    def test_success(self):
        name = self.python(WORKS)
        to, arn = self.receiver()
        lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnSuccess": {"Destination": arn}})
        request = self.event(name, {"a": 1})
        (record,) = self.records(to)
        self.assertEqual(("Success", 1, request), tuple(record["requestContext"][k] for k in ("condition", "approximateInvokeCount", "requestId")))
        self.assertEqual({"statusCode": 200, "executedVersion": "$LATEST"}, record["responseContext"])
        self.assertEqual({"got": {"a": 1}}, record["responsePayload"])

    def test_no_retry(self):
        name = self.python(FAILS)
        to, arn = self.receiver()
        lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": arn}})
        self.event(name, {})
        (record,) = self.records(to)
        self.assertEqual(1, record["requestContext"]["approximateInvokeCount"])

    def test_alias(self):
        name = self.python(FAILS)
        lam.publish_version(FunctionName=name)
        lam.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        to, arn = self.receiver()
        lam.put_function_event_invoke_config(FunctionName=name, Qualifier="live", MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": arn}})
        self.event(name, {}, Qualifier="live")
        (record,) = self.records(to)
        self.assertEqual((function_arn(name, "live"), 2), (record["requestContext"]["functionArn"], record["requestContext"]["approximateInvokeCount"]))
        self.assertEqual("1", record["responseContext"]["executedVersion"])

    def test_switched_off(self):
        name = self.python(WORKS)
        to, arn = self.receiver()
        lam.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnFailure": {"Destination": arn}})
        lam.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.event(name, {"b": 2})
        (record,) = self.records(to)
        self.assertEqual({"b": 2}, record["requestPayload"])
        self.assertEqual(0, record["requestContext"]["approximateInvokeCount"])

    def test_refused(self):
        name = self.python(WORKS)
        with self.refused("RequestTooLargeException", 413, "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"):
            lam.invoke(FunctionName=name, InvocationType="Event", Payload=b'"' + b"x" * ((1 << 20) - 1) + b'"')
        with self.refused("InvalidRequestContentException", 400, "^Could not parse request body into json"):
            lam.invoke(FunctionName=name, InvocationType="Event", Payload=b"{")
        with self.not_found("^Function not found: "):
            lam.invoke(FunctionName="nobody", InvocationType="Event", Payload=b"{}")

    def test_legacy(self):
        name = self.python(RECEIVES)
        answer = signed("POST", f"/2014-11-13/functions/{name}/invoke-async/", b'{"old":true}')
        self.assertEqual(202, answer.status)
        self.assertEqual([{"old": True}], self.records(name))


class ToQueues(QueueCase):
    """Dead letters and records of invocations, in queues."""

    event = Events.event

    def message(self, url):
        return self.one(url, AttributeNames=["All"], MessageAttributeNames=["All"])

    def test_dead_letters(self):
        url = self.queue()
        name = self.python(FAILS, DeadLetterConfig={"TargetArn": queue_arn(queue_name(url))})
        lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        request = self.event(name, {"why": "boom"})
        got = self.message(url)
        self.assertEqual({"why": "boom"}, json.loads(got["Body"]))
        self.assertEqual(
            {"RequestID": {"DataType": "String", "StringValue": request}, "ErrorCode": {"DataType": "Number", "StringValue": "200"}, "ErrorMessage": {"DataType": "String", "StringValue": "boom"}},
            got["MessageAttributes"],
        )
        self.assertIn("AWSTraceHeader", got["Attributes"])
        self.assertTrue(got["Attributes"]["SenderId"].endswith(":" + name), got["Attributes"])

    def test_records(self):
        good, bad = self.queue(), self.queue()
        name = self.python("def handler(event, context):\n    if event.get('fail'): raise ValueError('as told')\n    return {'got': event}\n")
        lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={
            "OnSuccess": {"Destination": queue_arn(queue_name(good))}, "OnFailure": {"Destination": queue_arn(queue_name(bad))}})
        request = self.event(name, {"a": 1})
        record = json.loads(self.message(good)["Body"])
        self.assertEqual(("Success", request, {"got": {"a": 1}}), (record["requestContext"]["condition"], record["requestContext"]["requestId"], record["responsePayload"]))
        request = self.event(name, {"fail": True})
        record = json.loads(self.message(bad)["Body"])
        self.assertEqual(("RetriesExhausted", request, "as told"), (record["requestContext"]["condition"], record["requestContext"]["requestId"], record["responsePayload"]["errorMessage"]))

    def test_sends_from_inside(self):
        """A function reaches queues by the URL that it asked for, with its role."""
        url = self.queue()
        name = self.python(CALLER)

        def call(operation, body):
            answer = invoke(name, {"service": "sqs", "method": "POST", "path": "/", "body": json.dumps(body), "headers": {
                "content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS." + operation}})
            self.assertEqual(200, answer.payload[0], answer.payload)
            return json.loads(answer.payload[1])

        inside = call("GetQueueUrl", {"QueueName": queue_name(url)})["QueueUrl"]
        call("SendMessage", {"QueueUrl": inside, "MessageBody": "from inside"})
        self.assertEqual("from inside", self.one(url)["Body"])


class Configurations(Case):
    def test_life(self):
        name = self.create()
        arn = function_arn(name, "$LATEST")
        got = lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
        self.assertEqual((arn, 1, {"OnSuccess": {}, "OnFailure": {}}), (got["FunctionArn"], got["MaximumRetryAttempts"], got["DestinationConfig"]))
        self.assertNotIn("MaximumEventAgeInSeconds", got)
        got = lam.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
        self.assertEqual((1, 60), (got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]))
        got = lam.put_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=90)
        self.assertNotIn("MaximumRetryAttempts", got)
        listed = lam.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]
        self.assertEqual([(arn, 90)], [(c["FunctionArn"], c["MaximumEventAgeInSeconds"]) for c in listed])
        self.assertEqual(204, lam.delete_function_event_invoke_config(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"])
        with self.not_found(f"The function {arn} doesn't have an EventInvokeConfig"):
            lam.get_function_event_invoke_config(FunctionName=name)

    def test_refused(self):
        name = self.create()
        put = lambda where, key="OnSuccess": lam.put_function_event_invoke_config(FunctionName=name, DestinationConfig={key: {"Destination": where}})
        with self.invalid("You must specify at least one of error handling or destination setting."):
            lam.put_function_event_invoke_config(FunctionName=name)
        with self.invalid("You can't specify the function as a destination for itself."):
            put(function_arn(name))
        with self.invalid(f"The destination ARN {function_arn('nobody')} is invalid."):
            put(function_arn("nobody"))
        with self.invalid("^The provided destination config DestinationConfig"):
            put(f"arn:aws:iam::{ACCOUNT}:role/r")
        with self.invalid("^.*Mayfly does not serve events:PutEvents yet.$"):
            put(f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default")
        with self.not_found("The function doesn't exist."):
            lam.put_function_event_invoke_config(FunctionName="nobody", MaximumRetryAttempts=1)
        with self.validation("^1 validation error detected: Value '3' at 'maximumRetryAttempts'"):
            lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=3)

    def test_dead_letters(self):
        with self.invalid("^The provided target arn is invalid: arn:aws:events:"):
            self.create(DeadLetterConfig={"TargetArn": f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"})
