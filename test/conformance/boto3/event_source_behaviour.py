"""What event source mappings do with the messages of queues, as AWS documents it and was recorded to do it."""

import json
import textwrap
import time

from event_sources import MappingCase, body_of
from queueing import queue_arn, queue_name, sqs
from suite import REGION, eventually, lam, logs

# Says when it was called with what and when it ended, and does in between what a test gives as the body of play.
PLAYER = """
import base64, json, os, time

def text(record):
    return record['body'] if 'body' in record else base64.b64decode(record['kinesis']['data']).decode('utf-8', 'replace')

def identity(record):
    return record['messageId'] if 'body' in record else record['kinesis']['sequenceNumber']

def receives(record):
    return int(record['attributes']['ApproximateReceiveCount'])

def handler(event, context):
    print('began ' + json.dumps({'id': context.aws_request_id, 'at': time.time(), 'event': event}))
    records = event.get('Records', [])
    try:
        return play(event, context, records, [text(r) for r in records])
    finally:
        print('ended ' + json.dumps({'id': context.aws_request_id, 'at': time.time()}))

def play(event, context, records, texts):
"""

# Batches that wait for each other no longer than until there are 20 messages: of 40 one of two batches has so many.
FULL = {"BatchSize": 20, "MaximumBatchingWindowInSeconds": 300, "ScalingConfig": {"MaximumConcurrency": 2}}
REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
BAD_FAILS = "if 'bad' in texts: raise ValueError('intentional')"
BAD_REPORTED = "return {'batchItemFailures': [{'itemIdentifier': identity(r)} for r in records if text(r) == 'bad']}"

# What functions answer that may report, by how many of three messages then stay in the queue. $0 is the id of the first message.
ANSWERS = (
    (0, '{"batchItemFailures": []}'),
    (0, '{"batchItemFailures": null}'),
    (0, "{}"),
    (0, "null"),
    (0, '""'),
    (0, "[]"),
    (0, '{"BatchItemFailures": [{"itemIdentifier": "$1"}]}'),
    (0, '{"statusCode": 200, "body": "done"}'),
    (1, '{"batchItemFailures": [{"itemIdentifier": "$0"}]}'),
    (1, '{"batchItemFailures": [{"itemIdentifier": "$1"}], "more": {"itemIdentifier": "$0"}}'),
    (1, '{"batchItemFailures": [{"itemIdentifier": "$0"}, {"itemIdentifier": "$0"}]}'),
    (2, '{"batchItemFailures": [{"itemIdentifier": "$2", "reason": "x"}, {"itemIdentifier": "$0"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$0"}, {"itemIdentifier": "$1"}, {"itemIdentifier": "$2"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": ""}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": null}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": 123}]}'),
    (3, '{"batchItemFailures": [{"foo": "$0"}]}'),
    (3, '{"batchItemFailures": [{"foo": null}]}'),
    (3, '{"batchItemFailures": [{}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "nobody"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$0"}, {"itemIdentifier": "nobody"}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$0"}, {"itemIdentifier": ""}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$0"}, {"itemIdentifier": null}]}'),
    (3, '{"batchItemFailures": [{"itemIdentifier": "$0"}, {"messageId": "$1"}]}'),
    (3, '{"batchItemFailures": ["$0"]}'),
)

# What is not JSON can only be answered by a runtime of one's own.
RAW_ANSWERS = ((0, ""), (3, "not JSON"), (3, '{"batchItemFailures": ['), (3, "{'batchItemFailures': []}"))


class Call:
    """One invocation as its function saw it."""

    def __init__(self, function, said):
        self.function = function
        self.id, self.began, self.event, self.ended = said["id"], said["at"], said["event"], None
        self.records = self.event.get("Records", [])
        self.texts = [body_of(r) for r in self.records]


class BehaviourCase(MappingCase):
    """Messages are in flight for so long that none comes back by itself before a busy machine has had its turn; again calls them back."""

    def queue(self, *arguments, **attributes):
        return super().queue(*arguments, **dict(dict(VisibilityTimeout="300"), **attributes))

    def again(self, url, call, *texts):
        """Makes the messages of a call that ended visible, together: all, or those with these texts."""
        self.until(lambda: any(said["id"] == call.id for said in self.said(call.function, "ended ")), "the call does not end")
        entries = [{"Id": str(i), "ReceiptHandle": r["receiptHandle"], "VisibilityTimeout": 0} for i, r in enumerate(call.records) if not texts or r["body"] in texts]
        self.assertNotIn("Failed", sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries))

    def receives(self, calls):
        return [c.records[0]["attributes"]["ApproximateReceiveCount"] for c in calls]

    def player(self, body="return None", **arguments):
        """A function that plays so, in Python: it has event, context, records and their texts, text, identity and receives."""
        return self.python(PLAYER + textwrap.indent(textwrap.dedent(body), "    "), **dict(dict(Timeout=60), **arguments))

    def printed(self, function):
        """The messages in a function's log as far as there are any."""
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName="/aws/lambda/" + function)
            return [e["message"] for p in pages for e in p["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []

    def said(self, function, word):
        return [json.loads(m[len(word):]) for m in self.printed(function) if m.startswith(word)]

    def calls(self, function, done=lambda calls: True, ended=False, limit=90):
        """The calls of a player by when they began, once done is true of them, and all of them ended if that is asked for."""

        def read():
            calls[:] = sorted((Call(function, said) for said in self.said(function, "began ")), key=lambda call: call.began)
            if ended:
                ends = {said["id"]: said["at"] for said in self.said(function, "ended ")}
                for call in calls:
                    call.ended = ends.get(call.id)
            return calls and done(calls) and (not ended or all(call.ended for call in calls))

        calls = []
        self.assertTrue(eventually(read, limit), f"{function} was not called as awaited, but with {[c.texts for c in calls]}")
        return calls

    def gets(self, function, wanted, of=lambda call: True, sort=False):
        """Awaits that a player got exactly these texts, in this order unless they are sorted, in those of its calls that count; returns all calls."""
        order = sorted if sort else list
        read = lambda calls: order(self.texts(c for c in calls if of(c)))
        try:
            return self.calls(function, lambda c: read(c) == order(wanted))
        except AssertionError:
            self.assertEqual(order(wanted), read(self.calls(function, limit=0)))
            raise

    def batches(self, function, *wanted):
        """Awaits that a player got exactly these batches."""
        self.calls(function, lambda calls: [c.texts for c in calls] == list(wanted))

    def texts(self, calls):
        return [t for call in calls for t in call.texts]

    def source(self, url):
        return queue_arn(queue_name(url))

    def feed(self, url, *bodies, **arguments):
        """Sends messages together, so that they are there for one receive."""
        got = sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": b, **arguments} for i, b in enumerate(bodies)])
        self.assertNotIn("Failed", got)
        return {bodies[int(m["Id"])]: m["MessageId"] for m in got["Successful"]}

    def until(self, true, message, limit=90):
        self.assertTrue(eventually(true, limit), message)

    def emptied(self, url):
        self.until(lambda: self.counts(url) == (0, 0, 0), "not all messages were deleted")


class Deletion(BehaviourCase):
    def test_after_success(self):
        function, queue = self.player("time.sleep(1)"), self.queue()
        self.feed(queue, *"abc")
        self.map(function, self.source(queue))
        gone = []
        self.until(lambda: gone.append((sum(self.counts(queue)), time.time())) or gone[-1][0] == 0, "the messages were not deleted")
        (call,) = self.calls(function, ended=True)
        self.assertEqual(["a", "b", "c"], sorted(call.texts))
        self.assertEqual({3}, {left for left, at in gone if at < call.ended}, "messages were deleted before the function ended")

    def test_after_failure(self):
        """What failed is there again when its visibility timeout ends, not earlier; each receive counts and is an invocation of its own."""
        function, queue = self.player("if receives(records[0]) < 3: raise ValueError('intentional')", Timeout=4), self.queue(VisibilityTimeout="4")
        sent = self.feed(queue, "again")["again"]
        self.map(function, self.source(queue))
        self.emptied(queue)
        calls = self.calls(function, lambda c: len(c) >= 2 and int(max(self.receives(c))) >= 3)
        self.assertEqual({sent}, {c.records[0]["messageId"] for c in calls})
        for values in [c.id for c in calls], [c.records[0]["receiptHandle"] for c in calls], self.receives(calls):
            self.assertEqual(len(calls), len(set(values)))
        ((sent, received),) = {(a["SentTimestamp"], a["ApproximateFirstReceiveTimestamp"]) for a in (c.records[0]["attributes"] for c in calls)}
        self.assertLessEqual(int(sent), int(received))
        for call, n in zip(calls, self.receives(calls)):
            self.assertGreaterEqual(call.began, int(received) / 1000 + 4 * (int(n) - 1) - 0.05)

    def test_to_dead_letter_queue(self):
        """A message that was received as often as the policy allows ends in the dead-letter queue, from where it can be mapped again."""
        function, rescuer = self.player(BAD_FAILS), self.player()
        queue, dead = self.piped(receives=2)
        sent = self.feed(queue, "bad")["bad"]
        self.map(function, self.source(queue))
        self.map(rescuer, self.source(dead))
        for n in 1, 2:
            calls = self.calls(function, lambda c: len(c) == n)
            self.again(queue, calls[-1])
        (call,) = self.calls(rescuer)
        record = call.records[0]
        self.assertEqual((sent, "bad", self.source(dead)), (record["messageId"], record["body"], record["eventSourceARN"]))
        self.assertEqual(["DeadLetterQueueSourceArn", "ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"], list(record["attributes"]))
        self.assertEqual(self.source(queue), record["attributes"]["DeadLetterQueueSourceArn"])
        self.assertEqual("3", record["attributes"]["ApproximateReceiveCount"])
        self.assertEqual(["1", "2"], self.receives(calls))
        self.assertEqual(calls[0].records[0]["attributes"]["SentTimestamp"], record["attributes"]["SentTimestamp"])
        self.emptied(dead)

    def test_after_timeout(self):
        function, queue = self.player("if receives(records[0]) == 1: time.sleep(90)", Timeout=10), self.queue()
        self.feed(queue, "slow")
        self.map(function, self.source(queue))
        (call,) = self.calls(function)
        self.until(lambda: any(f"{call.id} Task timed out after 10.00 seconds" in m for m in self.printed(function)), "the log does not say so")
        self.assertEqual((0, 1, 0), self.counts(queue))
        lam.update_function_configuration(FunctionName=function, Timeout=60)
        self.wait("function_updated_v2", function)
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=call.records[0]["receiptHandle"], VisibilityTimeout=0)
        self.assertEqual(["1", "2"], self.receives(self.calls(function, lambda c: len(c) == 2)))
        self.emptied(queue)

    def test_by_hand(self):
        """The receipt handle in an event is good for deleting a message and for changing its visibility."""
        function, queue = self.player("raise ValueError('intentional')"), self.queue()
        self.feed(queue, "a", "b")
        self.map(function, self.source(queue), BatchSize=1)
        records = {c.texts[0]: c.records[0] for c in self.calls(function, lambda c: len(c) == 2, ended=True)}
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=records["a"]["receiptHandle"])
        self.assertEqual((0, 1, 0), self.counts(queue))
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=records["b"]["receiptHandle"], VisibilityTimeout=0)
        again = self.calls(function, lambda c: len(c) == 3)[2]
        self.assertEqual(("b", "2"), (again.texts[0], again.records[0]["attributes"]["ApproximateReceiveCount"]))

    def test_no_asynchronous_handling(self):
        """Retries, destinations and the dead-letter queue of a function are not for mappings, which invoke synchronously."""
        mine, lost = self.queue(), self.queue()
        function = self.player("raise ValueError('intentional')", DeadLetterConfig={"TargetArn": self.source(mine)})
        lam.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=2, DestinationConfig={"OnFailure": {"Destination": self.source(lost)}})
        queue = self.queue()
        self.feed(queue, "bad")
        self.map(function, self.source(queue))
        self.calls(function, ended=True)
        time.sleep(1)
        self.assertEqual(1, len(self.calls(function)))
        self.assertEqual([(0, 1, 0), (0, 0, 0), (0, 0, 0)], [self.counts(q) for q in (queue, mine, lost)])

    def test_while_mapping_goes(self):
        """The batch that a function has when its mapping is disabled or deleted ends as any other."""
        for way in ("disabled", "deleted"):
            with self.subTest(way):
                function, queue = self.player("time.sleep(1)"), self.queue()
                m = self.map(function, self.source(queue), BatchSize=1)
                self.send(queue, "a")
                self.calls(function)
                if way == "disabled":
                    lam.update_event_source_mapping(UUID=m["UUID"], Enabled=False)
                else:
                    lam.delete_event_source_mapping(UUID=m["UUID"])
                self.emptied(queue)
                self.assertEqual(1, len(self.calls(function, ended=True)))
                if way == "disabled":
                    self.assertEqual("Disabled", self.settled(m["UUID"])["State"])
                else:
                    self.until(lambda: self.gone(m["UUID"]), "the mapping does not go")
                self.send(queue, "b")
                time.sleep(0.5)
                self.assertEqual((1, 0, 0), self.counts(queue))


class Reports(BehaviourCase):
    """ReportBatchItemFailures."""

    def left(self, function, answers, body):
        queues = []
        for left, answer in answers:
            queue = self.queue()
            self.feed(queue, *(body(n, answer) for n in range(3)))
            queues.append((queue, left, answer))
        mappings = [self.map(function, self.source(queue), wait=False, **REPORTS)["UUID"] for queue, _, _ in queues]
        for queue, left, answer in queues:
            with self.subTest(answer):
                self.until(lambda: self.counts(queue) == (0, left, 0), f"{left} were to stay of 3, not {self.counts(queue)}")
        for uuid in mappings:
            self.assertEqual("Enabled", self.settled(uuid)["State"])

    def test_answers(self):
        function = self.player("""
            said = json.loads(texts[0])['answer']
            for r in records:
                said = said.replace('$' + str(json.loads(r['body'])['n']), r['messageId'])
            return json.loads(said)
        """)
        self.left(function, ANSWERS, lambda n, answer: json.dumps({"n": n, "answer": answer}))
        self.assertEqual({3}, {len(c.records) for c in self.calls(function, lambda c: len(c) >= len(ANSWERS))})

    def test_raw_answers(self):
        for left, answer in RAW_ANSWERS:
            function = self.create(Environment={"Variables": {"ANSWER": answer}}, Timeout=60)
            self.left(function, [(left, answer)], lambda n, _: str(n))

    def test_not_asked_for(self):
        """Without the response type nothing that a function answers matters."""
        function, queue = self.player("return {'batchItemFailures': [{'itemIdentifier': identity(r)} for r in records]}"), self.queue()
        self.feed(queue, *"abc")
        self.map(function, self.source(queue))
        self.calls(function, ended=True)
        self.emptied(queue)

    def test_failure(self):
        """A function that fails reports nothing: all messages come again."""
        function, queue = self.player("raise ValueError('intentional')"), self.queue()
        self.feed(queue, *"abc")
        self.map(function, self.source(queue), **REPORTS)
        self.calls(function, lambda c: len(self.texts(c)) == 3, ended=True)
        self.until(lambda: self.counts(queue) == (0, 3, 0), "messages of a batch that failed were deleted")

    def test_again_alone(self):
        """Only what was reported comes again, and goes to the dead-letter queue; the rest came once."""
        function = self.player(BAD_REPORTED)
        queue, dead = self.piped(receives=3)
        self.feed(queue, "a", "bad", "c")
        self.map(function, self.source(queue), **REPORTS)
        for n in 1, 2, 3:
            calls = self.calls(function, lambda c: len(c) == n)
            self.until(lambda: self.counts(queue) == (0, 1, 0), "not only what was reported stays")
            self.again(queue, calls[-1], "bad")
        self.assertEqual("bad", self.message(dead, limit=90)["Body"])
        self.assertEqual([["a", "bad", "c"], ["bad"], ["bad"]], [sorted(c.texts) for c in calls])


class Fifo(BehaviourCase):
    def fill(self, queue, groups, n):
        for i in range(n):
            for g in groups:
                sqs.send_message(QueueUrl=queue, MessageBody=f"{g}{i}", MessageGroupId=g)

    def test_order(self):
        """A group's messages are in order and in one batch at a time."""
        function, queue = self.player("time.sleep(0.05)"), self.fifo()
        self.fill(queue, "abc", 8)
        self.map(function, self.source(queue), BatchSize=2)
        calls = self.calls(function, lambda c: len(self.texts(c)) == 24, ended=True)
        for g in "abc":
            self.assertEqual([f"{g}{i}" for i in range(8)], [t for t in self.texts(calls) if t[0] == g])
            own = [c for c in calls if any(t[0] == g for t in c.texts)]
            for before, after in zip(own, own[1:]):
                self.assertLessEqual(before.ended, after.began, f"two batches with messages of {g} at once")
        self.emptied(queue)

    def test_failing_group(self):
        """A group whose message fails waits for it; others go on."""
        function, queue = self.player("if texts[0] == 'a1' and receives(records[0]) < 3: raise ValueError('intentional')"), self.fifo()
        self.fill(queue, "ab", 4)
        self.map(function, self.source(queue), BatchSize=1)
        a, b = (lambda call: call.texts[0][0] == "a"), (lambda call: call.texts[0][0] == "b")
        self.gets(function, ["b0", "b1", "b2", "b3"], of=b)
        for n in 1, 2:
            calls = self.gets(function, ["a0"] + ["a1"] * n, of=a)
            self.again(queue, [c for c in calls if c.texts == ["a1"]][-1])
        self.gets(function, ["a0", "a1", "a1", "a1", "a2", "a3"], of=a)
        self.emptied(queue)

    def test_batch_of_failing_group(self):
        """The messages of a batch that failed come again in their order."""
        function, queue = self.player("if receives(records[0]) < 2: raise ValueError('intentional')"), self.fifo()
        self.fill(queue, "a", 5)
        self.map(function, self.source(queue))
        (call,) = self.calls(function)
        self.again(queue, call)
        self.gets(function, [f"a{i}" for i in range(5)] * 2)
        self.emptied(queue)

    def test_reports(self):
        """A function reports the first failure and all that follow it, and gets these again in order."""
        function, queue = self.player("""
            for n, r in enumerate(records):
                if text(r) == 'a2' and receives(r) < 2:
                    return {'batchItemFailures': [{'itemIdentifier': identity(x)} for x in records[n:]]}
        """), self.fifo()
        self.fill(queue, "a", 5)
        self.map(function, self.source(queue), **REPORTS)
        (call,) = self.calls(function)
        self.until(lambda: self.counts(queue) == (0, 3, 0), "not what was reported stays")
        self.again(queue, call, "a2", "a3", "a4")
        self.gets(function, ["a0", "a1", "a2", "a3", "a4", "a2", "a3", "a4"])
        self.emptied(queue)

    def test_gap_in_report(self):
        """What a function does not report is done, even behind what it does."""
        function, queue = self.player(BAD_REPORTED), self.fifo()
        for body in "a0", "bad", "a2":
            sqs.send_message(QueueUrl=queue, MessageBody=body, MessageGroupId="a")
        self.map(function, self.source(queue), **REPORTS)
        self.until(lambda: self.counts(queue) == (0, 1, 0), "not only what was reported stays")
        self.gets(function, ["a0", "bad", "a2"])

    def test_dead_letter_queue_frees_group(self):
        function, dead = self.player("if texts[0] == 'a0': raise ValueError('intentional')"), self.fifo()
        queue, _ = self.piped(2, dead, FifoQueue="true", ContentBasedDeduplication="true")
        self.fill(queue, "a", 3)
        self.map(function, self.source(queue), BatchSize=1)
        for n in 1, 2:
            self.again(queue, self.calls(function, lambda c: len(c) == n)[-1])
        self.gets(function, ["a0", "a0", "a1", "a2"])
        self.assertEqual("a0", self.message(dead)["Body"])


class Filters(BehaviourCase):
    MESSAGES = {
        '{"city":"Seattle","n":11}': {}, '{"city":"Boston","n":3}': {}, '{"city":["Seattle","Rome"]}': {}, '{"city":null}': {}, "Seattle": {}, "[1,2]": {}, "42": {}, '"quoted"': {}, '{"city":"Seattle"': {},
        '{"other":1}': {"color": {"DataType": "String", "StringValue": "red"}},
    }

    def check(self, *cases):
        """Each case is patterns and how the bodies begin that pass one of them; the others are deleted unseen."""
        queues = []
        for patterns, passing in cases:
            function, queue = self.player(), self.queue()
            sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(i), "MessageBody": b, "MessageAttributes": a} for i, (b, a) in enumerate(self.MESSAGES.items())])
            filters = [{"Pattern": p if isinstance(p, str) else json.dumps(p)} for p in patterns]
            self.map(function, self.source(queue), wait=False, FilterCriteria={"Filters": filters})
            queues.append((queue, function, patterns, passing))
        for queue, function, patterns, passing in queues:
            with self.subTest(patterns):
                self.emptied(queue)
                if passing:
                    self.gets(function, passing, sort=True)
                else:
                    self.assertEqual([], self.printed(function))

    def test_body(self):
        seattle, boston, both, null, *_ = self.MESSAGES
        other = '{"other":1}'
        self.check(
            ([{"body": {"city": ["Seattle"]}}], [seattle, both]),
            ([{"body": {"city": ["Seattle"], "n": [{"numeric": [">", 10]}]}}], [seattle]),
            ([{"body": {"city": ["Boston"]}}, {"body": {"other": [1]}}], [boston, other]),
            ([{"body": {"city": [{"anything-but": ["Seattle"]}]}}], [boston, both, null]),
            ([{"body": {"city": [{"exists": False}], "other": [{"exists": True}]}}], [other]),
            ([{"body": {"city": [None]}}], [null]),
            ([{"body": {"city": [{"prefix": "Sea"}]}}], [seattle, both]),
            ([{"body": {"$or": [{"city": ["Boston"]}, {"n": [11]}]}}], [seattle, boston]),
            (['{"body":{"city":["Boston"],"city":["Seattle"]}}'], [seattle, both]),  # of a name that is there twice the last counts
            ([{"body": {"city": ["Nowhere"]}}], []),
        )

    def test_plain(self):
        """A pattern of plain strings is matched against bodies that are not JSON."""
        self.check(
            ([{"body": ["Seattle"]}], ["Seattle"]),
            ([{"body": [{"prefix": "Sea"}]}], ["Seattle"]),
            ([{"body": [{"prefix": "Sea"}]}, {"body": {"n": [3]}}], ["Seattle", '{"city":"Boston","n":3}']),
        )

    def test_rest_of_record(self):
        """A pattern without body looks at the rest of the record, whatever the body is."""
        everything = list(self.MESSAGES)
        self.check(
            ([{"messageAttributes": {"color": {"stringValue": ["red"]}}}], ['{"other":1}']),
            ([{"attributes": {"ApproximateReceiveCount": ["1"]}}], everything),
            ([{"awsRegion": [REGION], "eventSource": ["aws:sqs"]}], everything),
            ([{"awsRegion": ["nowhere"]}], []),
        )

    def test_fifo(self):
        """What does not match is out of the way of its group."""
        function, queue = self.player(), self.fifo()
        for body in '{"n":1}', "plain", '{"n":2}', '{"m":3}', '{"n":3}':
            sqs.send_message(QueueUrl=queue, MessageBody=body, MessageGroupId="g")
        self.map(function, self.source(queue), FilterCriteria={"Filters": [{"Pattern": '{"body":{"n":[{"exists":true}]}}'}]})
        self.gets(function, ['{"n":1}', '{"n":2}', '{"n":3}'])
        self.emptied(queue)

    def test_counts_before_batches(self):
        """Batches are made of what matches."""
        function, queue = self.player(), self.queue()
        for _ in range(8):
            self.feed(queue, *[f'{{"n":{i % 2}}}' for i in range(10)])
        self.map(function, self.source(queue), FilterCriteria={"Filters": [{"Pattern": '{"body":{"n":[1]}}'}]}, **FULL)
        self.assertEqual(['{"n":1}'] * 20, self.calls(function)[0].texts)


class Batches(BehaviourCase):
    SIZES = "import json\ndef handler(event, context):\n    print('began ' + json.dumps({'id': context.aws_request_id, 'at': 0, 'event': {}, 'n': len(event['Records']), 'bytes': len(json.dumps(event, ensure_ascii=False, separators=(',', ':')))}))\n"

    def test_default(self):
        function, queue = self.player(), self.queue()
        for _ in range(3):
            self.feed(queue, *map(str, range(10)))
        self.map(function, self.source(queue))
        calls = self.gets(function, list(map(str, range(10))) * 3, sort=True)
        self.assertTrue(all(len(c.records) <= 10 for c in calls))

    def test_window(self):
        """A window gathers what arrives while it is open, and begins with the first message."""
        function, queue = self.player(), self.queue()
        self.map(function, self.source(queue), BatchSize=1000, MaximumBatchingWindowInSeconds=2)
        self.feed(queue, "a", "b")
        self.feed(queue, "c")
        calls = self.gets(function, ["a", "b", "c"], sort=True)
        for call in calls:
            self.assertGreaterEqual(call.began - min(int(r["attributes"]["SentTimestamp"]) for r in call.records) / 1000, 1.9)
        self.emptied(queue)

    def test_visibility_in_window(self):
        """Where window and function together may last longer than the visibility timeout, messages are hidden for both and 30 seconds."""
        function, queue = self.player("raise ValueError('intentional')", Timeout=4), self.queue(VisibilityTimeout="4")
        self.map(function, self.source(queue), MaximumBatchingWindowInSeconds=1)
        self.feed(queue, "a")
        received = int(self.calls(function, ended=True)[0].records[0]["attributes"]["ApproximateFirstReceiveTimestamp"]) / 1000
        time.sleep(max(0, received + 6 - time.time()))
        counts = self.counts(queue)
        if time.time() < received + 30:  # else the machine is too busy to tell
            self.assertEqual((0, 1, 0), counts)

    def test_full_before_window(self):
        function, queue = self.player(), self.queue()
        self.map(function, self.source(queue), **FULL)
        for i in range(4):
            self.feed(queue, *(f"{i}{n}" for n in range(10)))
        self.assertEqual(20, len(self.calls(function)[0].texts))

    def test_many(self):
        """More than one receive brings goes to the function at once, each message once."""
        function, queue = self.player("print('texts ' + json.dumps(texts))", MemorySize=512), self.queue()
        for i in range(60):
            self.feed(queue, *(f"{i}-{n}" for n in range(10)))
        self.map(function, self.source(queue), BatchSize=10000, MaximumBatchingWindowInSeconds=1)
        batches = []

        def read():
            batches[:] = self.said(function, "texts ")
            return sum(map(len, batches)) >= 600

        self.until(read, "not all messages came")
        self.assertEqual(sorted(f"{i}-{n}" for i in range(60) for n in range(10)), sorted(t for b in batches for t in b))
        self.assertGreater(max(map(len, batches)), 10)
        self.emptied(queue)

    def test_six_megabytes(self):
        """An event is never larger than 6 MB; a batch that is so large does not wait for its window."""
        function, queue = self.python(self.SIZES, MemorySize=512, Timeout=60), self.queue()
        for fill in ["x"] * 6 + ['"'] * 4:  # a quote takes two bytes in the event
            sqs.send_message(QueueUrl=queue, MessageBody=fill * (1 << 20))
        self.map(function, self.source(queue), BatchSize=10000, MaximumBatchingWindowInSeconds=300, ScalingConfig={"MaximumConcurrency": 2})
        self.until(lambda: self.said(function, "began "), "full batches waited for their window")
        for call in self.said(function, "began "):
            self.assertLessEqual(call["bytes"], 6 << 20)

    def test_large_messages(self):
        """Ten messages of the size that SQS allows at most come in as many events as they need."""
        function, queue = self.python(self.SIZES, MemorySize=512, Timeout=60), self.queue()
        for _ in range(10):
            sqs.send_message(QueueUrl=queue, MessageBody="x" * (1 << 20))
        with self.refused("InvalidParameterValue", 400):
            sqs.send_message(QueueUrl=queue, MessageBody="x" * ((1 << 20) + 1))
        self.map(function, self.source(queue))
        self.until(lambda: sum(c["n"] for c in self.said(function, "began ")) >= 10, "not all messages came")
        self.emptied(queue)
        got = self.said(function, "began ")
        self.assertEqual(10, sum(c["n"] for c in got))
        self.assertTrue(all(c["bytes"] <= 6 << 20 for c in got), got)

    def test_delayed(self):
        function, queue = self.player(), self.queue(DelaySeconds="1")
        self.map(function, self.source(queue))
        delays = {"now": 0, "soon": 1000, "late": 2000}
        sqs.send_message(QueueUrl=queue, MessageBody="late", DelaySeconds=2)
        sqs.send_message(QueueUrl=queue, MessageBody="soon")
        sqs.send_message(QueueUrl=queue, MessageBody="now", DelaySeconds=0)
        calls = self.calls(function, lambda c: len(self.texts(c)) == 3)
        self.assertEqual(set(delays), set(self.texts(calls)))
        for record in (r for c in calls for r in c.records):
            attributes = record["attributes"]
            self.assertGreaterEqual(int(attributes["ApproximateFirstReceiveTimestamp"]) - int(attributes["SentTimestamp"]), delays[record["body"]])


class Concurrency(BehaviourCase):
    def test_maximum(self):
        function, queue = self.player("time.sleep(0.3)"), self.queue()
        self.feed(queue, *map(str, range(10)))
        self.map(function, self.source(queue), BatchSize=1, ScalingConfig={"MaximumConcurrency": 2})
        calls = self.calls(function, lambda c: len(c) >= 10, ended=True)
        for call in calls:
            self.assertLessEqual(sum(c.began <= call.began < c.ended for c in calls), 2)
        self.emptied(queue)

    def test_provisioned(self):
        function, queue = self.player(), self.queue()
        self.map(function, self.source(queue), ProvisionedPollerConfig={"MinimumPollers": 2, "MaximumPollers": 2})
        for i in range(4):
            self.feed(queue, *(f"{i}{n}" for n in range(10)))
        self.gets(function, [f"{i}{n}" for i in range(4) for n in range(10)], sort=True)
        self.emptied(queue)

    def test_throttled(self):
        """What a throttled function does not get stays in the queue until it does."""
        function, queue = self.player(Timeout=1), self.queue(VisibilityTimeout="2")
        lam.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        self.map(function, self.source(queue))
        self.feed(queue, "a", "b")
        self.until(lambda: self.counts(queue)[1] > 0, "the messages were not taken")
        time.sleep(0.5)
        self.assertEqual(2, sum(self.counts(queue)))
        lam.delete_function_concurrency(FunctionName=function)
        self.assertEqual(["a", "b"], sorted(set(self.texts(self.calls(function, lambda c: len(set(self.texts(c))) == 2)))))
        self.emptied(queue)

    def test_disabled(self):
        function, queue = self.player(), self.queue()
        m = self.map(function, self.source(queue))
        lam.update_event_source_mapping(UUID=m["UUID"], Enabled=False)
        self.assertEqual("Disabled", self.settled(m["UUID"])["State"])
        self.feed(queue, "a")
        time.sleep(0.5)
        self.assertEqual((1, 0, 0), self.counts(queue))
        lam.update_event_source_mapping(UUID=m["UUID"], Enabled=True)
        self.assertEqual("1", self.calls(function)[0].records[0]["attributes"]["ApproximateReceiveCount"])

    def test_two_functions(self):
        """Mappings of one queue share its messages."""
        first, second, queue = self.player(), self.player(), self.queue()
        for f in first, second:
            self.map(f, self.source(queue), BatchSize=1)
        for i in range(4):
            self.feed(queue, *(f"{i}{n}" for n in range(10)))
        self.emptied(queue)
        wanted = sorted(f"{i}{n}" for i in range(4) for n in range(10))
        self.until(lambda: sorted(t for f in (first, second) for said in self.said(f, "began ") for t in Call(f, said).texts) == wanted, "not each message came once")
