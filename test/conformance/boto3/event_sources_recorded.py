"""Event source mappings of queues and streams: their settings, the events that functions get, what becomes of failures, as recorded."""

import base64
import json
import time

from queueing import QueueCase, queue_arn, queue_name, sqs
from streams_recorded import StreamCase, kinesis
from suite import ACCOUNT, REGION, ROLE, UUID, function_arn, lam, log_events

CODE = "import json\ndef handler(event, context):\n    print('GOT ' + json.dumps(event))\n"
FAILS = CODE + "    raise Exception('intentional')\n"


def answers(value):
    return CODE + f"    return {value!r}\n"


class SourceCase(StreamCase, QueueCase):
    def mapping(self, function, source, **arguments):
        """Creates a mapping that is deleted after the test; returns the answer."""
        got = lam.create_event_source_mapping(FunctionName=function, EventSourceArn=source, **arguments)
        self.addCleanup(self.unmap, got["UUID"])
        got.pop("ResponseMetadata")
        return got

    def unmap(self, uuid):
        while True:
            try:
                return lam.delete_event_source_mapping(UUID=uuid)
            except lam.exceptions.ResourceNotFoundException:
                return None
            except lam.exceptions.ResourceInUseException:  # it is being changed
                time.sleep(0.02)

    def state(self, uuid, wanted):
        deadline = time.monotonic() + 60
        while (got := lam.get_event_source_mapping(UUID=uuid))["State"] != wanted:
            self.assertLess(time.monotonic(), deadline, got)
            time.sleep(0.02)
        return got

    def events(self, function, n):
        """The first n events that a function got."""
        deadline = time.monotonic() + 60
        while True:
            got = [json.loads(m[4:]) for m in log_events("/aws/lambda/" + function, "GOT ") if m.startswith("GOT ")]
            if len(got) >= n:
                return got
            self.assertLess(time.monotonic(), deadline, f"{len(got)} events of {n}")

    def source(self, url):
        return queue_arn(queue_name(url))


class Queues(SourceCase):
    def test_settings(self):
        name, url = self.python(CODE), self.queue()
        got = self.mapping(name, self.source(url))
        uuid = got["UUID"]
        self.assertRegex(uuid, f"^{UUID}$")
        got.pop("LastModified")
        self.assertEqual({
            "UUID": uuid, "BatchSize": 10, "EventSourceArn": self.source(url), "EventSourceMappingArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{uuid}", "FunctionArn": function_arn(name),
            "FunctionResponseTypes": [], "MaximumBatchingWindowInSeconds": 0, "State": "Creating", "StateTransitionReason": "USER_INITIATED",
        }, got)
        self.assertEqual("Enabled", self.state(uuid, "Enabled")["State"])
        with self.refused("ResourceConflictException", 409, f'An event source mapping with SQS arn (" {self.source(url)} ") and function (" {name} ") already exists. Please update or delete the existing mapping with UUID {uuid}'):
            self.mapping(name, self.source(url))
        window = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
        with self.invalid(window):
            lam.update_event_source_mapping(UUID=uuid, BatchSize=15)
        with self.invalid(window):
            self.mapping(name, self.source(self.queue()), BatchSize=15)
        self.assertEqual("Updating", lam.update_event_source_mapping(UUID=uuid, BatchSize=15, MaximumBatchingWindowInSeconds=1)["State"])
        self.assertEqual(15, self.state(uuid, "Enabled")["BatchSize"])
        self.assertEqual("Deleting", lam.delete_event_source_mapping(UUID=uuid)["State"])

    def test_refused(self):
        name = self.python(CODE)
        with self.invalid("Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist."):
            self.mapping(name, queue_arn("nobody"))
        url = self.queue()
        for pattern in "invalid", '{"body":"x"}', "5", "[]":
            with self.subTest(pattern), self.invalid("^Invalid filter pattern definition\\."):
                self.mapping(name, self.source(url), FilterCriteria={"Filters": [{"Pattern": pattern}]})

    def test_event(self):
        name, url = self.python(CODE), self.queue()
        attributes = {"Title": {"DataType": "String", "StringValue": "The Whistler"}, "Author": {"DataType": "String", "StringValue": "John Grisham"}, "WeeksOn": {"DataType": "Number", "StringValue": "6"}}
        sent = sqs.send_message(QueueUrl=url, MessageBody="hello", MessageAttributes=attributes)
        self.mapping(name, self.source(url))
        ((record,),) = [e["Records"] for e in self.events(name, 1)]
        self.assertEqual({"SentTimestamp", "SenderId", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}, set(record.pop("attributes")))
        self.assertTrue(record.pop("receiptHandle"))
        self.assertEqual({
            "messageId": sent["MessageId"], "body": "hello", "md5OfBody": "5d41402abc4b2a76b9719d911017c592", "md5OfMessageAttributes": "d25a6aea97eb8f585bfa92d314504a92", "eventSource": "aws:sqs", "eventSourceARN": self.source(url), "awsRegion": REGION,
            "messageAttributes": {k: {"stringValue": v["StringValue"], "stringListValues": [], "binaryListValues": [], "dataType": v["DataType"]} for k, v in attributes.items()},
        }, record)
        self.await_counts(url, (0, 0, 0))  # deleted after success

    def test_event_of_fifo(self):
        name, url = self.python(CODE), self.fifo()
        sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": f"m{i}", "MessageGroupId": "g"} for i in range(5)])
        self.mapping(name, self.source(url))
        records, n = [], 0
        while len(records) < 5:
            n += 1
            records = [r for e in self.events(name, n) for r in e["Records"]]
        self.assertEqual([f"m{i}" for i in range(5)], [r["body"] for r in records])
        self.assertEqual({"SentTimestamp", "SenderId", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "MessageGroupId", "MessageDeduplicationId", "SequenceNumber"}, set(records[0]["attributes"]))
        self.assertEqual({}, records[0]["messageAttributes"])

    def test_filters(self):
        for pattern, passing, failing in (
            ({"my-key": ["my-value"]}, {"my-key": "my-value"}, {"my-key": "other"}),
            ({"my-key-one": ["other-filter", "my-value-one"], "my-key-two": ["my-value-two"]}, {"my-key-one": "my-value-one", "my-key-two": "my-value-two"}, {"my-key-one": "my-value-one"}),
            ({"my-key": [{"exists": True}]}, {"my-key": "any-value-one"}, {"other-key": "x"}),
            ({"my-number": [{"numeric": [">=", 100, "<", 200]}]}, {"my-number": 100}, {"my-number": 200}),
            ({"my-key": [{"prefix": "yes"}]}, {"my-key": "yes-value"}, {"my-key": "no-value"}),
            ({"my-key": ["my-value"]}, {"my-key": "my-value"}, "plain text"),
        ):
            with self.subTest(pattern):
                name, url = self.python(CODE), self.queue()
                self.send(url, failing if isinstance(failing, str) else json.dumps(failing), json.dumps(passing))
                self.mapping(name, self.source(url), FilterCriteria={"Filters": [{"Pattern": json.dumps({"body": pattern})}]})
                self.await_counts(url, (0, 0, 0))  # what does not match is deleted, too
                self.assertEqual([passing], [json.loads(r["body"]) for e in self.events(name, 1) for r in e["Records"]])

    def test_items_that_fail(self):
        for value, left in (
            ({"batchItemFailures": []}, 0), ({}, 0), (None, 0), ({"batchItemFailures": None}, 0),
            ({"batchItemFailures": [{"itemIdentifier": ""}]}, 2), ({"batchItemFailures": [{"itemIdentifier": None}]}, 2), ({"batchItemFailures": [{"foo": "x"}]}, 2), ({"batchItemFailures": [{"itemIdentifier": "nobody"}]}, 2),
        ):
            with self.subTest(value):
                name, url = self.python(answers(value)), self.queue(VisibilityTimeout="300")
                sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": f"m{i}"} for i in range(2)])
                self.mapping(name, self.source(url), FunctionResponseTypes=["ReportBatchItemFailures"])
                self.events(name, 1)
                self.await_counts(url, (0, left, 0))


class Streams(SourceCase):
    def test_settings(self):
        function, name = self.python(CODE), self.stream()
        got = self.mapping(function, self.arn(name), StartingPosition="LATEST")
        uuid = got["UUID"]
        got.pop("LastModified")
        self.assertEqual({
            "UUID": uuid, "BatchSize": 100, "BisectBatchOnFunctionError": False, "DestinationConfig": {"OnFailure": {}}, "EventSourceArn": self.arn(name), "FunctionArn": function_arn(function),
            "EventSourceMappingArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{uuid}", "FunctionResponseTypes": [], "LastProcessingResult": "No records processed", "MaximumBatchingWindowInSeconds": 0,
            "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1, "ParallelizationFactor": 1, "StartingPosition": "LATEST", "State": "Creating", "StateTransitionReason": "User action", "TumblingWindowInSeconds": 0,
        }, got)
        with self.refused("ResourceConflictException", 409, f'The event source arn (" {self.arn(name)} ") and function (" {function} ") provided mapping already exists. Please update or delete the existing mapping with UUID {uuid}'):
            self.mapping(function, self.arn(name), StartingPosition="LATEST")
        with self.invalid(f"Stream not found: {self.arn('nobody')}"):
            self.mapping(function, self.arn("nobody"), StartingPosition="LATEST")

    def test_event(self):
        function, name = self.python(CODE), self.stream()
        numbers = [self.put(name, b"hello", f"test_{i}")["SequenceNumber"] for i in range(3)]
        uuid = self.mapping(function, self.arn(name), StartingPosition="TRIM_HORIZON")["UUID"]
        records, n = [], 0
        while len(records) < 3:
            n += 1
            records = [r for e in self.events(function, n) for r in e["Records"]]
        for i, record in enumerate(records):
            self.assertAlmostEqual(time.time(), record["kinesis"].pop("approximateArrivalTimestamp"), delta=300)
            self.assertEqual({
                "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": f"test_{i}", "sequenceNumber": numbers[i], "data": base64.b64encode(b"hello").decode()},
                "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": f"shardId-000000000000:{numbers[i]}", "eventName": "aws:kinesis:record", "invokeIdentityArn": ROLE, "awsRegion": REGION, "eventSourceARN": self.arn(name),
            }, record)
        deadline = time.monotonic() + 30
        while lam.get_event_source_mapping(UUID=uuid)["LastProcessingResult"] != "OK":
            self.assertLess(time.monotonic(), deadline)

    def test_failures(self):
        """A batch that fails to the end is described to the destination, whatever kind of failure it was."""
        for code, error in (
            (FAILS, "Unhandled"),
            (answers({"batchItemFailures": [{"itemIdentifier": ""}]}), None),
            (answers({"batchItemFailures": [{"itemIdentifier": None}]}), None),
            (answers({"batchItemFailures": [{"foo": "x"}]}), None),
            (answers({"batchItemFailures": [{"itemIdentifier": "123"}]}), None),
        ):
            with self.subTest(code[-60:]):
                function, name, dead = self.python(code), self.stream(), self.queue()
                number = self.put(name, b"hello", "test")["SequenceNumber"]
                self.mapping(function, self.arn(name), StartingPosition="TRIM_HORIZON", BatchSize=1, MaximumRetryAttempts=1, FunctionResponseTypes=["ReportBatchItemFailures"], DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
                body = json.loads(self.drain(dead, 1, 60)[0]["Body"])
                self.assertRegex(body["requestContext"].pop("requestId"), f"^{UUID}$")
                batch = body["KinesisBatchInfo"]
                for stamp in body.pop("timestamp"), batch.pop("approximateArrivalOfFirstRecord"), batch.pop("approximateArrivalOfLastRecord"):
                    self.assertRegex(stamp, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
                self.assertEqual({
                    "requestContext": {"functionArn": function_arn(function), "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 2},
                    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}, "version": "1.0",
                    "KinesisBatchInfo": {"shardId": "shardId-000000000000", "startSequenceNumber": number, "endSequenceNumber": number, "batchSize": 1, "streamArn": self.arn(name)},
                }, body)

    def test_filters(self):
        """Data is matched when it is JSON."""
        name = self.stream()
        functions = [self.python(CODE) for _ in range(2)]
        for i, f in enumerate(functions):
            self.mapping(f, self.arn(name), StartingPosition="TRIM_HORIZON", BatchSize=1, FilterCriteria={"Filters": [{"Pattern": json.dumps({"data": {"event_type": [f"function_{i}"]}})}]})
        kinesis.put_records(StreamName=name, Records=[{"Data": d, "PartitionKey": "1"} for d in (b'{"event_type": "function_0", "message": "foo"}', b"not JSON", b'{"event_type": "function_1"}')])
        for i, f in enumerate(functions):
            records = [json.loads(base64.b64decode(r["kinesis"]["data"])) for e in self.events(f, 1) for r in e["Records"]]
            self.assertEqual([f"function_{i}"], [r["event_type"] for r in records])
