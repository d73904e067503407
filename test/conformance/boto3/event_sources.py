"""Event source mappings: their API, and records on their way from queues and streams into functions."""

import base64
import json
import time
from datetime import datetime, timezone

from queueing import QueueCase, queue_arn, queue_name, sqs
from suite import ACCOUNT, REGION, UUID, client, eventually, function_arn, iam, lam, log_events

kinesis = client("kinesis")

# Prints every event, and fails for the records whose data is or has "bad".
CODE = """
import base64, json
def handler(event, context):
    print('event', json.dumps(event))
    for r in event.get('Records', []):
        body = r['body'] if 'body' in r else base64.b64decode(r['kinesis']['data']).decode()
        if 'bad' in body:
            raise ValueError(body)
    return {}
"""

# Reports what is bad instead of failing.
REPORTS = """
import base64, json
def handler(event, context):
    print('event', json.dumps(event))
    failed = []
    for r in event['Records']:
        if 'body' in r:
            body, id = r['body'], r['messageId']
        else:
            body, id = base64.b64decode(r['kinesis']['data']).decode(), r['kinesis']['sequenceNumber']
        if 'bad' in body:
            failed.append({'itemIdentifier': id})
    return {'batchItemFailures': failed}
"""

SUMS = """
import base64, json
def handler(event, context):
    print('event', json.dumps(event))
    state = event['state']
    state['sum'] = state.get('sum', 0) + sum(int(base64.b64decode(r['kinesis']['data'])) for r in event['Records'])
    return {'state': state}
"""


def body_of(record):
    return record["body"] if "body" in record else base64.b64decode(record["kinesis"]["data"]).decode()


class MappingCase(QueueCase):
    def map(self, function, source, wait=True, **arguments):
        m = lam.create_event_source_mapping(FunctionName=function, EventSourceArn=source, **arguments)
        self.addCleanup(self.unmap, m["UUID"])
        return self.settled(m["UUID"]) if wait else m

    def settled(self, uuid):
        """The mapping once it is on the way to no other state."""

        def read():
            m = lam.get_event_source_mapping(UUID=uuid)
            return m if m["State"] in ("Enabled", "Disabled") else None

        m = eventually(read)
        self.assertIsNotNone(m, "the mapping does not settle")
        return m

    def unmap(self, uuid):
        try:
            self.settled(uuid)
            lam.delete_event_source_mapping(UUID=uuid)
        except lam.exceptions.ResourceNotFoundException:
            return
        self.assertTrue(eventually(lambda: self.gone(uuid)), "the mapping does not go")

    def gone(self, uuid):
        try:
            lam.get_event_source_mapping(UUID=uuid)
        except lam.exceptions.ResourceNotFoundException:
            return True
        return False

    def stream(self, shards=1):
        name = self.name("s")
        kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.addCleanup(lambda: kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True))
        summary = eventually(lambda: next((d for d in [kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]] if d["StreamStatus"] == "ACTIVE"), None))
        return name, summary["StreamARN"]

    def put(self, stream, *data, key="k"):
        return [kinesis.put_record(StreamName=stream, Data=d.encode(), PartitionKey=key)["SequenceNumber"] for d in data]

    def events(self, function, done, limit=40):
        """The events that a function got, in order, once done is true of the list."""

        def read():
            found = [json.loads(m[len("event "):]) for m in log_events("/aws/lambda/" + function, "event ") if m.startswith("event ")]
            return found if found and done(found) else None

        found = eventually(read, limit)
        self.assertIsNotNone(found, f"the function {function} did not get what was awaited")
        return found

    def bodies(self, events):
        return [body_of(r) for e in events for r in e["Records"]]

    def message(self, url, limit=40):
        """The next message of a queue, which is deleted."""

        def read():
            got = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MessageSystemAttributeNames=["All"]).get("Messages")
            return got and got[0]

        got = eventually(read, limit)
        self.assertIsNotNone(got, "no message")
        sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
        return got


class Life(MappingCase):
    def test_of_queue(self):
        function, queue = self.python(CODE), self.queue()
        arn = queue_arn(queue_name(queue))
        made = self.map(function, arn, wait=False)
        self.assertEqual(202, made["ResponseMetadata"]["HTTPStatusCode"])
        made.pop("ResponseMetadata")
        uuid, modified = made["UUID"], made.pop("LastModified")
        self.assertRegex(uuid, f"^{UUID}$")
        self.assertLess(abs(datetime.now(timezone.utc).timestamp() - modified.timestamp()), 60)
        expected = {
            "BatchSize": 10, "EventSourceArn": arn, "EventSourceMappingArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{uuid}",
            "FunctionArn": function_arn(function), "FunctionResponseTypes": [], "MaximumBatchingWindowInSeconds": 0, "State": "Creating",
            "StateTransitionReason": "USER_INITIATED", "UUID": uuid,
        }
        self.assertEqual(expected, made)
        self.settled(uuid)
        got = lam.update_event_source_mapping(UUID=uuid, Enabled=False)
        self.assertEqual((202, "Disabling"), (got["ResponseMetadata"]["HTTPStatusCode"], got["State"]))
        self.assertEqual("Disabled", self.settled(uuid)["State"])
        got = lam.update_event_source_mapping(
            UUID=uuid, BatchSize=100, MaximumBatchingWindowInSeconds=1, FunctionResponseTypes=["ReportBatchItemFailures"],
            ScalingConfig={"MaximumConcurrency": 2}, FilterCriteria={"Filters": [{"Pattern": '{"body":{"a":[1]}}'}]},
            MetricsConfig={"Metrics": ["EventCount"]},
        )
        self.assertEqual("Updating", got["State"])
        got = self.settled(uuid)
        for k, v in {
            "State": "Disabled", "BatchSize": 100, "MaximumBatchingWindowInSeconds": 1, "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": {"MaximumConcurrency": 2}, "FilterCriteria": {"Filters": [{"Pattern": '{"body":{"a":[1]}}'}]}, "MetricsConfig": {"Metrics": ["EventCount"]},
        }.items():
            self.assertEqual(v, got[k], k)
        self.assertEqual("Enabling", lam.update_event_source_mapping(UUID=uuid, Enabled=True, FilterCriteria={"Filters": []}, ScalingConfig={})["State"])
        got = self.settled(uuid)
        self.assertEqual("Enabled", got["State"])
        self.assertNotIn("FilterCriteria", got)
        self.assertNotIn("ScalingConfig", got)
        listed = [m["UUID"] for p in lam.get_paginator("list_event_source_mappings").paginate(EventSourceArn=arn) for m in p["EventSourceMappings"]]
        self.assertEqual([uuid], listed)
        gone = lam.delete_event_source_mapping(UUID=uuid)
        self.assertEqual((202, "Deleting"), (gone["ResponseMetadata"]["HTTPStatusCode"], gone["State"]))
        self.assertTrue(eventually(lambda: self.gone(uuid)))

    def test_of_stream(self):
        function, (_, arn) = self.python(CODE), self.stream()
        dead = queue_arn(queue_name(self.queue()))
        made = self.map(function, arn, wait=False, StartingPosition="LATEST")
        for k, v in {
            "BatchSize": 100, "BisectBatchOnFunctionError": False, "DestinationConfig": {"OnFailure": {}}, "FunctionResponseTypes": [],
            "LastProcessingResult": "No records processed", "MaximumBatchingWindowInSeconds": 0, "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1,
            "ParallelizationFactor": 1, "StartingPosition": "LATEST", "State": "Creating", "StateTransitionReason": "User action", "TumblingWindowInSeconds": 0,
        }.items():
            self.assertEqual(v, made[k], k)
        self.settled(made["UUID"])
        changed = dict(BisectBatchOnFunctionError=True, DestinationConfig={"OnFailure": {"Destination": dead}}, MaximumRecordAgeInSeconds=60, MaximumRetryAttempts=2, ParallelizationFactor=10)
        lam.update_event_source_mapping(UUID=made["UUID"], **changed)
        got = self.settled(made["UUID"])
        for k, v in changed.items():
            self.assertEqual(v, got[k], k)

    def test_made_disabled(self):
        function, queue = self.python(CODE), self.queue()
        made = self.map(function, queue_arn(queue_name(queue)), wait=False, Enabled=False)
        self.assertEqual("Disabled", made["State"])
        self.send(queue, "waits")
        self.assertEqual((1, 0, 0), self.counts(queue))
        lam.update_event_source_mapping(UUID=made["UUID"], Enabled=True)
        self.assertEqual(["waits"], self.bodies(self.events(function, lambda e: True)))

    def test_tags(self):
        function, queue = self.python(CODE), self.queue()
        arn = self.map(function, queue_arn(queue_name(queue)), Tags={"a": "b"})["EventSourceMappingArn"]
        lam.tag_resource(Resource=arn, Tags={"c": "d"})
        lam.untag_resource(Resource=arn, TagKeys=["a"])
        self.assertEqual({"c": "d"}, lam.list_tags(Resource=arn)["Tags"])
        missing = arn[:-4] + "0000"
        with self.not_found("Event source mapping not found: " + missing):
            lam.list_tags(Resource=missing)

    def test_names_of_functions(self):
        function, arn = self.create(), queue_arn(queue_name(self.queue()))
        lam.publish_version(FunctionName=function)
        lam.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
        for given, shown in (
            (function, function_arn(function)), (function + ":$LATEST", function_arn(function, "$LATEST")), (function + ":1", function_arn(function, "1")),
            (function_arn(function, "live"), function_arn(function, "live")),
        ):
            m = self.map(given, arn)
            self.assertEqual(shown, m["FunctionArn"])
            listed = [m["UUID"] for m in lam.list_event_source_mappings(FunctionName=given)["EventSourceMappings"]]
            self.assertEqual([m["UUID"]], listed)
        self.assertEqual([], lam.list_event_source_mappings(FunctionName="nobody")["EventSourceMappings"])

    def test_outlives_function(self):
        function, arn = self.create(), queue_arn(queue_name(self.queue()))
        m = self.map(function, arn)
        lam.delete_function(FunctionName=function)
        self.assertEqual("Enabled", lam.get_event_source_mapping(UUID=m["UUID"])["State"])


class Refused(MappingCase):
    def test_unknown(self):
        none = "00000000-0000-4000-8000-000000000000"
        for call in (lam.get_event_source_mapping, lam.delete_event_source_mapping, lam.update_event_source_mapping):
            with self.not_found("The resource you requested does not exist."):
                call(UUID=none)
        arn = queue_arn("nobody")
        with self.invalid("Unrecognized event source."):
            lam.create_event_source_mapping(FunctionName="doesnotexist")
        with self.invalid("Function does not exist"):
            lam.create_event_source_mapping(FunctionName="doesnotexist", EventSourceArn=arn)
        with self.invalid("Unsupported DestinationConfig parameter for given event source mapping type."):
            lam.create_event_source_mapping(FunctionName="doesnotexist", EventSourceArn=arn, DestinationConfig={"OnSuccess": {"Destination": arn}})
        function = self.create()
        with self.invalid("Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist."):
            lam.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)
        stream = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/nobody"
        with self.invalid("Stream not found: " + stream):
            lam.create_event_source_mapping(FunctionName=function, EventSourceArn=stream, StartingPosition="LATEST")

    def test_parameters(self):
        function, queue = self.create(Timeout=31), self.queue(VisibilityTimeout="30")
        arn, fifo = queue_arn(queue_name(queue)), queue_arn(queue_name(self.fifo()))
        for message, source, arguments in (
            ("Queue visibility timeout: 30 seconds is less than Function timeout: 31 seconds", arn, {}),
            ("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10", arn, {"BatchSize": 11}),
            ("StartingPosition is not valid for SQS event sources.", arn, {"StartingPosition": "LATEST"}),
            ("Invalid filter pattern definition.", arn, {"FilterCriteria": {"Filters": [{"Pattern": "simple string"}]}}),
            ("Batching window is not supported for FIFO queues", fifo, {"MaximumBatchingWindowInSeconds": 1}),
        ):
            with self.subTest(message), self.invalid(message):
                lam.create_event_source_mapping(FunctionName=function, EventSourceArn=source, **arguments)
        _, stream = self.stream()
        for message, arguments in (
            ("1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.", {}),
            ("Timestamp only valid with StartingPosition AT_TIMESTAMP", {"StartingPosition": "LATEST", "StartingPositionTimestamp": 1}),
            ("Received Exception while reading from provided stream. class java.lang.Long can not be converted to a Timestamp",
             {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": -1}),
        ):
            with self.subTest(message), self.invalid(message):
                lam.create_event_source_mapping(FunctionName=function, EventSourceArn=stream, **arguments)

    def test_twice(self):
        function, arn = self.create(), queue_arn(queue_name(self.queue()))
        uuid = self.map(function, arn)["UUID"]
        with self.refused(
            "ResourceConflictException", 409,
            f'An event source mapping with SQS arn (" {arn} ") and function (" {function} ") already exists. Please update or delete the existing mapping with UUID {uuid}', Type="User",
        ):
            lam.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)
        _, stream = self.stream()
        uuid = self.map(function, stream, StartingPosition="LATEST")["UUID"]
        with self.refused(
            "ResourceConflictException", 409,
            f'The event source arn (" {stream} ") and function (" {function} ") provided mapping already exists. Please update or delete the existing mapping with UUID {uuid}', Type="User",
        ):
            lam.create_event_source_mapping(FunctionName=function, EventSourceArn=stream, StartingPosition="LATEST")

    def test_role(self):
        """The function's role must be allowed to read the source."""
        name = self.name("role")
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]}
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        self.addCleanup(lambda: iam.delete_role(RoleName=name))
        function, queue = self.create(Role=role), self.queue()
        with self.invalid("The function execution role does not have permissions to call ReceiveMessage on SQS"):
            lam.create_event_source_mapping(FunctionName=function, EventSourceArn=queue_arn(queue_name(queue)))
        _, stream = self.stream()
        with self.invalid("^Cannot access stream " + stream + r"\. Please ensure the role can perform the GetRecords, GetShardIterator, DescribeStream, "):
            lam.create_event_source_mapping(FunctionName=function, EventSourceArn=stream, StartingPosition="LATEST")
        iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole")
        self.addCleanup(lambda: iam.detach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole"))
        self.map(function, queue_arn(queue_name(queue)))


class Queues(MappingCase):
    def test_message(self):
        function, queue = self.python(CODE), self.queue()
        arn = queue_arn(queue_name(queue))
        self.map(function, arn)
        sent = sqs.send_message(
            QueueUrl=queue, MessageBody='{"n":"<é>"}', MessageAttributes={"A": {"DataType": "String", "StringValue": "x"}, "B": {"DataType": "Binary", "BinaryValue": b"\x01"}},
        )
        (event,) = self.events(function, lambda e: True)
        self.assertEqual(["Records"], list(event))
        (r,) = event["Records"]
        self.assertEqual(
            ["messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfMessageAttributes", "md5OfBody", "eventSource", "eventSourceARN", "awsRegion"], list(r))
        self.assertEqual((sent["MessageId"], '{"n":"<é>"}', sent["MD5OfMessageBody"], "aws:sqs", arn, REGION),
                         tuple(r[k] for k in ("messageId", "body", "md5OfBody", "eventSource", "eventSourceARN", "awsRegion")))
        self.assertEqual(["ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"], list(r["attributes"]))
        self.assertEqual("1", r["attributes"]["ApproximateReceiveCount"])
        self.assertEqual({
            "A": {"stringValue": "x", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "B": {"binaryValue": "AQ==", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        }, r["messageAttributes"])
        self.assertTrue(eventually(lambda: self.counts(queue) == (0, 0, 0)), "the message was not deleted")

    def test_batch_window(self):
        function, queue = self.python(CODE), self.queue()
        self.map(function, queue_arn(queue_name(queue)), BatchSize=100, MaximumBatchingWindowInSeconds=2)
        for _ in range(3):
            sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(i), "MessageBody": str(i)} for i in range(10)])
        events = self.events(function, lambda e: len(self.bodies(e)) >= 30)
        self.assertEqual(sorted([str(i) for i in range(10)] * 3), sorted(self.bodies(events)))
        self.assertLessEqual(len(events), 3)

    def test_filter(self):
        function, queue = self.python(CODE), self.queue()
        self.map(function, queue_arn(queue_name(queue)), FilterCriteria={"Filters": [{"Pattern": '{"body":{"n":[{"numeric":[">",10]}]}}'}]})
        self.send(queue, '{"n":1}', "plain", '{"n":11}')
        events = self.events(function, lambda e: True)
        self.assertEqual(['{"n":11}'], self.bodies(events))
        self.assertIn("md5OfMessageAttributes", events[0]["Records"][0])
        self.assertTrue(eventually(lambda: self.counts(queue) == (0, 0, 0)), "what does not match was not deleted")

    def test_target_moves(self):
        first, second, queue = self.python(CODE), self.python(CODE), self.queue()
        m = self.map(first, queue_arn(queue_name(queue)))
        self.send(queue, "one")
        self.assertEqual(["one"], self.bodies(self.events(first, lambda e: True)))
        got = lam.update_event_source_mapping(UUID=m["UUID"], FunctionName=second)
        self.assertEqual(function_arn(second), got["FunctionArn"])
        self.settled(m["UUID"])
        self.send(queue, "two")
        self.assertEqual(["two"], self.bodies(self.events(second, lambda e: True)))


class Streams(MappingCase):
    def test_records(self):
        function, (name, arn) = self.python(CODE), self.stream()
        numbers = self.put(name, "one", "two")
        self.map(function, arn, StartingPosition="TRIM_HORIZON")
        events = self.events(function, lambda e: len(self.bodies(e)) >= 2)
        self.assertEqual(["one", "two"], self.bodies(events))
        r = events[0]["Records"][0]
        self.assertEqual(["kinesis", "eventSource", "eventVersion", "eventID", "eventName", "invokeIdentityArn", "awsRegion", "eventSourceARN"], list(r))
        self.assertEqual(["kinesisSchemaVersion", "partitionKey", "sequenceNumber", "data", "approximateArrivalTimestamp"], list(r["kinesis"]))
        self.assertEqual(("1.0", "k", numbers[0], "b25l"), tuple(r["kinesis"][k] for k in ("kinesisSchemaVersion", "partitionKey", "sequenceNumber", "data")))
        self.assertIsInstance(r["kinesis"]["approximateArrivalTimestamp"], float)
        self.assertEqual(("aws:kinesis", "1.0", "shardId-000000000000:" + numbers[0], "aws:kinesis:record", f"arn:aws:iam::{ACCOUNT}:role/suite", REGION, arn),
                         tuple(r[k] for k in ("eventSource", "eventVersion", "eventID", "eventName", "invokeIdentityArn", "awsRegion", "eventSourceARN")))

    def test_latest(self):
        function, (name, arn) = self.python(CODE), self.stream()
        self.put(name, "before")
        time.sleep(0.01)
        m = self.map(function, arn, StartingPosition="LATEST")
        self.put(name, "after")
        self.assertEqual(["after"], self.bodies(self.events(function, lambda e: True)))
        self.assertEqual("OK", eventually(lambda: lam.get_event_source_mapping(UUID=m["UUID"])["LastProcessingResult"] == "OK" and "OK"))
        # Disabling keeps the place.
        lam.update_event_source_mapping(UUID=m["UUID"], Enabled=False)
        self.settled(m["UUID"])
        self.put(name, "meanwhile")
        lam.update_event_source_mapping(UUID=m["UUID"], Enabled=True)
        self.assertEqual(["after", "meanwhile"], self.bodies(self.events(function, lambda e: len(self.bodies(e)) >= 2)))

    def poison(self, code, **arguments):
        """Puts a, b, bad, c, d with one retry and returns what the function got, and the record of what was given up."""
        function, (name, arn), failed = self.python(code), self.stream(), self.queue()
        numbers = dict(zip(("a", "b", "bad", "c", "d"), self.put(name, "a", "b", "bad", "c", "d")))
        self.map(function, arn, StartingPosition="TRIM_HORIZON", MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": queue_arn(queue_name(failed))}}, **arguments)
        record = json.loads(self.message(failed)["Body"])
        return function, arn, numbers, record

    def only_bad(self, function, arn, numbers, record):
        self.assertEqual(["requestContext", "responseContext", "version", "timestamp", "KinesisBatchInfo"], list(record))
        context, info = record["requestContext"], record["KinesisBatchInfo"]
        self.assertEqual((function_arn(function), "RetryAttemptsExhausted"), (context["functionArn"], context["condition"]))
        self.assertEqual(("shardId-000000000000", numbers["bad"], numbers["bad"], 1, arn),
                         tuple(info[k] for k in ("shardId", "startSequenceNumber", "endSequenceNumber", "batchSize", "streamArn")))
        self.assertRegex(info["approximateArrivalOfFirstRecord"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_poison_bisected(self):
        function, arn, numbers, record = self.poison(CODE, BisectBatchOnFunctionError=True)
        self.only_bad(function, arn, numbers, record)
        self.assertEqual({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}, record["responseContext"])
        good = lambda events: [b for e in events for b in self.bodies([e]) if "bad" not in self.bodies([e])]
        processed = good(self.events(function, lambda e: "d" in good(e)))
        self.assertEqual(["a", "b", "c", "d"], sorted(set(processed)))
        self.assertEqual(processed, sorted(processed))

    def test_poison_reported(self):
        function, arn, numbers, record = self.poison(REPORTS, BisectBatchOnFunctionError=True, FunctionResponseTypes=["ReportBatchItemFailures"])
        self.only_bad(function, arn, numbers, record)
        self.assertIsNone(record["responseContext"]["functionError"])

    def test_poison_takes_its_batch(self):
        function, arn, numbers, record = self.poison(CODE, BatchSize=5, MaximumBatchingWindowInSeconds=1)
        info = record["KinesisBatchInfo"]
        self.assertEqual((numbers["a"], numbers["d"], 5), (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]))
        self.assertEqual(2, record["requestContext"]["approximateInvokeCount"])

    def test_filter(self):
        function, (name, arn) = self.python(CODE), self.stream()
        self.map(function, arn, StartingPosition="TRIM_HORIZON", FilterCriteria={"Filters": [{"Pattern": '{"data":{"a":[1]}}'}]})
        self.put(name, '{"a":2}', "plain", '{"a":1}')
        self.assertEqual(['{"a":1}'], self.bodies(self.events(function, lambda e: True)))

    def test_parallel(self):
        """Each key keeps its order."""
        function, (name, arn) = self.python(CODE), self.stream()
        kinesis.put_records(StreamName=name, Records=[{"Data": f"{k}-{n}".encode(), "PartitionKey": str(k)} for n in range(5) for k in range(10)])
        self.map(function, arn, StartingPosition="TRIM_HORIZON", ParallelizationFactor=10)
        bodies = self.bodies(self.events(function, lambda e: len(self.bodies(e)) >= 50))
        for k in range(10):
            self.assertEqual([f"{k}-{n}" for n in range(5)], [b for b in bodies if b.startswith(f"{k}-")])

    def test_window(self):
        function, (name, arn) = self.python(SUMS), self.stream()
        self.map(function, arn, StartingPosition="TRIM_HORIZON", TumblingWindowInSeconds=2)
        for n in (1, 2, 3):
            self.put(name, str(n))
        final = lambda e: [x for x in e if x["isFinalInvokeForWindow"]]
        total = lambda e: sum(x["state"].get("sum", 0) for x in final(e))
        events = self.events(function, lambda e: total(e) >= 6)
        self.assertEqual(6, total(events))
        first = events[0]
        self.assertEqual({"Records", "window", "state", "shardId", "eventSourceARN", "isFinalInvokeForWindow", "isWindowTerminatedEarly"}, set(first))
        self.assertEqual(({}, "shardId-000000000000", arn, False), (first["state"], first["shardId"], first["eventSourceARN"], first["isWindowTerminatedEarly"]))
        times = [datetime.strptime(first["window"][k], "%Y-%m-%dT%H:%M:%SZ") for k in ("start", "end")]
        self.assertEqual((2, 0), ((times[1] - times[0]).seconds, times[0].second % 2))

    def test_reshard(self):
        function, (name, arn) = self.python(CODE), self.stream()
        self.map(function, arn, StartingPosition="TRIM_HORIZON")
        self.put(name, "before")
        kinesis.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        self.assertTrue(eventually(lambda: kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"))
        for k in "abcdefgh":
            self.put(name, k, key=k)
        bodies = self.bodies(self.events(function, lambda e: len(self.bodies(e)) >= 9))
        self.assertEqual("before", bodies[0])
        self.assertEqual(list("abcdefgh"), sorted(bodies[1:]))
