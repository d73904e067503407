"""What event source mappings do with the records of Kinesis streams, as AWS documents it and was recorded to do it."""

import base64
import json
import time

from event_source_behaviour import BAD_FAILS, BAD_REPORTED, REPORTS, BehaviourCase
from event_sources import kinesis
from queueing import sqs
from suite import UUID, client, function_arn, lam

sns = client("sns")

SHARD = "shardId-000000000000"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"

# What functions answer that may report, and how many of three records then come again. $0 is the number of the first record.
ANSWERS = (
    (0, '{"batchItemFailures": []}'),
    (0, '{"batchItemFailures": null}'),
    (0, "{}"),
    (0, "null"),
    (0, '""'),
    (0, "[]"),
    (0, '{"BatchItemFailures": [{"itemIdentifier": "$1"}]}'),
    (0, '{"statusCode": 200}'),
    (1, '{"batchItemFailures": [{"itemIdentifier": "$2"}]}'),
    (2, '{"batchItemFailures": [{"itemIdentifier": "$1"}]}'),
    (2, '{"batchItemFailures": [{"itemIdentifier": "$2"}, {"itemIdentifier": "$1"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$0"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$2"}, {"itemIdentifier": "$0"}, {"itemIdentifier": "$1"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": ""}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": null}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": 123}]}'),
    (3, '{"batchItemFailures": [{"foo": "$1"}]}'),
    (3, '{"batchItemFailures": [{"foo": null}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "123"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$1"}, {"itemIdentifier": "123"}]}'),
)


class StreamCase(BehaviourCase):
    def puts(self, stream, *data, key="k", **arguments):
        """Puts records together, in order if their keys are of one shard; returns their sequence numbers by data."""
        got = kinesis.put_records(StreamName=stream, Records=[{"Data": d, "PartitionKey": key, **arguments} for d in data])
        self.assertEqual(0, got["FailedRecordCount"])
        return {d: r["SequenceNumber"] for d, r in zip(data, got["Records"])}

    def horizon(self, function, arn, **arguments):
        return self.map(function, arn, StartingPosition="TRIM_HORIZON", **arguments)

    def failed(self, queue, limit=90):
        """The next record of what was given up."""
        return json.loads(self.message(queue, limit)["Body"])

    def active(self, name):
        self.until(lambda: kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE", "the stream is not active")


class Positions(StreamCase):
    def test_horizon(self):
        """From the first record on, in order, in batches of the size at most, each record once."""
        function, (name, arn) = self.player(), self.stream()
        wanted = [str(n) for n in range(95)]
        self.puts(name, *wanted)
        self.horizon(function, arn, BatchSize=10)
        calls = self.gets(function, wanted)
        self.assertEqual([10] * 9 + [5], [len(c.records) for c in calls])

    def test_latest(self):
        function, (name, arn) = self.player(), self.stream()
        self.puts(name, "before")
        m = self.map(function, arn, StartingPosition="LATEST")
        self.puts(name, "after")
        self.gets(function, ["after"])
        lam.update_event_source_mapping(UUID=m["UUID"], Enabled=False)
        self.assertEqual("Disabled", self.settled(m["UUID"])["State"])
        self.puts(name, "meanwhile")
        time.sleep(0.5)
        self.assertEqual(1, len(self.calls(function)))
        lam.update_event_source_mapping(UUID=m["UUID"], Enabled=True)
        self.puts(name, "again")
        self.gets(function, ["after", "meanwhile", "again"])

    def test_timestamp(self):
        function, (name, arn) = self.player(), self.stream()
        self.puts(name, "before")
        time.sleep(1.1 - time.time() % 1)  # the moment is given in whole seconds
        moment = int(time.time())
        self.puts(name, "after", "later")
        self.map(function, arn, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=moment)
        self.gets(function, ["after", "later"])

    def test_mapping_made_again(self):
        """A new mapping begins where it is told to, whatever one before it has read."""
        function, (name, arn) = self.player(), self.stream()
        self.puts(name, "a")
        m = self.horizon(function, arn)
        self.calls(function)
        self.unmap(m["UUID"])
        self.puts(name, "b")
        self.horizon(function, arn)
        self.gets(function, ["a", "a", "b"])

    def test_two_functions(self):
        """Each mapping reads all of a stream."""
        functions, (name, arn) = [self.player(), self.player()], self.stream()
        for f in functions:
            self.horizon(f, arn)
        self.puts(name, *"abc")
        for f in functions:
            self.gets(f, ["a", "b", "c"])

    def test_window(self):
        """A batching window gathers, and ends early when the batch is full."""
        function, (name, arn) = self.player(), self.stream()
        m = self.horizon(function, arn, BatchSize=3, MaximumBatchingWindowInSeconds=300)
        self.puts(name, "a")
        time.sleep(0.3)
        self.puts(name, "b")
        time.sleep(0.3)
        self.puts(name, "c", "d")
        self.batches(function, ["a", "b", "c"])
        lam.update_event_source_mapping(UUID=m["UUID"], MaximumBatchingWindowInSeconds=0)
        self.batches(function, ["a", "b", "c"], ["d"])


class Shards(StreamCase):
    def hashes(self, name):
        return [s["HashKeyRange"]["StartingHashKey"] for s in kinesis.list_shards(StreamName=name)["Shards"]]

    def test_apart(self):
        """Explicit hash keys choose the shard; batches are of one shard each, and each shard is in order."""
        function, (name, arn) = self.player(), self.stream(3)
        hashes = self.hashes(name)
        kinesis.put_records(StreamName=name, Records=[{"Data": f"{s}-{n}", "PartitionKey": "same", "ExplicitHashKey": hashes[s]} for n in range(10) for s in range(3)])
        self.horizon(function, arn)
        calls = self.calls(function, lambda c: len(self.texts(c)) == 30)
        for call in calls:
            self.assertEqual(1, len({r["eventID"].split(":")[0] for r in call.records}))
        for s in range(3):
            own = [r for c in calls for r in c.records if r["eventID"].startswith(f"shardId-{s:012}:")]
            self.assertEqual([f"{s}-{n}" for n in range(10)], [base64.b64decode(r["kinesis"]["data"]).decode() for r in own])

    def test_failing_shard(self):
        """A batch that fails holds up its shard and no other."""
        function, (name, arn) = self.player(BAD_FAILS), self.stream(2)
        first, second = self.hashes(name)
        self.puts(name, "bad", "behind", ExplicitHashKey=first)
        self.horizon(function, arn, BatchSize=1)
        self.calls(function, lambda c: len(c) >= 2)
        self.puts(name, "a", "b", ExplicitHashKey=second)
        texts = self.texts(self.calls(function, lambda c: "b" in self.texts(c)))
        self.assertEqual({"bad", "a", "b"}, set(texts))

    def test_parents_first(self):
        """Children of a shard come when it is through, in a split and in a merge."""
        function, (name, arn) = self.player("time.sleep(0.1)"), self.stream()
        self.puts(name, *(f"0-{n}" for n in range(6)))
        kinesis.split_shard(StreamName=name, ShardToSplit=SHARD, NewStartingHashKey=str(1 << 127))
        self.active(name)
        for h in "0", str(1 << 127):
            self.puts(name, *(f"1-{h[:1]}-{n}" for n in range(3)), ExplicitHashKey=h)
        kinesis.merge_shards(StreamName=name, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002")
        self.active(name)
        self.puts(name, "2-0", "2-1")
        self.horizon(function, arn, BatchSize=2)
        calls = self.calls(function, lambda c: len(self.texts(c)) == 14, ended=True)
        texts = self.texts(calls)
        self.assertEqual([f"0-{n}" for n in range(6)], texts[:6])
        self.assertEqual(["2-0", "2-1"], texts[12:])
        for h in "01":
            self.assertEqual([f"1-{h}-{n}" for n in range(3)], [t for t in texts if t.startswith(f"1-{h}")])
        ends = {g: max(c.ended for c in calls if c.texts[0].startswith(g)) for g in "01"}
        for g in "01":
            self.assertGreaterEqual(min(c.began for c in calls if c.texts[0].startswith(str(int(g) + 1))), ends[g])

    def test_later_shards_from_their_start(self):
        """LATEST is of the shards that there are; those that come later are read from their start."""
        function, (name, arn) = self.player(), self.stream()
        self.puts(name, "before")
        self.map(function, arn, StartingPosition="LATEST")
        kinesis.split_shard(StreamName=name, ShardToSplit=SHARD, NewStartingHashKey=str(1 << 127))
        self.active(name)
        self.puts(name, "left", ExplicitHashKey="0")
        self.puts(name, "right", ExplicitHashKey=str(1 << 127))
        self.gets(function, ["left", "right"], sort=True)

    def test_consumer(self):
        """A consumer with enhanced fan-out is a source of its own."""
        function, (name, arn) = self.player(), self.stream()
        consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
        self.until(lambda: kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE", "the consumer is not active")
        self.puts(name, "a", "b")
        m = self.horizon(function, consumer)
        self.assertEqual(consumer, m["EventSourceArn"])
        calls = self.gets(function, ["a", "b"])
        self.assertEqual({consumer}, {r["eventSourceARN"] for c in calls for r in c.records})

    def test_parallel(self):
        """Up to as many batches of a shard as the factor run at once, and the records of a key stay in order."""
        function, (name, arn) = self.player("time.sleep(0.2)"), self.stream()
        kinesis.put_records(StreamName=name, Records=[{"Data": f"{k}-{n}", "PartitionKey": f"key{k}"} for n in range(4) for k in range(12)])
        self.horizon(function, arn, ParallelizationFactor=4, BatchSize=3)
        calls = self.calls(function, lambda c: len(self.texts(c)) == 48, ended=True)
        for k in range(12):
            self.assertEqual([f"{k}-{n}" for n in range(4)], [t for t in self.texts(calls) if t.startswith(f"{k}-")])
            own = [c for c in calls if any(t.startswith(f"{k}-") for t in c.texts)]
            for before, after in zip(own, own[1:]):
                self.assertLessEqual(before.ended, after.began, f"two batches with records of key {k} at once")
        for call in calls:
            self.assertLessEqual(sum(c.began <= call.began < c.ended for c in calls), 4)

    def test_parallel_failing_key(self):
        """With a factor above one a key that fails does not hold up all others."""
        function, (name, arn) = self.player("if any(t.startswith('bad') for t in texts): raise ValueError('intentional')"), self.stream()
        self.puts(name, "bad", "bad behind", key="poison")
        kinesis.put_records(StreamName=name, Records=[{"Data": str(k), "PartitionKey": str(k)} for k in range(30)])
        self.horizon(function, arn, ParallelizationFactor=10, BatchSize=1)
        texts = self.texts(self.calls(function, lambda c: len(set(self.texts(c)) - {"bad"}) >= 15))
        self.assertNotIn("bad behind", texts)


class Failures(StreamCase):
    def gives_up(self, body, *data, **arguments):
        """Maps a function that plays so to a stream with these records; returns function, ARN, numbers and the queue for what is given up."""
        function, (name, arn), dead = self.player(body, **arguments.pop("function", {})), self.stream(), self.queue()
        numbers = self.puts(name, *data)
        self.horizon(function, arn, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}}, **arguments)
        return function, arn, numbers, dead

    def check(self, record, function, arn, first, last, size, count, error="Unhandled", condition="RetryAttemptsExhausted", version="$LATEST"):
        """Compares a record of what was given up with AWS's to the letter, and in its order."""
        context, info = record["requestContext"], record["KinesisBatchInfo"]
        self.assertRegex(context["requestId"], f"^{UUID}$")
        for stamp in record["timestamp"], info["approximateArrivalOfFirstRecord"], info["approximateArrivalOfLastRecord"]:
            self.assertRegex(stamp, TIME)
        wanted = {
            "requestContext": {"requestId": context["requestId"], "functionArn": function_arn(function), "condition": condition, "approximateInvokeCount": count},
            "responseContext": {"statusCode": 200, "executedVersion": version, "functionError": error},
            "version": "1.0", "timestamp": record["timestamp"],
            "KinesisBatchInfo": {
                "shardId": SHARD, "startSequenceNumber": first, "endSequenceNumber": last, "approximateArrivalOfFirstRecord": info["approximateArrivalOfFirstRecord"],
                "approximateArrivalOfLastRecord": info["approximateArrivalOfLastRecord"], "batchSize": size, "streamArn": arn,
            },
        }
        if condition == "RecordAgeExceeded":
            del wanted["responseContext"]
        self.assertEqual(json.dumps(wanted), json.dumps(record))

    def test_retries(self):
        """A batch is invoked once and as often again as is allowed, then described to the destination, and the next one follows."""
        for retries in 0, 2:
            with self.subTest(retries):
                function, arn, numbers, dead = self.gives_up(BAD_FAILS, "a", "bad", "c", BatchSize=2, MaximumRetryAttempts=retries)
                self.check(self.failed(dead), function, arn, numbers["a"], numbers["bad"], 2, retries + 1)
                self.batches(function, *[["a", "bad"]] * (retries + 1), ["c"])

    def test_last_request(self):
        """The record names the last invocation."""
        function, _, _, dead = self.gives_up(BAD_FAILS, "bad", MaximumRetryAttempts=1)
        record = self.failed(dead)
        self.assertEqual(record["requestContext"]["requestId"], self.calls(function, lambda c: len(c) >= 2)[-1].id)

    def test_growing_waits(self):
        function, (name, arn) = self.player(BAD_FAILS), self.stream()
        self.puts(name, "bad")
        m = self.horizon(function, arn)
        calls = self.calls(function, lambda c: len(c) >= 4)
        gaps = [after.began - before.began for before, after in zip(calls, calls[1:])]
        self.assertLess(gaps[0], gaps[2])
        self.assertEqual("PROBLEM: Function call failed", lam.get_event_source_mapping(UUID=m["UUID"])["LastProcessingResult"])

    def test_timeout(self):
        function, arn, numbers, dead = self.gives_up("time.sleep(60)", "a", MaximumRetryAttempts=1, function={"Timeout": 1})
        self.check(self.failed(dead), function, arn, numbers["a"], numbers["a"], 1, 2)

    def test_version(self):
        """A mapping of an alias invokes its version."""
        function, (name, arn), dead = self.player(BAD_FAILS), self.stream(), self.queue()
        lam.publish_version(FunctionName=function)
        lam.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
        self.puts(name, "bad")
        self.horizon(function + ":live", arn, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        self.assertEqual("1", self.failed(dead)["responseContext"]["executedVersion"])

    def test_topic(self):
        """A topic gets the record as a message."""
        function, (name, arn), queue = self.player(BAD_FAILS), self.stream(), self.queue()
        topic = sns.create_topic(Name=self.name("t"))["TopicArn"]
        self.addCleanup(lambda: sns.delete_topic(TopicArn=topic))
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps({"Statement": {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}})})
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self.source(queue))
        number = self.puts(name, "bad")["bad"]
        self.horizon(function, arn, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": topic}})
        notification = self.failed(queue)
        self.assertEqual(("Notification", topic), (notification["Type"], notification["TopicArn"]))
        self.assertEqual(set(), {"Subject", "MessageAttributes"} & set(notification))
        self.check(json.loads(notification["Message"]), function, arn, number, number, 1, 2)

    def test_bisected(self):
        """Splitting finds the bad record; it takes none of the retries."""
        for retries in 0, 1:
            with self.subTest(retries):
                function, arn, numbers, dead = self.gives_up(BAD_FAILS, "a", "b", "bad", "c", "d", MaximumRetryAttempts=retries, BisectBatchOnFunctionError=True)
                record = self.failed(dead)
                self.check(record, function, arn, numbers["bad"], numbers["bad"], 1, record["requestContext"]["approximateInvokeCount"])
                self.gets(function, ["a", "b", "c", "d"], of=lambda call: "bad" not in call.texts)
                calls = self.gets(function, ["bad"] * (retries + 1), of=lambda call: call.texts == ["bad"])
                self.assertEqual(["a", "b", "bad", "c", "d"], calls[0].texts)
                for call in calls:
                    self.assertIn(",".join(call.texts), "a,b,bad,c,d")
                self.assertEqual((0, 0, 0), self.counts(dead))

    def test_bisected_all_bad(self):
        """Where every record is bad each is given up, in order."""
        function, arn, numbers, dead = self.gives_up("raise ValueError('intentional')", "a", "b", "c", MaximumRetryAttempts=0, BisectBatchOnFunctionError=True)
        given_up = []
        while sum(r["KinesisBatchInfo"]["batchSize"] for r in given_up) < 3:
            given_up.append(self.failed(dead))
        firsts = sorted(r["KinesisBatchInfo"]["startSequenceNumber"] for r in given_up)
        self.assertEqual(numbers["a"], firsts[0])
        self.assertEqual(3, sum(r["KinesisBatchInfo"]["batchSize"] for r in given_up))

    def test_throttled(self):
        """Throttles are no attempts."""
        function, (name, arn), dead = self.player(), self.stream(), self.queue()
        lam.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        self.puts(name, "a")
        self.horizon(function, arn, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        time.sleep(1.5)
        lam.delete_function_concurrency(FunctionName=function)
        self.gets(function, ["a"])
        self.assertEqual((0, 0, 0), self.counts(dead))

    def test_no_answer_needed(self):
        """A runtime that answers with nothing succeeds, as recorded."""
        function, (name, arn) = self.create(Environment={"Variables": {"ANSWER": ""}}, Timeout=60), self.stream()
        self.puts(name, "a")
        m = self.horizon(function, arn, BatchSize=1, MaximumRetryAttempts=2)
        self.until(lambda: lam.get_event_source_mapping(UUID=m["UUID"])["LastProcessingResult"] == "OK", "the mapping is not well")
        self.until(lambda: len([m for m in self.printed(function) if m.startswith("REPORT ")]) == 1, "not one invocation")


class Reports(StreamCase):
    def test_answers(self):
        """Records from the lowest one reported come again; a report that makes no sense is a failure of all."""
        function = self.player("""
            answer = json.loads(texts[0])['answer']
            for n, r in enumerate(records):
                answer = answer.replace('$' + str(n), identity(r))
            return json.loads(answer) if len(records) == 3 else None
        """)
        streams = {}
        for again, answer in ANSWERS:
            name, arn = self.stream()
            self.puts(name, *(json.dumps({"n": n, "answer": answer}) for n in range(3)))
            streams[arn] = [[0, 1, 2]] + ([[0, 1, 2][3 - again:]] if again else []), answer
        for arn in streams:
            self.horizon(function, arn, MaximumRetryAttempts=1, **REPORTS)

        def own(calls, arn):
            """The batches of a stream: a third one has what is behind a record that was given up."""
            return [[json.loads(t)["n"] for t in c.texts] for c in calls if c.records[0]["eventSourceARN"] == arn][:2]

        for arn, (wanted, answer) in streams.items():
            with self.subTest(answer):
                self.calls(function, lambda c: own(c, arn) == wanted)
        calls = self.calls(function)
        self.assertEqual([wanted for wanted, _ in streams.values()], [own(calls, arn) for arn in streams])

    def test_recorded(self):
        """Six records in batches of three of which the last one fails."""
        function, (name, arn), dead = self.player(BAD_REPORTED), self.stream(), self.queue()
        numbers = self.puts(name, "0", "1", "2", "3", "4", "bad")
        self.horizon(function, arn, BatchSize=3, MaximumRetryAttempts=3, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}}, **REPORTS)
        record = self.failed(dead)
        self.batches(function, ["0", "1", "2"], ["3", "4", "bad"], ["bad"], ["bad"], ["bad"])
        Failures.check(self, record, function, arn, numbers["bad"], numbers["bad"], 1, 4, error=None)

    def test_bisected(self):
        """With both, a report says where to split, and an error halves."""
        function, (name, arn) = self.player("""
            if 'b' in texts[1:]:
                return {'batchItemFailures': [{'itemIdentifier': identity(records[texts.index('b')])}]}
            if len(texts) > 2:
                raise ValueError('intentional')
        """), self.stream()
        self.puts(name, *"abcd")
        self.horizon(function, arn, BisectBatchOnFunctionError=True, **REPORTS)
        calls = self.calls(function, lambda c: len(c) == 4)
        self.assertEqual([["a", "b", "c", "d"], ["b", "c", "d"]], [c.texts for c in calls[:2]])
        self.assertEqual(["b", "c", "d"], self.texts(calls[2:]))

    def test_not_asked_for(self):
        function, (name, arn) = self.player("return {'batchItemFailures': [{'itemIdentifier': identity(records[0])}]}"), self.stream()
        self.puts(name, "a", "b")
        self.horizon(function, arn, BatchSize=1)
        self.batches(function, ["a"], ["b"])


class Filters(StreamCase):
    DATA = ('{"city":"Seattle","n":11}', '{"city":"Boston","n":3}', "plain", '{"city":"Seattle"', '{"other":{"deep":["x","y"]}}', "")

    def check(self, *cases):
        name, arn = self.stream()
        kinesis.put_records(StreamName=name, Records=[{"Data": d, "PartitionKey": "a" if "city" in d else "b"} for d in self.DATA] + [{"Data": '{"last":1}', "PartitionKey": "last"}])
        made = []
        for patterns, passing in cases:
            function = self.player()
            filters = [{"Pattern": json.dumps(p)} for p in [*patterns, {"data": {"last": [1]}}]]
            self.horizon(function, arn, FilterCriteria={"Filters": filters})
            made.append((function, patterns, passing))
        for function, patterns, passing in made:
            with self.subTest(patterns):
                self.gets(function, [*passing, '{"last":1}'])

    def test_data(self):
        seattle, boston, _, _, other, _ = self.DATA
        self.check(
            ([], []),
            ([{"data": {"city": ["Seattle"]}}], [seattle]),
            ([{"data": {"n": [{"numeric": ["<", 10]}]}}, {"data": {"other": {"deep": ["y"]}}}], [boston, other]),
            ([{"data": {"city": [{"anything-but": ["Boston"]}]}}], [seattle]),
        )

    def test_rest_of_record(self):
        self.check(
            ([{"partitionKey": ["a"], "data": {"n": [{"exists": True}]}}], [self.DATA[0], self.DATA[1]]),
            ([{"partitionKey": ["b"]}], [self.DATA[2], self.DATA[4], self.DATA[5]]),
            ([{"kinesis": {"partitionKey": ["b"]}}], [self.DATA[2], self.DATA[4], self.DATA[5]]),
            ([{"eventName": ["aws:kinesis:record"], "partitionKey": [{"anything-but": "b"}]}], [self.DATA[0], self.DATA[1], self.DATA[3]]),
        )

    def test_refused(self):
        function, (_, arn) = self.player(), self.stream()
        for pattern in '{"data":["plain"]}', '{"data":"plain"}', "plain", "[]":
            with self.subTest(pattern), self.invalid("^Invalid filter pattern definition\\."):
                self.horizon(function, arn, FilterCriteria={"Filters": [{"Pattern": pattern}]})
