"""What is changed, taken away and brought back under event source mappings that run."""

import contextlib
import time

from botocore.exceptions import ClientError

from event_source_behaviour import BAD_FAILS, PLAYER
from event_source_streams import StreamCase
from event_sources import kinesis
from queueing import queue_name, sqs
from suite import archive, function_arn, lam


def code(play):
    return archive({"app.py": PLAYER + "    " + play})


class Blocked(StreamCase):
    """A poison record holds up its shard until somebody does something about it."""

    def blocked(self, **arguments):
        function, (name, arn) = self.player(BAD_FAILS), self.stream()
        self.puts(name, "a", "bad", "b")
        m = self.horizon(function, arn, BatchSize=1, **arguments)
        self.calls(function, lambda c: self.texts(c).count("bad") >= 2)
        return function, m["UUID"], name

    def goes_on(self, function):
        self.gets(function, ["a", "b"], of=lambda call: call.texts != ["bad"])

    def test_retries(self):
        function, uuid, _ = self.blocked()
        lam.update_event_source_mapping(UUID=uuid, MaximumRetryAttempts=0)
        self.goes_on(function)
        self.assertEqual("Enabled", self.settled(uuid)["State"])

    def test_destination(self):
        function, uuid, name = self.blocked()
        dead = self.queue()
        lam.update_event_source_mapping(UUID=uuid, MaximumRetryAttempts=3, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        record = self.failed(dead)
        self.assertEqual((1, "RetryAttemptsExhausted"), (record["KinesisBatchInfo"]["batchSize"], record["requestContext"]["condition"]))
        self.goes_on(function)

    def test_code(self):
        function, _, _ = self.blocked()
        lam.update_function_code(FunctionName=function, ZipFile=code("return None"))
        self.goes_on(function)
        self.calls(function, lambda c: self.texts(c)[-2:] == ["bad", "b"])

    def test_filter(self):
        function, uuid, name = self.blocked()
        lam.update_event_source_mapping(UUID=uuid, FilterCriteria={"Filters": [{"Pattern": '{"data":{"x":[1]}}'}]})
        self.settled(uuid)
        self.puts(name, '{"x":1}')
        self.calls(function, lambda c: '{"x":1}' in self.texts(c))

    def test_function(self):
        function, uuid, _ = self.blocked()
        other = self.player()
        lam.update_event_source_mapping(UUID=uuid, FunctionName=other)
        self.gets(other, ["bad", "b"])
        self.assertEqual(function_arn(other), self.settled(uuid)["FunctionArn"])

    def test_disabled(self):
        """A mapping that waits for its next try is disabled at once, and keeps its place."""
        function, uuid, _ = self.blocked()
        lam.update_event_source_mapping(UUID=uuid, Enabled=False)
        self.assertEqual("Disabled", self.settled(uuid)["State"])
        tries = len(self.calls(function))
        time.sleep(1)
        self.assertEqual(tries, len(self.calls(function)))
        lam.update_event_source_mapping(UUID=uuid, Enabled=True, MaximumRetryAttempts=0)
        self.goes_on(function)


class Gone(StreamCase):
    def test_function(self):
        """What there is while the function is away waits for the next one of its name."""
        function, queue, (name, arn) = self.player(), self.queue(VisibilityTimeout="60"), self.stream()
        for m in self.map(function, self.source(queue)), self.horizon(function, arn):
            self.assertEqual("Enabled", m["State"])
        lam.delete_function(FunctionName=function)
        self.feed(queue, "message")
        self.puts(name, "record")
        time.sleep(1)
        self.assertEqual(1, sum(self.counts(queue)))
        self.assertEqual(function, self.player(FunctionName=function))
        self.gets(function, ["message", "record"], sort=True)
        self.emptied(queue)

    def test_queue(self):
        """A queue that is made again is read again."""
        function, queue = self.player(), self.queue()
        m = self.map(function, self.source(queue))
        self.feed(queue, "a")
        self.gets(function, ["a"])
        sqs.delete_queue(QueueUrl=queue)
        time.sleep(0.5)
        self.assertEqual("Enabled", lam.get_event_source_mapping(UUID=m["UUID"])["State"])
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(ClientError):
                self.queue(name=queue_name(queue))
                break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(1)  # a name may not be used again at once
        self.feed(queue, "b")
        self.gets(function, ["a", "b"])
        self.emptied(queue)

    def test_stream(self):
        """A mapping whose stream is deleted can be deleted."""
        function, (name, arn) = self.player(), self.stream()
        m = self.horizon(function, arn)
        self.puts(name, "a")
        self.gets(function, ["a"])
        kinesis.delete_stream(StreamName=name)
        self.until(lambda: lam.get_event_source_mapping(UUID=m["UUID"])["LastProcessingResult"].startswith("PROBLEM"), "the mapping is well without its stream")
        lam.delete_event_source_mapping(UUID=m["UUID"])
        self.until(lambda: self.gone(m["UUID"]), "the mapping does not go")
        kinesis.create_stream(StreamName=name, ShardCount=1)
        self.active(name)

    def test_topic_of_destination(self):
        """A destination that is gone does not hold up the shard."""
        function, (name, arn), dead = self.player(BAD_FAILS), self.stream(), self.queue()
        self.horizon(function, arn, BatchSize=1, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        sqs.delete_queue(QueueUrl=dead)
        self.puts(name, "a", "bad", "b")
        self.gets(function, ["a", "bad", "b"])


class Sizes(StreamCase):
    def test_six_megabytes(self):
        """Records that are too many for one event come in several, in order."""
        function, (name, arn) = self.python("""
import base64, json
def handler(event, context):
    print('saw ' + json.dumps([[base64.b64decode(r['kinesis']['data'][:4]).decode() for r in event['Records']], len(json.dumps(event, separators=(',', ':')))]))
""", MemorySize=512, Timeout=60), self.stream()
        data = [f"{n:03}" + "x" * ((1 << 20) - 10) for n in range(6)]
        for d in data:
            deadline = time.monotonic() + 90
            while True:
                try:
                    kinesis.put_record(StreamName=name, Data=d, PartitionKey="k")
                    break
                except kinesis.exceptions.ProvisionedThroughputExceededException:  # a shard takes 1 MB in a second
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.2)
        self.horizon(function, arn)
        self.until(lambda: sum(len(got) for got, _ in self.said(function, "saw ")) >= 6, "not all records came")
        saw = self.said(function, "saw ")
        self.assertEqual([d[:3] for d in data], [t for got, _ in saw for t in got])
        self.assertTrue(all(size <= 6 << 20 for _, size in saw), saw)


class Batches(StreamCase):
    def test_batch_size(self):
        """A new size holds from the next batch on."""
        function, (name, arn) = self.player(), self.stream()
        m = self.horizon(function, arn, BatchSize=2)
        self.puts(name, *"abcd")
        self.gets(function, list("abcd"))
        lam.update_event_source_mapping(UUID=m["UUID"], BatchSize=4)
        self.settled(m["UUID"])
        self.puts(name, *"efgh")
        self.gets(function, list("abcdefgh"))
        self.assertEqual(["e", "f", "g", "h"], self.calls(function)[-1].texts)

    def test_parallelization(self):
        """The factor may change while records wait: none is lost, none comes twice, and keys keep their order."""
        function, (name, arn) = self.player("time.sleep(0.05)"), self.stream()
        kinesis.put_records(StreamName=name, Records=[{"Data": f"{k}-{n}", "PartitionKey": f"k{k}"} for n in range(12) for k in range(6)])
        m = self.horizon(function, arn, BatchSize=4)
        for factor in 6, 2:
            self.calls(function)
            lam.update_event_source_mapping(UUID=m["UUID"], ParallelizationFactor=factor)
            self.settled(m["UUID"])
        wanted = [f"{k}-{n}" for k in range(6) for n in range(12)]
        calls = self.gets(function, wanted, sort=True)
        for k in range(6):
            self.assertEqual([f"{k}-{n}" for n in range(12)], [t for t in self.texts(calls) if t.startswith(f"{k}-")])
