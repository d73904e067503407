"""Records that become too old for their mapping, which takes a minute at least."""

import json
import time

from event_source_behaviour import BAD_FAILS
from event_source_streams import Failures as FailureCase
from event_source_streams import StreamCase
from suite import function_arn, lam


class Ages(StreamCase):
    check = FailureCase.check

    def test_while_retrying(self):
        """A record is tried until it is too old; nobody answered for that."""
        function, (name, arn), dead = self.player(BAD_FAILS), self.stream(), self.queue()
        numbers = self.puts(name, "bad")
        self.horizon(function, arn, BatchSize=1, MaximumRecordAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        put = time.time()
        record = self.failed(dead, limit=180)
        self.assertGreater(time.time() - put, 55)
        count = record["requestContext"]["approximateInvokeCount"]
        self.assertGreater(count, 1)
        self.check(record, function, arn, numbers["bad"], numbers["bad"], 1, count, condition="RecordAgeExceeded")
        self.puts(name, "good")
        calls = self.calls(function, lambda c: "good" in self.texts(c))
        self.assertEqual({"bad"}, set(self.texts(calls[:-1])))

    def test_before_the_first_try(self):
        """Of a batch only what is too old is given up, without an invocation; the rest is processed."""
        function, (name, arn), dead = self.player(), self.stream(), self.queue()
        old = self.puts(name, "old")["old"]
        time.sleep(62)
        self.puts(name, *(f"new{n}" for n in range(5)))
        self.horizon(function, arn, BatchSize=10, MaximumRetryAttempts=0, MaximumRecordAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        self.check(self.failed(dead), function, arn, old, old, 1, 1, condition="RecordAgeExceeded")
        self.gets(function, [f"new{n}" for n in range(5)])

    def test_queue(self):
        """By a tag, messages too."""
        function, queue, dead = self.player(), self.queue(), self.queue()
        ids = self.feed(queue, "old")
        time.sleep(62)
        ids |= self.feed(queue, "new")
        m = self.map(function, self.source(queue), Enabled=False, Tags={"mayfly:MaximumRecordAgeInSeconds": "60", "mayfly:OnFailureDestination": self.source(dead)})
        lam.update_event_source_mapping(UUID=m["UUID"], Enabled=True)
        record = self.failed(dead)
        self.assertEqual((function_arn(function), "RecordAgeExceeded", 1), tuple(record["requestContext"][k] for k in ("functionArn", "condition", "approximateInvokeCount")))
        self.assertNotIn("responseContext", record)
        self.assertIn(ids["old"], json.dumps(record))
        self.gets(function, ["new"])
        self.emptied(queue)
