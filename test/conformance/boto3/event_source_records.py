"""What functions get from event source mappings, to the letter, and what can be learned afterwards: logs and why something was not delivered."""

import base64
import hashlib
import json
import os
import re
import subprocess
import time

from event_source_behaviour import BAD_FAILS, BAD_REPORTED, REPORTS
from event_source_streams import StreamCase
from event_sources import kinesis
from queueing import sqs
from suite import REGION, ROLE, UUID, client, function_arn, lam, sts

sns = client("sns")

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


class RawCase(StreamCase):
    def raw(self):
        """A function of one's own runtime, which says what it gets as it gets it."""
        return self.create(Environment={"Variables": {"ANSWER": "{}"}}, Timeout=60)

    def got(self, function, n=1):
        """The first n events in their texts, which are compact JSON."""
        events = []

        def read():
            events[:] = [m[len("event "):].rstrip("\n") for m in self.printed(function) if m.startswith("event ")]
            return len(events) >= n

        self.until(read, f"{len(events)} events of {n}")
        seconds = re.compile(r'("approximateArrivalTimestamp":)[0-9.]+')
        for text in events:
            self.assertEqual(seconds.sub(r"\1", json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)), seconds.sub(r"\1", text))
        return events

    def record(self, function):
        ((record,),) = [json.loads(e)["Records"] for e in self.got(function)]
        return record


class Messages(RawCase):
    def test_standard(self):
        function, queue = self.raw(), self.queue()
        body = '{"a": "<é>&\\u0001\\n", "b": "\\ud83d\\ude00 \U0001f600 \u2028/"}'
        given = {
            "S": {"DataType": "String", "StringValue": "<é>\n\"'"}, "Custom": {"DataType": "String.kind", "StringValue": "x"},
            "N": {"DataType": "Number", "StringValue": "-1.50"}, "Int": {"DataType": "Number.int", "StringValue": "7"},
            "B": {"DataType": "Binary", "BinaryValue": b"\x00\xff<"}, "Png": {"DataType": "Binary.png", "BinaryValue": b"\x89PNG"},
        }
        sent = sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=given, MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}})
        before = time.time() * 1000
        self.map(function, self.source(queue))
        r = self.record(function)
        stamp, first = r["attributes"]["SentTimestamp"], r["attributes"]["ApproximateFirstReceiveTimestamp"]
        self.assertRegex(stamp, r"^\d{13}$")
        self.assertLessEqual(int(stamp), int(first))
        self.assertAlmostEqual(before, int(first), delta=120_000)
        wanted = {
            "messageId": sent["MessageId"], "receiptHandle": r["receiptHandle"], "body": body,
            "attributes": {"ApproximateReceiveCount": "1", "AWSTraceHeader": TRACE, "SentTimestamp": stamp, "SenderId": sts.get_caller_identity()["UserId"], "ApproximateFirstReceiveTimestamp": first},
            "messageAttributes": {
                name: {"stringValue": v["StringValue"], "stringListValues": [], "binaryListValues": [], "dataType": v["DataType"]} if "StringValue" in v
                else {"binaryValue": base64.b64encode(v["BinaryValue"]).decode(), "stringListValues": [], "binaryListValues": [], "dataType": v["DataType"]}
                for name, v in sorted(given.items())
            },
            "md5OfMessageAttributes": sent["MD5OfMessageAttributes"], "md5OfBody": md5(body),
            "eventSource": "aws:sqs", "eventSourceARN": self.source(queue), "awsRegion": REGION,
        }
        r["messageAttributes"] = dict(sorted(r["messageAttributes"].items()))
        self.assertEqual(json.dumps(wanted, indent=1), json.dumps(r, indent=1))

    def test_fifo(self):
        function, queue = self.raw(), self.fifo()
        sent = sqs.send_message(QueueUrl=queue, MessageBody="b", MessageGroupId="g", MessageDeduplicationId="d", MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}})
        self.map(function, self.source(queue))
        r = self.record(function)
        a = r["attributes"]
        wanted = {
            "messageId": sent["MessageId"], "receiptHandle": r["receiptHandle"], "body": "b",
            "attributes": {
                "ApproximateReceiveCount": "1", "AWSTraceHeader": TRACE, "SentTimestamp": a["SentTimestamp"], "SequenceNumber": sent["SequenceNumber"], "MessageGroupId": "g",
                "SenderId": sts.get_caller_identity()["UserId"], "MessageDeduplicationId": "d", "ApproximateFirstReceiveTimestamp": a["ApproximateFirstReceiveTimestamp"],
            },
            "messageAttributes": {}, "md5OfBody": md5("b"), "eventSource": "aws:sqs", "eventSourceARN": self.source(queue), "awsRegion": REGION,
        }
        self.assertEqual(json.dumps(wanted, indent=1), json.dumps(r, indent=1))

    def test_no_attributes(self):
        """With a filter or a window the digest of no attributes is there and null, else it is not there."""
        given = {"MessageAttributes": {"S": {"DataType": "String", "StringValue": "x"}}}
        for arguments, null in (({}, False), ({"FilterCriteria": {"Filters": [{"Pattern": '{"body":["b"]}'}]}}, True), ({"MaximumBatchingWindowInSeconds": 1}, True)):
            with self.subTest(arguments):
                function, queue = self.player(), self.queue()
                m = self.map(function, self.source(queue), **arguments)
                sqs.send_message(QueueUrl=queue, MessageBody="b")
                digest = lambda n: (lambda r: ("md5OfMessageAttributes" in r, r.get("md5OfMessageAttributes")))(self.calls(function, lambda c: len(c) >= n)[n - 1].records[0])
                self.assertEqual((null, None), digest(1))
                sent = sqs.send_message(QueueUrl=queue, MessageBody="b", **given)
                self.assertEqual((True, sent["MD5OfMessageAttributes"]), digest(2))
                lam.update_event_source_mapping(UUID=m["UUID"], FilterCriteria={}, MaximumBatchingWindowInSeconds=0 if null else 1)
                self.settled(m["UUID"])
                sqs.send_message(QueueUrl=queue, MessageBody="b")
                self.assertEqual((not null, None), digest(3))

    def test_topic(self):
        """What a topic sends to the queue: an envelope, or with raw delivery the message with its attributes."""
        topic = sns.create_topic(Name=self.name("t"))["TopicArn"]
        self.addCleanup(lambda: sns.delete_topic(TopicArn=topic))
        policy = json.dumps({"Statement": {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}})
        made = {}
        for raw in "false", "true":
            function, queue = self.raw(), self.queue(Policy=policy)
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self.source(queue), Attributes={"RawMessageDelivery": raw})
            self.map(function, self.source(queue))
            made[raw] = function
        published = sns.publish(TopicArn=topic, Message='{"hello": "é"}', Subject="Hi", MessageAttributes={
            "S": {"DataType": "String", "StringValue": "x"}, "N": {"DataType": "Number", "StringValue": "5"}, "B": {"DataType": "Binary", "BinaryValue": b"\x01"}})["MessageId"]
        r = self.record(made["false"])
        self.assertEqual(({}, "aws:sqs", False), (r["messageAttributes"], r["eventSource"], "md5OfMessageAttributes" in r))
        body = json.loads(r["body"])
        self.assertEqual(["Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL", "UnsubscribeURL", "MessageAttributes"], list(body))
        self.assertEqual(("Notification", published, topic, "Hi", '{"hello": "é"}'), tuple(body[k] for k in ("Type", "MessageId", "TopicArn", "Subject", "Message")))
        self.assertEqual({"S": {"Type": "String", "Value": "x"}, "N": {"Type": "Number", "Value": "5"}, "B": {"Type": "Binary", "Value": "AQ=="}}, body["MessageAttributes"])
        self.assertEqual(md5(r["body"]), r["md5OfBody"])
        r = self.record(made["true"])
        self.assertEqual('{"hello": "é"}', r["body"])
        empty = {"stringListValues": [], "binaryListValues": []}
        self.assertEqual({
            "S": {"stringValue": "x", **empty, "dataType": "String"}, "N": {"stringValue": "5", **empty, "dataType": "Number"}, "B": {"binaryValue": "AQ==", **empty, "dataType": "Binary"},
        }, r["messageAttributes"])
        self.assertRegex(r["md5OfMessageAttributes"], "^[0-9a-f]{32}$")

    def test_node(self):
        """A handler in JavaScript gets the same and may report the same."""
        function, queue = self.node("""export const handler = async event => {
            console.log('began ' + JSON.stringify({id: 'x', at: Date.now() / 1000, event}));
            return {batchItemFailures: event.Records.filter(r => r.body === 'bad').map(r => ({itemIdentifier: r.messageId}))};
        };""", Timeout=60), self.queue()
        self.feed(queue, "a", "bad", "c")
        self.map(function, self.source(queue), **REPORTS)
        self.until(lambda: self.counts(queue) == (0, 1, 0), "not only what was reported stays")
        calls = lambda: [m.partition("began ")[2] for m in self.printed(function) if "began " in m]
        self.until(calls, "nothing is logged")
        self.assertEqual(["a", "bad", "c"], sorted(r["body"] for r in json.loads(calls()[0])["event"]["Records"]))


class Records(RawCase):
    def test_members(self):
        function, (name, arn) = self.raw(), self.stream()
        data = [b"hello", b"\x00\xff\xfe", "é\u2028".encode(), b"", b'{"a":1}']
        numbers = [kinesis.put_record(StreamName=name, Data=d, PartitionKey="key é<" if i else "1")["SequenceNumber"] for i, d in enumerate(data)]
        self.horizon(function, arn)
        (text,) = self.got(function)
        event = json.loads(text)
        self.assertEqual(["Records"], list(event))
        for i, r in enumerate(event["Records"]):
            stamp = r["kinesis"]["approximateArrivalTimestamp"]
            self.assertAlmostEqual(time.time(), stamp, delta=300)
            wanted = {
                "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "key é<" if i else "1", "sequenceNumber": numbers[i], "data": base64.b64encode(data[i]).decode(), "approximateArrivalTimestamp": stamp},
                "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "shardId-000000000000:" + numbers[i], "eventName": "aws:kinesis:record", "invokeIdentityArn": ROLE, "awsRegion": REGION, "eventSourceARN": arn,
            }
            self.assertEqual(json.dumps(wanted, indent=1), json.dumps(r, indent=1))
        self.assertEqual(len(data), len(re.findall(r'"approximateArrivalTimestamp":\d{10}\.\d{1,3}}', text)))
        stored = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")["ShardIterator"])["Records"]
        self.assertEqual([r["ApproximateArrivalTimestamp"].timestamp() for r in stored], [r["kinesis"]["approximateArrivalTimestamp"] for r in event["Records"]])

    def test_aggregated(self):
        """What producers put together comes as one record, and it is the function that takes it apart."""
        function, (name, arn) = self.raw(), self.stream()
        inner = b"\x0a\x01k" + b"\x1a\x07\x08\x00\x1a\x03one" + b"\x1a\x07\x08\x00\x1a\x03two"
        data = b"\xf3\x89\x9a\xc2" + inner + hashlib.md5(inner).digest()
        kinesis.put_record(StreamName=name, Data=data, PartitionKey="a")
        self.horizon(function, arn)
        self.assertEqual(base64.b64encode(data).decode(), self.record(function)["kinesis"]["data"])

    def test_context(self):
        """The function sees whom the mapping names."""
        function = self.player("print('as ' + json.dumps([context.invoked_function_arn, context.function_version, context.client_context, os.environ['_X_AMZN_TRACE_ID'][:7]]))")
        lam.publish_version(FunctionName=function)
        lam.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
        for qualifier, version in ((None, "$LATEST"), ("live", "1"), ("1", "1")):
            name, arn = self.stream()
            self.horizon(function + (":" + qualifier if qualifier else ""), arn)
            self.puts(name, "a")
            wanted = [function_arn(function, qualifier), version, None, "Root=1-"]
            self.until(lambda: wanted in self.said(function, "as "), f"not called as {wanted}")


class Logs(StreamCase):
    def test_lines(self):
        """An invocation by a mapping is logged as any other, under the request id that the function and the destination see."""
        function, (name, arn), dead = self.player(BAD_FAILS), self.stream(), self.queue()
        self.puts(name, "bad")
        self.horizon(function, arn, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        id = self.failed(dead)["requestContext"]["requestId"]
        self.assertRegex(id, f"^{UUID}$")
        self.until(lambda: any(m.startswith("REPORT ") for m in self.printed(function)), "no REPORT")
        lines = [m.rstrip("\n") for m in self.printed(function) if not m.startswith("INIT_START")]
        self.assertEqual(f"START RequestId: {id} Version: $LATEST", lines[0])
        self.assertEqual(id, json.loads(lines[1].removeprefix("began "))["id"])
        self.assertTrue(any("[ERROR] ValueError: intentional" in l for l in lines), lines)
        self.assertEqual(f"END RequestId: {id}", lines[-2])
        self.assertRegex(lines[-1], f"^REPORT RequestId: {id}\tDuration: [0-9.]+ ms\tBilled Duration: \\d+ ms\tMemory Size: 128 MB\tMax Memory Used: \\d+ MB")


class WhyNotDelivered(StreamCase):
    def why(self, *arguments):
        got = subprocess.run([os.environ["MAYFLY"], "why-not-delivered", "--json", *arguments], capture_output=True, text=True, check=True)
        return json.loads(got.stdout)["mappings"]

    def of(self, record):
        """What became of a record: one mapping knows."""
        known = [m["record"] for m in self.why(record) if m.get("record", {"state": "unknown"})["state"] != "unknown"]
        self.assertEqual(1, len(known), known)
        return known[0]

    def test_stream(self):
        function, (name, arn) = self.player(BAD_FAILS), self.stream()
        numbers = self.puts(name, '{"good":1}', "drop", "bad", "behind")
        m = self.horizon(function, arn, BatchSize=1, FilterCriteria={"Filters": [{"Pattern": '{"partitionKey":["k"]}'}]})
        self.puts(name, "other", key="another")
        bad = {}
        self.until(lambda: bad.update(self.of(numbers["bad"])) or bad["state"] == "failed" and bad["attempts"] >= 2, "the record does not count as failed")
        self.assertIn("intentional", bad["error"])
        self.calls(function, lambda calls: bad["requestId"] in [c.id for c in calls])
        self.assertEqual("processed", self.of(numbers['{"good":1}'])["state"])
        behind = self.of(numbers["behind"])
        self.assertEqual(("waiting", numbers["bad"], "shardId-000000000000"), (behind["state"], behind["behind"], behind["shard"]))
        (mapping,) = self.why("--mapping", name)
        self.assertEqual((m["UUID"], arn, function_arn(function), "Enabled", "PROBLEM: Function call failed"), tuple(mapping[k] for k in ("uuid", "source", "function", "state", "result")))
        (tried,) = self.why("--mapping", m["UUID"], "--try-filter", '{"data":{"good":[{"exists":true}]}}')
        self.assertEqual({False}, {t["takes"] for t in tried["trials"]})
        (tried,) = self.why("--mapping", m["UUID"], "--try-filter", '{"partitionKey":["k"]}')
        self.assertIn({"shard": "shardId-000000000000", "id": numbers["behind"], "takes": True}, tried["trials"])

    def test_given_up(self):
        function, (name, arn), dead = self.player(BAD_FAILS), self.stream(), self.queue()
        numbers = self.puts(name, "a", "bad", "c")
        self.horizon(function, arn, MaximumRetryAttempts=0, BisectBatchOnFunctionError=True, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        record = self.failed(dead)
        self.until(lambda: self.of(numbers["bad"]).get("destination") == self.source(dead), "not known where the record went")
        bad = self.of(numbers["bad"])
        self.assertEqual(("dropped", "RetryAttemptsExhausted", record["requestContext"]["requestId"]), tuple(bad[k] for k in ("state", "condition", "requestId")))
        (mapping,) = self.why("--mapping", name, "--since", "1h")
        (given_up,) = mapping["givenUp"]
        self.assertEqual((numbers["bad"], numbers["bad"], 1), tuple(given_up[k] for k in ("first", "last", "records")))
        self.assertGreaterEqual(mapping["metrics"]["bisected"], 1)

    def test_queue(self):
        function, queue = self.player(BAD_REPORTED), self.queue()
        ids = self.feed(queue, '{"n":1}', "plain", "bad")
        self.map(function, self.source(queue), FilterCriteria={"Filters": [{"Pattern": '{"body":{"n":[1]}}'}, {"Pattern": '{"body":["bad"]}'}]}, **REPORTS)
        calls = self.calls(function, lambda c: len(self.texts(c)) == 2, ended=True)
        wanted = {'{"n":1}': "processed", "plain": "filtered", "bad": "failed"}
        self.until(lambda: {b: self.of(id)["state"] for b, id in ids.items()} == wanted, "not known what became of the messages")
        self.assertIn(self.of(ids["bad"])["requestId"], [c.id for c in calls])

    def test_unknown(self):
        function, queue = self.player(), self.queue()
        of = ["--mapping", self.map(function, self.source(queue))["UUID"]]
        self.assertEqual(["unknown"], [m["record"]["state"] for m in self.why("nobody", *of)])
        say = lambda *arguments: subprocess.run([os.environ["MAYFLY"], "why-not-delivered", *arguments], capture_output=True, text=True, check=True).stdout
        self.assertIn("knows of nobody", say("nobody", *of))
        self.assertEqual("There is no such event source mapping.\n", say("--mapping", self.name()))
