"""SQS: FIFO queues: order, groups that block, deduplication, high throughput, receives that are tried again."""

import threading

from queueing import QueueCase, client, sqs


class Fifo(QueueCase):
    def put(self, url, group, *bodies, **arguments):
        """Sends to one group and returns the answers."""
        return [sqs.send_message(QueueUrl=url, MessageBody=b, MessageGroupId=group, **arguments) for b in bodies]


class Order(Fifo):
    def test_attributes_of_a_message(self):
        url = self.queue(FifoQueue="true", VisibilityTimeout="0")
        (sent,) = self.put(url, "group-1", "message-body-1", MessageDeduplicationId="dedup-1")
        sent.pop("ResponseMetadata")
        self.assertEqual({"MD5OfMessageBody", "MessageId", "SequenceNumber"}, set(sent))
        self.assertRegex(sent["SequenceNumber"], r"^\d{20}$")
        for n in "1", "2":
            got = self.one(url, AttributeNames=["All"])
            self.assertEqual("19c9e282d65f9733bc6b35d50062c7ee", got["MD5OfBody"])
            system = got["Attributes"]
            self.assertEqual({"ApproximateFirstReceiveTimestamp", "ApproximateReceiveCount", "MessageDeduplicationId", "MessageGroupId", "SenderId", "SentTimestamp", "SequenceNumber"}, set(system))
            self.assertEqual((n, "dedup-1", "group-1", sent["SequenceNumber"]), tuple(system[k] for k in ("ApproximateReceiveCount", "MessageDeduplicationId", "MessageGroupId", "SequenceNumber")))

    def test_sequence_numbers(self):
        url = self.fifo()
        numbers = [self.put(url, f"g{i % 2}", str(i))[0]["SequenceNumber"] for i in range(10)]
        self.assertEqual(sorted(set(numbers)), numbers)
        batch = sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": f"b{i}", "MessageGroupId": "g"} for i in range(10)])
        more = [s["SequenceNumber"] for s in batch["Successful"]]
        self.assertEqual(sorted(set(more)), more)
        self.assertLess(numbers[-1], more[0])

    def test_groups_of_one_answer(self):
        """An answer has all that it may of one group before it goes on to the next."""
        url = self.fifo()
        for group, body in ("1", "g1-m1"), ("2", "g2-m1"), ("1", "g1-m2"), ("1", "g1-m3"):
            self.put(url, group, body)
        self.assertEqual(["g1-m1", "g1-m2", "g1-m3", "g2-m1"], self.bodies(url))
        self.assertEqual((0, 4, 0), self.counts(url))

    def test_single_receives(self):
        url = self.fifo()
        sent = [s["MessageId"] for s in self.put(url, "g", *map(str, range(4)))]
        for id in sent:
            got = self.one(url)
            self.assertEqual(id, got["MessageId"])
            self.delete(url, got)
        self.assertEqual([], self.receive(url))

    def test_again_after_the_timeout(self):
        url = self.fifo(VisibilityTimeout="1")
        self.put(url, "g", "0", "1", "2")
        for _ in range(2):
            self.assertEqual(["0", "1", "2"], self.bodies(url, WaitTimeSeconds=20))

    def test_zero_timeout(self):
        url = self.fifo()
        for group, body in ("1", "g1-m1"), ("2", "g2-m1"), ("2", "g2-m2"), ("3", "g3-m1"), ("1", "g1-m2"):
            self.put(url, group, body)
        self.assertEqual(["g1-m1", "g1-m2", "g2-m1"], self.bodies(url, 3, VisibilityTimeout=0))
        got = self.bodies(url, VisibilityTimeout=0)
        self.assertEqual(sorted(["g3-m1", "g1-m1", "g1-m2", "g2-m1", "g2-m2"]), sorted(got))
        for group in "g1", "g2":
            self.assertEqual([group + "-m1", group + "-m2"], [b for b in got if b.startswith(group)])

    def test_many_consumers_of_one_group(self):
        url = self.fifo()
        self.put(url, "g", *map(str, range(20)))
        seen, lock = [], threading.Lock()

        def consume():
            while True:
                for m in self.receive(url, 3, WaitTimeSeconds=1):
                    with lock:
                        seen.append(int(m["Body"]))
                    self.delete(url, m)
                with lock:
                    if len(seen) >= 20:
                        return

        consumers = [threading.Thread(target=consume) for _ in range(4)]
        for c in consumers:
            c.start()
        for c in consumers:
            c.join()
        self.assertEqual(list(range(20)), seen)


class Groups(Fifo):
    def test_blocked_while_in_flight(self):
        url = self.fifo()
        self.put(url, "1", "m1")
        first = self.one(url)
        self.put(url, "1", "m2")
        self.assertEqual([], self.receive(url, WaitTimeSeconds=1))
        got = []
        waiting = threading.Thread(target=lambda: got.extend(self.receive(url, WaitTimeSeconds=20)))
        waiting.start()
        self.delete(url, first)  # frees the group at once
        waiting.join()
        self.assertEqual(["m2"], [m["Body"] for m in got])

    def test_others_go_on(self):
        url = self.fifo()
        self.put(url, "1", "g1-m1", "g1-m2", "g1-m3")
        self.put(url, "2", "g2-m1")
        self.put(url, "3", "g3-m1")
        self.assertEqual(["g1-m1", "g1-m2"], self.bodies(url, 2))
        self.assertEqual({"g2-m1", "g3-m1"}, set(self.bodies(url)))
        self.assertEqual((1, 4, 0), self.counts(url))

    def test_free_after_all_are_deleted(self):
        url = self.fifo()
        for group, body in ("1", "g1-m1"), ("2", "g2-m1"), ("1", "g1-m2"), ("2", "g2-m2"), ("1", "g1-m3"), ("1", "g1-m4"), ("3", "g3-m1"):
            self.put(url, group, body)
        got = self.receive(url, 2)
        self.assertEqual(["g1-m1", "g1-m2"], [m["Body"] for m in got])
        for m in got:
            self.delete(url, m)
        rest = self.bodies(url)
        self.assertEqual(["g1-m3", "g1-m4", "g2-m1", "g2-m2", "g3-m1"], sorted(rest))
        for group in "g1", "g2":
            self.assertEqual(sorted(b for b in rest if b.startswith(group)), [b for b in rest if b.startswith(group)])

    def test_blocked_after_some_are_deleted(self):
        url = self.fifo()
        self.put(url, "1", "g1-m1", "g1-m2", "g1-m3")
        self.put(url, "2", "g2-m1")
        got = self.receive(url, 2)
        self.delete(url, got[0])
        self.assertEqual(["g2-m1"], self.bodies(url))

    def test_visible_up_to_the_first_in_flight(self):
        """A message is to be had as long as all before it in its group are."""
        for position, wanted in (0, []), (1, ["foo"]), (2, ["foo", "bar"]):
            with self.subTest(position):
                url = self.fifo(VisibilityTimeout="60")
                self.put(url, "1", "foo", "bar", "baz")
                got = self.receive(url)
                self.assertEqual(["foo", "bar", "baz"], [m["Body"] for m in got])
                for i, m in enumerate(got):
                    if i != position:
                        self.visibility(url, m, 0)
                self.assertEqual(wanted, self.bodies(url))

    def test_one_that_is_let_go(self):
        url = self.fifo()
        self.put(url, "1", "g1-m1", "g1-m2")
        self.put(url, "2", "g2-m1")
        got = self.receive(url, 2)
        self.visibility(url, got[0], 0)
        self.assertEqual({"g2-m1", "g1-m1"}, set(self.bodies(url, 3)))  # g1-m2 is still in flight

    def test_purged(self):
        url = self.fifo()
        self.put(url, "1", "m1", "m2", MessageDeduplicationId="x")
        self.one(url)
        sqs.purge_queue(QueueUrl=url)
        self.assertEqual((0, 0, 0), self.counts(url))
        self.put(url, "1", "m3", MessageDeduplicationId="x")  # neither the group nor the id is remembered
        self.assertEqual(["m3"], self.bodies(url, WaitTimeSeconds=5))


class Handles(Fifo):
    def test_expired(self):
        url = self.fifo()
        self.put(url, "1", "foobar")
        got = self.one(url, VisibilityTimeout=1)
        self.await_counts(url, (1, 0, 0))
        with self.invalid_value(f"Value {got['ReceiptHandle']} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."):
            self.delete(url, got)
        self.delete(url, self.one(url))
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_taken_again(self):
        url = self.fifo()
        self.put(url, "1", "foobar")
        old = self.one(url, VisibilityTimeout=0)
        new = self.one(url)
        with self.invalid_value(f"Value {old['ReceiptHandle']} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."):
            self.delete(url, old)
        self.delete(url, new)

    def test_extended(self):
        url = self.fifo()
        self.put(url, "1", "foobar")
        got = self.one(url, VisibilityTimeout=5)
        self.visibility(url, got, 60)
        self.assertEqual([], self.receive(url, WaitTimeSeconds=6))
        self.delete(url, got)
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_deleted_twice(self):
        url = self.fifo()
        self.put(url, "1", "a")
        got = self.one(url)
        self.delete(url, got)
        self.delete(url, got)


class Deduplication(Fifo):
    def same(self, first, second):
        self.assertEqual((first["MessageId"], first["SequenceNumber"]), (second["MessageId"], second["SequenceNumber"]))

    def test_by_id(self):
        url = self.queue(FifoQueue="true")
        (first,) = self.put(url, "g", "Test message 1", MessageDeduplicationId="x")
        (second,) = self.put(url, "g", "another message", MessageDeduplicationId="x")
        self.same(first, second)
        self.assertEqual(("b607df2baaced02c7a7f5c3dc6973301", "80d402c39512ac39d7e8e79e2cfa935e"), (first["MD5OfMessageBody"], second["MD5OfMessageBody"]))
        got = self.one(url)
        self.assertEqual("Test message 1", got["Body"])
        self.delete(url, got)
        self.same(first, self.put(url, "g", "after it was deleted", MessageDeduplicationId="x")[0])
        self.assertEqual([], self.receive(url))

    def test_by_content(self):
        url = self.fifo()
        first, second = self.put(url, "g", "same", "same")
        self.same(first, second)
        (third,) = self.put(url, "g", "same", MessageAttributes={"a": {"DataType": "String", "StringValue": "not looked at"}})
        self.same(first, third)
        (other,) = self.put(url, "g", "same", MessageDeduplicationId="an-id-goes-before-the-content")
        self.assertNotEqual(first["MessageId"], other["MessageId"])
        got = self.receive(url, AttributeNames=["MessageDeduplicationId"])
        self.assertEqual(["0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5", "an-id-goes-before-the-content"], [m["Attributes"]["MessageDeduplicationId"] for m in got])

    def test_not_by_group(self):
        for content in "true", "false":
            with self.subTest(content):
                url = self.queue(FifoQueue="true", ContentBasedDeduplication=content)
                arguments = {} if content == "true" else {"MessageDeduplicationId": "x"}
                self.same(self.put(url, "one", "same", **arguments)[0], self.put(url, "two", "same", **arguments)[0])
                self.assertEqual(["same"], self.bodies(url, WaitTimeSeconds=5))

    def test_by_group_where_so_set(self):
        for settings in {"DeduplicationScope": "messageGroup"}, {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}:
            with self.subTest(settings):
                url = self.fifo(**settings)
                (one,), (two,) = self.put(url, "one", "Test", MessageDeduplicationId="x"), self.put(url, "two", "Test", MessageDeduplicationId="x")
                self.assertNotEqual(one["MessageId"], two["MessageId"])
                self.same(one, self.put(url, "one", "Test", MessageDeduplicationId="x")[0])
                self.assertEqual(2, len(self.drain(url, 2)))

    def test_in_a_batch(self):
        url = self.fifo()
        entries = [{"Id": str(i), "MessageBody": b, "MessageGroupId": "g"} for i, b in enumerate(["a", "b", "a"])]
        sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
        self.assertEqual(["0", "1", "2"], [s["Id"] for s in sent])
        self.same(sent[0], sent[2])
        self.assertEqual(["a", "b"], self.bodies(url))

    def test_at_once(self):
        url = self.fifo()
        ids = []
        senders = [threading.Thread(target=lambda: ids.append(self.put(url, "g", "same")[0]["MessageId"])) for _ in range(8)]
        for s in senders:
            s.start()
        for s in senders:
            s.join()
        self.assertEqual((8, 1), (len(ids), len(set(ids))))
        self.assertEqual((1, 0, 0), self.counts(url))


class Attempts(Fifo):
    def test_the_same_again(self):
        """A receive with a known ReceiveRequestAttemptId is the same receive."""
        url = self.fifo()
        self.put(url, "1", "a", "b")
        self.put(url, "2", "c")
        first = self.receive(url, 2, ReceiveRequestAttemptId="try", AttributeNames=["ApproximateReceiveCount"])
        again = self.receive(url, 2, ReceiveRequestAttemptId="try", AttributeNames=["ApproximateReceiveCount"])
        self.assertEqual(["a", "b"], [m["Body"] for m in first])
        self.assertEqual([(m["MessageId"], m["ReceiptHandle"]) for m in first], [(m["MessageId"], m["ReceiptHandle"]) for m in again])
        self.assertEqual(["c"], self.bodies(url, ReceiveRequestAttemptId="other"))
        for m in again:
            self.delete(url, m)

    def test_refused(self):
        url = self.fifo()
        for id in "x" * 129, "a b", "\u00e9":
            with self.subTest(id[:3]), self.invalid_value(None):
                self.receive(url, ReceiveRequestAttemptId=id)
        self.receive(url, ReceiveRequestAttemptId="!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~aA0")


class Settings(Fifo):
    def test_delay(self):
        url = self.fifo(DelaySeconds="1")
        self.put(url, "g", "1", "2", "3")
        self.put(url, "g", "4", DelaySeconds=0)  # does not mean none: the queue's is taken
        self.assertEqual([], self.receive(url))
        self.await_counts(url, (4, 0, 0))
        self.assertEqual(["1", "2", "3", "4"], self.bodies(url))

    def test_delay_is_retroactive(self):
        url = self.fifo(DelaySeconds="900")
        self.put(url, "g", "1")
        self.assertEqual((0, 0, 1), self.counts(url))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
        self.assertEqual(["1"], self.bodies(url, WaitTimeSeconds=20))

    def test_no_delay_of_a_message(self):
        url = self.fifo()
        with self.invalid_value("Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type."):
            self.put(url, "g", "a", DelaySeconds=2)
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_defaults(self):
        url = self.queue(FifoQueue="true")
        got = self.attributes(url)
        self.assertEqual({"FifoQueue": "true", "ContentBasedDeduplication": "false", "DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"},
                         {k: got.get(k) for k in ("FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit")})
        self.assertTrue(got["QueueArn"].endswith(".fifo"))

    def test_changes(self):
        url = self.fifo()
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"ContentBasedDeduplication": "false", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId", "FifoQueue": "true"})
        got = self.attributes(url)
        self.assertEqual(("false", "messageGroup", "perMessageGroupId"), (got["ContentBasedDeduplication"], got["DeduplicationScope"], got["FifoThroughputLimit"]))
        with self.wrong("InvalidAttributeValue", "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."):
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"FifoQueue": "false"})
        with self.invalid_value("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"):
            self.put(url, "g", "a")
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"FifoThroughputLimit": "perQueue", "DeduplicationScope": "queue"})
        for attributes in {"FifoThroughputLimit": "perMessageGroupId"}, {"FifoThroughputLimit": "x"}, {"DeduplicationScope": "x"}, {"ContentBasedDeduplication": "maybe"}:
            with self.subTest(attributes), self.wrong("InvalidAttributeValue", f"^Invalid value for the parameter {list(attributes)[0]}\\."):
                sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    def test_created_again(self):
        name = self.name("q") + ".fifo"
        url = self.queue(name, FifoQueue="true", ContentBasedDeduplication="true")
        self.assertEqual(url, sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"])
        with self.wrong("QueueAlreadyExists", "A queue already exists with the same name and a different value for attribute ContentBasedDeduplication"):
            sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "false"})

    def test_names(self):
        for name, attributes, code in (
            ("no-suffix", {"FifoQueue": "true"}, "InvalidParameterValue"),
            ("standard.fifo", {}, "InvalidParameterValue"),
            ("x" * 76 + ".fifo", {"FifoQueue": "true"}, "InvalidParameterValue"),
            ("a.b.fifo", {"FifoQueue": "true"}, "InvalidParameterValue"),
            (".fifo", {"FifoQueue": "true"}, "InvalidParameterValue"),
        ):
            with self.subTest(name), self.wrong(code):
                sqs.create_queue(QueueName=name, Attributes=attributes)
        url = self.queue("x" * 70 + self.name("")[-5:] + ".fifo", FifoQueue="true")
        self.put(url, "g", "a", MessageDeduplicationId="1")

    def test_refused(self):
        url = self.queue(FifoQueue="true")
        with self.invalid_value("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"):
            self.put(url, "g", "a")
        with self.missing("MessageGroupId"):
            sqs.send_message(QueueUrl=url, MessageBody="a", MessageDeduplicationId="x")
        for name in "MessageGroupId", "MessageDeduplicationId":
            for id in "x" * 129, "group 123", "\u00e9", "\x08":
                with self.subTest((name, id[:9])), self.invalid_value(f"Value {id} for parameter {name} is invalid. Reason: {name} can only include alphanumeric and punctuation characters. 1 to 128 in length."):
                    sqs.send_message(**dict({"QueueUrl": url, "MessageBody": "a", "MessageGroupId": "g", "MessageDeduplicationId": "d"}, **{name: id}))
        with self.invalid_value("Value  for parameter MessageDeduplicationId is invalid. Reason: MessageDeduplicationId can only include alphanumeric and punctuation characters. 1 to 128 in length."):
            self.put(url, "g", "a", MessageDeduplicationId="")
        every = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~aZ09"
        self.put(url, every, "a", MessageDeduplicationId=every)
        self.assertEqual((1, 0, 0), self.counts(url))

    def test_batches_refused(self):
        url = self.queue(FifoQueue="true")
        good = {"Id": "1", "MessageBody": "a", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
        for entry, message in (
            ({"MessageGroupId": "g"}, "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"),
            ({"MessageDeduplicationId": "e"}, "The request must contain the parameter MessageGroupId."),
        ):
            with self.invalid_value(message):
                sqs.send_message_batch(QueueUrl=url, Entries=[good, dict(entry, Id="2", MessageBody="b")])
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_other_regions_queue_is_another(self):
        name = self.name("q") + ".fifo"
        self.queue(name, FifoQueue="true")
        other = client("sqs", region_name="eu-west-3")
        with self.no_queue():
            other.get_queue_url(QueueName=name)


class DeadLetters(Fifo):
    def test_moves_in_order(self):
        dead = self.fifo()
        url, _ = self.piped(2, dead, FifoQueue="true", ContentBasedDeduplication="true")
        (sent,) = self.put(url, "1", "foobar")
        for _ in range(2):
            self.assertEqual(sent["MessageId"], self.one(url, VisibilityTimeout=0)["MessageId"])
        self.assertEqual([], self.receive(url))
        got = self.one(dead, AttributeNames=["All"])
        self.assertEqual((sent["MessageId"], "foobar", "1"), (got["MessageId"], got["Body"], got["Attributes"]["MessageGroupId"]))
        self.assertRegex(got["Attributes"]["SequenceNumber"], r"^\d{20}$")
        (sent,) = self.put(url, "1", "foobar2")  # the group goes on
        self.assertEqual(sent["MessageId"], self.one(url)["MessageId"])

    def test_same_type(self):
        standard, fifo = self.queue(), self.fifo()
        for url, arn in (standard, self.attributes(fifo)["QueueArn"]), (fifo, self.attributes(standard)["QueueArn"]):
            policy = '{"deadLetterTargetArn":"' + arn + '","maxReceiveCount":3}'
            with self.invalid_value(f"Value {policy} for parameter RedrivePolicy is invalid. Reason: Dead-letter queue must be same type of queue as the source.."):
                sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
