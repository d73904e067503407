"""Windows over streams, and what tags switch on beyond AWS."""

import json
import time
from datetime import datetime, timezone

from event_source_behaviour import BAD_FAILS, BAD_REPORTED, REPORTS
from event_source_streams import StreamCase
from event_sources import kinesis
from queueing import sqs
from suite import ACCOUNT, REGION, function_arn, lam

# Counts and sums what came, in the window's state.
SUMS = """
state = dict(event['state'])
for t in texts:
    state['sum'] = state.get('sum', 0) + int(t)
    state.setdefault('seen', []).append(t)
return {'state': state}
"""

MEMBERS = ["Records", "window", "state", "shardId", "eventSourceARN", "isFinalInvokeForWindow", "isWindowTerminatedEarly"]


def moment(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()


class WindowCase(StreamCase):
    def finals(self, calls):
        return [c for c in calls if c.event["isFinalInvokeForWindow"]]

    def total(self, calls):
        return sum(c.event["state"].get("sum", 0) for c in self.finals(calls))

    def seen(self, calls):
        return [t for c in self.finals(calls) for t in c.event["state"].get("seen", [])]

    def windows(self, calls):
        """The calls of each window of each shard."""
        found = {}
        for call in calls:
            found.setdefault((call.event["shardId"], call.event["window"]["start"]), []).append(call)
        return found


class Tumbling(WindowCase):
    def test_event(self):
        """The state goes from call to call of a window, and is dropped after the last one."""
        function, (name, arn) = self.player(SUMS), self.stream()
        self.horizon(function, arn, TumblingWindowInSeconds=2, BatchSize=2)
        self.puts(name, "1", "2", "3")
        time.sleep(2)
        self.puts(name, "4", "5")
        calls = self.calls(function, lambda c: self.total(c) >= 15 and len(self.texts(c)) == 5)
        self.assertEqual(15, self.total(calls))
        self.assertEqual(["1", "2", "3", "4", "5"], self.seen(calls))
        for call in calls:
            e = call.event
            self.assertEqual(MEMBERS, list(e))
            self.assertEqual(["start", "end"], list(e["window"]))
            start, end = moment(e["window"]["start"]), moment(e["window"]["end"])
            self.assertEqual((2, 0), (end - start, start % 2), "windows are aligned")
            self.assertEqual(("shardId-000000000000", arn, False), (e["shardId"], e["eventSourceARN"], e["isWindowTerminatedEarly"]))
            for r in call.records:
                self.assertTrue(start <= r["kinesis"]["approximateArrivalTimestamp"] < end or start > r["kinesis"]["approximateArrivalTimestamp"], "a record is in a window before it arrived")
            if not e["isFinalInvokeForWindow"]:
                self.assertTrue(call.records)
                self.assertLessEqual(len(call.records), 2)
        for own in self.windows(calls).values():
            self.assertEqual([False] * (len(own) - 1) + [True], [c.event["isFinalInvokeForWindow"] for c in own])
            state = {}
            for call in own:
                self.assertEqual(state, call.event["state"])
                for t in call.texts:
                    state = {"sum": state.get("sum", 0) + int(t), "seen": [*state.get("seen", []), t]}
            self.assertGreaterEqual(own[-1].began, moment(own[-1].event["window"]["end"]), "the window ended early")

    def test_shards(self):
        """Each shard has windows of its own."""
        function, (name, arn) = self.player(SUMS), self.stream(2)
        self.horizon(function, arn, TumblingWindowInSeconds=1)
        hashes = [s["HashKeyRange"]["StartingHashKey"] for s in kinesis.list_shards(StreamName=name)["Shards"]]
        self.puts(name, "1", "2", ExplicitHashKey=hashes[0])
        self.puts(name, "10", "20", ExplicitHashKey=hashes[1])
        calls = self.calls(function, lambda c: self.total(c) >= 33)
        for shard, total in ("shardId-000000000000", 3), ("shardId-000000000001", 30):
            self.assertEqual(total, self.total([c for c in calls if c.event["shardId"] == shard]))

    def test_no_state(self):
        """A response without a state is a failure."""
        for answer in "None", "{}", "{'batchItemFailures': []}":
            with self.subTest(answer):
                function, (name, arn), dead = self.player(f"return {answer}"), self.stream(), self.queue()
                number = self.puts(name, "1")["1"]
                self.horizon(function, arn, TumblingWindowInSeconds=1, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
                record = self.failed(dead)
                self.assertEqual(("RetryAttemptsExhausted", 2), (record["requestContext"]["condition"], record["requestContext"]["approximateInvokeCount"]))
                self.assertEqual((number, 1), (record["KinesisBatchInfo"]["startSequenceNumber"], record["KinesisBatchInfo"]["batchSize"]))

    def test_retries(self):
        """A failed call is repeated with the state that it had; what is given up is not in the sum."""
        function, (name, arn), dead = self.player("if 'bad' in texts: raise ValueError('intentional')\n" + SUMS), self.stream(), self.queue()
        numbers = self.puts(name, "1", "bad", "2", "3")
        self.horizon(function, arn, TumblingWindowInSeconds=1, BatchSize=1, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        record = self.failed(dead)
        self.assertEqual((numbers["bad"], 2), (record["KinesisBatchInfo"]["startSequenceNumber"], record["requestContext"]["approximateInvokeCount"]))
        calls = self.calls(function, lambda c: self.total(c) >= 6)
        self.assertEqual(6, self.total(calls))
        bad = [c.event for c in self.gets(function, ["bad"] * 2, of=lambda call: call.texts == ["bad"]) if c.texts == ["bad"]]
        self.assertEqual(bad[0], bad[1])

    def test_bisected(self):
        function, (name, arn), dead = self.player("if 'bad' in texts: raise ValueError('intentional')\n" + SUMS), self.stream(), self.queue()
        numbers = self.puts(name, "1", "2", "bad", "3", "4")
        self.horizon(function, arn, TumblingWindowInSeconds=1, MaximumRetryAttempts=0, BisectBatchOnFunctionError=True, DestinationConfig={"OnFailure": {"Destination": self.source(dead)}})
        self.assertEqual(numbers["bad"], self.failed(dead)["KinesisBatchInfo"]["startSequenceNumber"])
        calls = self.calls(function, lambda c: self.total(c) >= 10)
        self.assertEqual(["1", "2", "3", "4"], self.seen(calls))

    def test_reports(self):
        """With a report the state is that of the records before the first one reported, and the rest comes again."""
        function, (name, arn) = self.player("""
            state, failed = dict(event['state']), []
            for r in records:
                if text(r) == '3' and not os.path.exists('/tmp/tried'):
                    open('/tmp/tried', 'w').close()
                    failed.append({'itemIdentifier': identity(r)})
                    break
                state['sum'] = state.get('sum', 0) + int(text(r))
                state.setdefault('seen', []).append(text(r))
            return {'state': state, 'batchItemFailures': failed}
        """), self.stream()
        self.puts(name, "1", "2", "3", "4")
        self.horizon(function, arn, TumblingWindowInSeconds=1, **REPORTS)
        calls = self.calls(function, lambda c: self.total(c) >= 10)
        self.assertEqual(["1", "2", "3", "4"], self.seen(calls))
        self.assertEqual(["3", "4"], next(c.texts for c in calls if c.texts and c.texts[0] == "3"))

    def test_failing_end(self):
        """The next window waits until the end of the one before it succeeds."""
        function, (name, arn) = self.player("""
            if event['isFinalInvokeForWindow'] and event['state'].get('sum') == 1:
                open('/tmp/tries', 'a').write('x')
                if len(open('/tmp/tries').read()) < 3:
                    raise ValueError('intentional')
        """ + SUMS.replace("\n", "\n            ")), self.stream()
        self.horizon(function, arn, TumblingWindowInSeconds=1)
        self.puts(name, "1")
        self.calls(function, lambda c: self.finals(c))
        self.puts(name, "2")
        calls = self.calls(function, lambda c: any("2" in x.event["state"].get("seen", []) for x in self.finals(c)))
        ends = [c for c in self.finals(calls) if c.event["state"].get("sum") == 1]
        self.assertEqual(3, len(ends))
        self.assertEqual(1, len({json.dumps(c.event) for c in ends}))
        self.assertGreater(next(c for c in calls if "2" in c.texts).began, ends[-1].began)

    def test_large_state(self):
        """A state above 1 MB ends the window early; it goes on with a fresh one."""
        function, (name, arn) = self.python("""
import base64, json
def handler(event, context):
    data = [base64.b64decode(r['kinesis']['data']).decode() for r in event['Records']]
    print('saw ' + json.dumps([data, len(json.dumps(event['state'])), event['isFinalInvokeForWindow'], event['isWindowTerminatedEarly']]))
    return {'state': {'x': 'y' * (1 << 20)} if 'big' in data else {'n': 1}}
""", MemorySize=512, Timeout=60), self.stream()
        self.horizon(function, arn, TumblingWindowInSeconds=60, BatchSize=1)
        self.puts(name, "a", "big", "b")
        self.until(lambda: any(saw[0] == ["b"] for saw in self.said(function, "saw ")), "the window does not go on")
        saw = self.said(function, "saw ")
        early = [i for i, s in enumerate(saw) if s[3]]
        self.assertEqual(1, len(early), saw)
        after = next(i for i, s in enumerate(saw) if s[0] == ["b"])
        self.assertLess(early[0], after)
        self.assertEqual(2, saw[after][1], "the state is not fresh")
        self.assertFalse(any(s[3] for s in saw[after:]))

    def test_end_of_shard(self):
        """The end of a shard ends its window, and children begin with states of their own."""
        function, (name, arn) = self.player(SUMS), self.stream()
        self.puts(name, "1", "2")
        self.horizon(function, arn, TumblingWindowInSeconds=60)
        self.calls(function)
        kinesis.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        self.active(name)
        self.puts(name, "4", ExplicitHashKey="0")
        calls = self.calls(function, lambda c: any("4" in x.texts for x in c))
        self.assertEqual(["1", "2"], self.seen([c for c in calls if c.event["shardId"] == "shardId-000000000000"]))
        self.assertEqual({}, next(c for c in calls if "4" in c.texts).event["state"])


class BeyondAws(WindowCase):
    def test_sliding(self):
        """Windows that begin each second and last two see each record twice."""
        function, (name, arn) = self.player(SUMS), self.stream()
        self.horizon(function, arn, TumblingWindowInSeconds=2, Tags={"mayfly:SlideInSeconds": "1"})
        self.puts(name, "1", "2")
        calls = self.calls(function, lambda c: self.total(c) >= 6)
        self.assertEqual(6, self.total(calls))
        ends = [c.event["window"] for c in self.finals(calls) if c.event["state"].get("sum")]
        self.assertEqual({2}, {moment(w["end"]) - moment(w["start"]) for w in ends})
        self.assertEqual(len(ends), len({w["start"] for w in ends}))

    def test_session(self):
        """A window lasts until nothing has come for a while."""
        function, (name, arn) = self.player(SUMS), self.stream()
        self.horizon(function, arn, Tags={"mayfly:SessionGapInSeconds": "2"})
        self.puts(name, "1", "2")
        first = self.calls(function, lambda c: self.total(c) >= 3)
        self.puts(name, "4")
        calls = self.calls(function, lambda c: self.total(c) >= 7)
        self.assertEqual([["1", "2"], ["4"]], [c.event["state"]["seen"] for c in self.finals(calls)])
        arrival = max(r["kinesis"]["approximateArrivalTimestamp"] for c in first for r in c.records)
        self.assertGreaterEqual(self.finals(first)[0].began, arrival + 2)

    def given_up(self, body, *bodies, fifo=False, **arguments):
        function, dead = self.player(body), self.queue()
        queue = self.fifo() if fifo else self.queue()
        if fifo:
            ids = {b: sqs.send_message(QueueUrl=queue, MessageBody=b, MessageGroupId="g")["MessageId"] for b in bodies}
        else:
            ids = self.feed(queue, *bodies)
        tags = {"mayfly:OnFailureDestination": self.source(dead)} | arguments.pop("Tags")
        self.map(function, self.source(queue), Tags=tags, **arguments)
        record = self.failed(dead)
        context, info = record["requestContext"], record["SQSBatchInfo"]
        self.assertEqual((function_arn(function), "RetryAttemptsExhausted"), (context["functionArn"], context["condition"]))
        self.assertEqual((self.source(queue), [ids["bad"]], 1), (info["queueArn"], info["messageIds"], info["batchSize"]))
        self.assertEqual(["bad"], [r["body"] for r in record["payload"]["Records"]])
        self.emptied(queue)
        return function, record

    def test_bisected_queue(self):
        function, record = self.given_up(BAD_FAILS, "a", "b", "bad", "c", "d", Tags={"mayfly:BisectBatchOnFunctionError": "true", "mayfly:MaximumRetryAttempts": "0"})
        self.assertEqual("Unhandled", record["responseContext"]["functionError"])
        self.gets(function, ["a", "b", "c", "d"], of=lambda call: "bad" not in call.texts, sort=True)

    def test_bisected_fifo(self):
        function, _ = self.given_up(BAD_FAILS, "a", "b", "bad", "c", "d", fifo=True, Tags={"mayfly:BisectBatchOnFunctionError": "true", "mayfly:MaximumRetryAttempts": "0"})
        self.gets(function, ["a", "b", "c", "d"], of=lambda call: "bad" not in call.texts)

    def test_reported_queue(self):
        function, record = self.given_up(BAD_REPORTED, "a", "bad", "c", Tags={"mayfly:MaximumRetryAttempts": "0"}, **REPORTS)
        self.assertIsNone(record["responseContext"]["functionError"])
        self.gets(function, ["a", "bad", "c"], sort=True)

    def test_retries_of_queue(self):
        """A retry is another receive."""
        function, queue, dead = self.player(BAD_FAILS), self.queue(), self.queue()
        self.feed(queue, "bad")
        self.map(function, self.source(queue), Tags={"mayfly:MaximumRetryAttempts": "2", "mayfly:OnFailureDestination": self.source(dead)})
        for n in 1, 2:
            self.again(queue, self.calls(function, lambda c: len(c) == n)[-1])
        self.assertEqual(3, self.failed(dead)["requestContext"]["approximateInvokeCount"])
        self.assertEqual(["1", "2", "3"], self.receives(self.calls(function, lambda c: len(c) == 3)))
        self.emptied(queue)

    def test_tags(self):
        """Tags may change later; what is no such tag, or no value of it, is refused."""
        function, queue = self.player(), self.queue()
        m = self.map(function, self.source(queue))
        arn = m["EventSourceMappingArn"]
        for tags in {"mayfly:Nothing": "1"}, {"mayfly:MaximumRetryAttempts": "-2"}, {"mayfly:MaximumRetryAttempts": "10001"}, {"mayfly:MaximumRecordAgeInSeconds": "59"}, {"mayfly:BisectBatchOnFunctionError": "perhaps"}, {"mayfly:SlideInSeconds": "1"}:
            with self.subTest(tags):
                with self.refused("InvalidParameterValueException", 400):
                    lam.tag_resource(Resource=arn, Tags=tags)
                with self.refused("InvalidParameterValueException", 400):
                    lam.create_event_source_mapping(FunctionName=function, EventSourceArn=self.source(self.queue()), Tags=tags)
        self.assertEqual({}, lam.list_tags(Resource=arn)["Tags"])
        dead = self.queue()
        lam.tag_resource(Resource=arn, Tags={"mayfly:MaximumRetryAttempts": "0", "mayfly:OnFailureDestination": self.source(dead), "team": "a"})
        self.settled(m["UUID"])
        self.assertEqual(arn, f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{m['UUID']}")
        lam.untag_resource(Resource=arn, TagKeys=["mayfly:MaximumRetryAttempts"])
        self.assertEqual({"mayfly:OnFailureDestination": self.source(dead), "team": "a"}, lam.list_tags(Resource=arn)["Tags"])
