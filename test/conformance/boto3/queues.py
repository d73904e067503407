"""SQS: messages sent, received, changed, deleted; their attributes and digests, singly and in batches."""

import hashlib
import threading
import time

from queueing import PREFIX, UUID, QueueCase, sqs

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
MIB = 1 << 20


def text(value, kind="String"):
    return {"DataType": kind, "StringValue": value}


def trace(value=TRACE):
    return {"AWSTraceHeader": text(value)}


def md5(body):
    return hashlib.md5(body.encode()).hexdigest()


class Messages(QueueCase):
    def test_life(self):
        url = self.queue()
        sent = sqs.send_message(QueueUrl=url, MessageBody="hello")
        sent.pop("ResponseMetadata")
        self.assertRegex(sent["MessageId"], f"^{UUID}$")
        self.assertEqual({"MessageId": sent["MessageId"], "MD5OfMessageBody": "5d41402abc4b2a76b9719d911017c592"}, sent)
        got = self.one(url)
        self.assertEqual({"MessageId": sent["MessageId"], "ReceiptHandle": got["ReceiptHandle"], "MD5OfBody": "5d41402abc4b2a76b9719d911017c592", "Body": "hello"}, got)
        self.assertEqual([], self.receive(url))  # in flight
        for _ in range(3):  # deleting again does no harm
            self.delete(url, got)
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_empty_answers_have_no_messages(self):
        url = self.queue()
        for wait in {}, {"WaitTimeSeconds": 0}, {"WaitTimeSeconds": 1}:
            self.assertEqual({"ResponseMetadata"}, set(sqs.receive_message(QueueUrl=url, **wait)))

    def test_bodies_arrive_as_sent(self):
        url = self.queue()
        for body in '{\r\n"machine" : "d3"}', "\t<&>\"'", "Zażółć \U0001F41D \ud7ff\ue000\ufffd", " ", "x" * MIB:
            sent = sqs.send_message(QueueUrl=url, MessageBody=body)
            got = self.one(url)
            self.assertEqual((body, md5(body), md5(body)), (got["Body"], got["MD5OfBody"], sent["MD5OfMessageBody"]), body[:10])
            self.delete(url, got)

    def test_queue_by_name(self):
        name = self.name("q")
        self.queue(name)
        sqs.send_message(QueueUrl=name, MessageBody="by name")
        self.assertEqual(["by name"], self.bodies(name))

    def test_sizes(self):
        url = self.queue()
        attribute = {"k": text("x")}  # 1 + 6 + 1 bytes
        with self.invalid_value(f"One or more parameters are invalid. Reason: Message must be shorter than {MIB} bytes."):
            sqs.send_message(QueueUrl=url, MessageBody="a" * (MIB - 7), MessageAttributes=attribute)
        sqs.send_message(QueueUrl=url, MessageBody="a" * (MIB - 8), MessageAttributes=attribute)
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "1024"})
        sqs.send_message(QueueUrl=url, MessageBody="a" * 1024)
        for body, arguments in ("a" * 1025, {}), ("\u00e9" * 513, {}), ("a" * 1017, {"MessageAttributes": attribute}), ("a", {"MessageAttributes": {"b": {"DataType": "Binary", "BinaryValue": b"x" * 1017}}}):
            with self.invalid_value("One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."):
                sqs.send_message(QueueUrl=url, MessageBody=body, **arguments)

    def test_up_to_ten(self):
        url = self.queue()
        self.send(url, *map(str, range(12)))
        first = self.receive(url, 10)
        self.assertLessEqual(len(first), 10)
        rest = self.drain(url, 12 - len(first))
        self.assertEqual(sorted(map(str, range(12))), sorted(m["Body"] for m in first + rest))
        self.assertEqual((0, 12, 0), self.counts(url))

    def test_one_unless_told(self):
        url = self.queue()
        self.send(url, "a", "b")
        self.assertEqual(1, len(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]))

    def test_queues_are_apart(self):
        one, other = self.queue(), self.queue()
        self.send(one, "foo")
        self.assertEqual([], self.receive(other))
        self.assertEqual(["foo"], self.bodies(one, WaitTimeSeconds=5))


class LongPolls(QueueCase):
    def test_answers_when_a_message_comes(self):
        url = self.queue()
        got = []
        waiting = threading.Thread(target=lambda: got.extend(self.receive(url, WaitTimeSeconds=20)))
        began = time.monotonic()
        waiting.start()
        self.send(url, "at last")
        waiting.join()
        self.assertEqual(["at last"], [m["Body"] for m in got])
        self.assertLess(time.monotonic() - began, 15)

    def test_does_not_wait_for_more(self):
        url = self.queue()
        self.send(url, "a")
        began = time.monotonic()
        self.assertEqual(["a"], self.bodies(url, WaitTimeSeconds=20))
        self.assertLess(time.monotonic() - began, 15)

    def test_waits(self):
        url = self.queue()
        began = time.monotonic()
        self.assertEqual([], self.receive(url, WaitTimeSeconds=1))
        self.assertGreaterEqual(time.monotonic() - began, 0.95)

    def test_attribute_of_the_queue(self):
        url = self.queue(ReceiveMessageWaitTimeSeconds="1")
        began = time.monotonic()
        self.assertEqual([], self.receive(url))
        self.assertGreaterEqual(time.monotonic() - began, 0.95)
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"ReceiveMessageWaitTimeSeconds": "20"})
        began = time.monotonic()
        self.assertEqual([], self.receive(url, WaitTimeSeconds=0))
        self.assertLess(time.monotonic() - began, 15)

    def test_sees_what_becomes_visible(self):
        url = self.queue()
        self.send(url, "late", DelaySeconds=1)
        self.assertEqual([], self.receive(url))
        first = self.one(url, VisibilityTimeout=1)
        again = self.one(url)
        self.assertEqual(first["MessageId"], again["MessageId"])
        self.assertNotEqual(first["ReceiptHandle"], again["ReceiptHandle"])


class Visibility(QueueCase):
    def test_timeout_of_the_queue(self):
        url = self.queue(VisibilityTimeout="1")
        self.send(url, "a")
        first = self.one(url)
        again = self.one(url)
        self.assertEqual(first["MessageId"], again["MessageId"])

    def test_zero_at_receive(self):
        url = self.queue()
        self.send(url, "a")
        handles = {self.one(url, VisibilityTimeout=0)["ReceiptHandle"] for _ in range(3)}
        self.assertEqual(3, len(handles))
        got = self.one(url, AttributeNames=["ApproximateReceiveCount"])
        self.assertEqual("4", got["Attributes"]["ApproximateReceiveCount"])
        self.assertEqual([], self.receive(url))

    def test_change(self):
        url = self.queue()
        self.send(url, "a")
        first = self.one(url)
        self.visibility(url, first, 0)
        again = self.one(url)  # with the queue's 30 seconds: the change was for that receive alone
        self.assertEqual(first["MessageId"], again["MessageId"])
        self.assertEqual([], self.receive(url))
        self.visibility(url, again, 1)
        self.assertEqual(first["MessageId"], self.one(url)["MessageId"])

    def test_change_extends(self):
        url = self.queue()
        self.send(url, "a")
        first = self.one(url, VisibilityTimeout=2)
        self.visibility(url, first, 60)
        self.assertEqual([], self.receive(url, WaitTimeSeconds=3))
        self.assertEqual((0, 1, 0), self.counts(url))

    def test_change_by_an_old_handle(self):
        url = self.queue()
        self.send(url, "a")
        old = self.one(url, VisibilityTimeout=0)
        self.one(url, VisibilityTimeout=30)
        self.visibility(url, old, 0)
        self.assertEqual(["a"], self.bodies(url, WaitTimeSeconds=5))

    def test_change_of_a_visible_message(self):
        url = self.queue()
        self.send(url, "a")
        first = self.one(url, VisibilityTimeout=1)
        self.await_counts(url, (1, 0, 0))
        self.visibility(url, first, 2)

    def test_change_of_a_deleted_message(self):
        url = self.queue()
        self.send(url, "a")
        got = self.one(url)
        self.visibility(url, got, 42)
        self.delete(url, got)
        with self.invalid_value(f"Value {got['ReceiptHandle']} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."):
            self.visibility(url, got, 42)

    def test_twelve_hours_in_all(self):
        url = self.queue()
        self.send(url, "a")
        got = self.one(url)
        with self.invalid_value("Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"):
            self.visibility(url, got, 43200)
        self.visibility(url, got, 43000)
        self.delete(url, got)

    def test_deleted_when_visible_again(self):
        url = self.queue()
        self.send(url, "a")
        got = self.one(url, VisibilityTimeout=1)
        self.await_counts(url, (1, 0, 0))
        self.delete(url, got)
        self.assertEqual([], self.receive(url))
        self.assertEqual((0, 0, 0), self.counts(url))


class Delays(QueueCase):
    def test_of_a_message(self):
        url = self.queue(DelaySeconds="900")
        self.send(url, "now", DelaySeconds=0)
        self.send(url, "later")
        self.send(url, "soon", DelaySeconds=1)
        self.assertEqual(["now"], self.bodies(url))
        self.assertEqual("soon", self.one(url)["Body"])
        self.assertEqual((0, 2, 1), self.counts(url))

    def test_of_a_queue(self):
        url = self.queue(DelaySeconds="1")
        self.send(url, "a")
        self.assertEqual([], self.receive(url))
        self.assertEqual("a", self.one(url)["Body"])

    def test_a_queue_that_changes(self):
        url = self.queue(DelaySeconds="900")
        self.send(url, "old")
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
        self.send(url, "new")
        self.assertEqual(["new"], self.bodies(url, WaitTimeSeconds=5))  # the setting is not retroactive
        self.assertEqual((0, 1, 1), self.counts(url))


class Attributes(QueueCase):
    def test_digests(self):
        """Digests that SQS was recorded to give."""
        url = self.queue()
        for attributes, wanted in (
            ({"Hello": text("There"), "General": text("Kenobi"), "Help.Me": text("Me")}, "4c360f3fdafd970e05fae2f149d997f5"),
            ({"Hello": text("There"), "General": text("Kenobi")}, "fca026605781cb4126a1e9044df24232"),
            ({"Foo": text("Bar")}, "ae7155c6026991b6d54b11589678bf9c"),
            ({"MyAttribute": text("foobar")}, "adb59cd4678ea5a855436b949cd07ab6"),
            ({"timestamp": text("1493147359900", "Number")}, "235c5c510d26fb653d073faed50ae77c"),
            ({"attr1": {"DataType": "Binary", "BinaryValue": b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01"}}, "8cbe4db156db8a94db8b801b7addb984"),
            ({"k": text("x")}, "a45daa70926828a2f0a1db3418e6feb4"),
            ({"UserId": text("1234567890123456789012", "Number.bigint")}, "797ab158d73dcb5242dedc4412c8e855"),
        ):
            sent = sqs.send_message(QueueUrl=url, MessageBody="test", MessageAttributes=attributes)
            self.assertEqual(wanted, sent["MD5OfMessageAttributes"], attributes)
            self.assertNotIn("MD5OfMessageSystemAttributes", sent)
            got = self.one(url, MessageAttributeNames=["All"])
            self.assertEqual((attributes, wanted), (got["MessageAttributes"], got["MD5OfMessageAttributes"]))
            self.delete(url, got)
        sent = sqs.send_message(QueueUrl=url, MessageBody="test", MessageAttributes={"timestamp": text("1493147359900", "Number")}, MessageSystemAttributes=trace())
        self.assertEqual(("235c5c510d26fb653d073faed50ae77c", "5ae4d5d7636402d80f4eb6d213245a88"), (sent["MD5OfMessageAttributes"], sent["MD5OfMessageSystemAttributes"]))

    def test_by_name(self):
        """Names, prefixes and what is recorded to choose nothing."""
        url = self.queue()
        everything = {"Hello": text("There"), "General": text("Kenobi"), "Help.Me": text("Me")}
        self.send(url, "msg", MessageAttributes=everything)
        for names, wanted, digest in (
            ([], [], None),
            (["All"], list(everything), "4c360f3fdafd970e05fae2f149d997f5"),
            (["*"], list(everything), "4c360f3fdafd970e05fae2f149d997f5"),
            ([".*"], list(everything), "4c360f3fdafd970e05fae2f149d997f5"),
            (["Foo", "Help"], [], None),
            (["Hello", "General"], ["Hello", "General"], "fca026605781cb4126a1e9044df24232"),
            (["Foo", "Hello"], ["Hello"], "a311262e065454b75da111d535b8dacd"),
            (["Hel.*"], ["Hello", "Help.Me"], "83fee93c1bcd8b9a5a923ffacdc636c7"),
            (["AWS."], [], None),
            (["..foo"], [], None),
        ):
            with self.subTest(names):
                got = self.one(url, MessageAttributeNames=names, VisibilityTimeout=0)
                self.assertEqual({n: everything[n] for n in wanted} or None, got.get("MessageAttributes"))
                self.assertEqual(digest, got.get("MD5OfMessageAttributes"))

    def test_custom_types(self):
        url = self.queue()
        attributes = {
            "a": text("1", "Number.int"), "b": text("two", "String.word"), "c": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))}, "d": text("-1.5e10", "Number"),
            "e": text("x" * 300), "n" * 256: text("v"), "a-b_c.1": text("\u00e9\t\n"), "f": text("v", "String." + "t" * 249),
        }
        sqs.send_message(QueueUrl=url, MessageBody="a", MessageAttributes=attributes)
        self.assertEqual(attributes, self.one(url, MessageAttributeNames=["All"])["MessageAttributes"])

    def test_none(self):
        url = self.queue()
        self.assertNotIn("MD5OfMessageAttributes", sqs.send_message(QueueUrl=url, MessageBody="a", MessageAttributes={}))
        self.assertNotIn("MessageAttributes", self.one(url, MessageAttributeNames=["All"]))

    def test_invalid(self):
        url = self.queue()

        def send(attributes, **arguments):
            sqs.send_message(QueueUrl=url, MessageBody="a", MessageAttributes=attributes, **arguments)

        for attributes, message in (
            ({"X": text("")}, "Message (user) attribute 'X' must contain a non-empty value of type 'String'."),
            ({"X": text("", "String.y")}, "Message (user) attribute 'X' must contain a non-empty value of type 'String'."),
            ({"X": {"DataType": "Binary", "BinaryValue": b""}}, "Message (user) attribute 'X' must contain a non-empty value of type 'Binary'."),
            ({"X": text("", "Number")}, "^(Message \\(user\\) attribute 'X' must contain a non-empty value of type 'Number'|Can't cast the value of message \\(user\\) attribute 'X' to a number)\\.$"),
            ({"X": text("one", "Number")}, "Can't cast the value of message (user) attribute 'X' to a number."),
            ({"X": text("y", "Invalid")}, "The type of message (user) attribute 'X' is invalid. You must use only the following supported type prefixes: Binary, Number, String."),
            ({"X": text("y", "string")}, "The type of message (user) attribute 'X' is invalid. You must use only the following supported type prefixes: Binary, Number, String."),
            ({"X": {"StringValue": "y"}}, "The message (user) attribute 'X' must contain a non-empty message attribute type."),
            ({"X": text("y", "")}, "The message (user) attribute 'X' must contain a non-empty message attribute type."),
            ({"X": {}}, "^The message \\(user\\) attribute 'X' must contain a non-empty message attribute (value|type)\\.$"),
            ({"X": {"DataType": "String"}}, "^(The message|Message) \\(user\\) attribute 'X' must contain a non-empty "),
            ({"": text("y")}, "The request must contain non-empty message (user) attribute names."),
            ({"a b": text("y")}, "^Message \\(user\\) attributes? name 'a b' is invalid\\.|^The name of the message attribute|^Message \\(user\\) attributes? name can only contain"),
            ({"X": text("bad\x08")}, "^Invalid (binary )?character"),
            ({"x" * 257: text("y")}, "^Message \\(user\\) attribute name must be shorter than 256 bytes\\.?$"),
            ({"X": text("y", "String." + "t" * 250)}, "Message (user) attribute type must be shorter than 256 bytes."),
            ({str(i): text("y") for i in range(11)}, "Number of message attributes [11] exceeds the allowed maximum [10]."),
            ({"X": {"DataType": "StringList", "StringListValues": ["a"]}}, "Message attribute list values in SendMessage operation are not supported."),
            ({"X": {"DataType": "BinaryList", "BinaryListValues": [b"a"]}}, "Message attribute list values in SendMessage operation are not supported."),
        ):
            with self.subTest(str(attributes)[:60]), self.invalid_value(message):
                send(attributes)
        for name in "AWS.x", "aWs.x", "Amazon.x", "AMAZON.x", ".x", "x.", "x..y", "x!", 'x"y', "x\u00a7", "x(", "x?", "x/y":
            with self.subTest(name), self.invalid_value(None):
                send({name: text("y")})
        with self.invalid_value("Message system attribute name 'Hello' is invalid."):
            send({}, MessageSystemAttributes={"Hello": text("World")})
        with self.invalid_value(None):
            send({}, MessageSystemAttributes={"AWSTraceHeader": text("5", "Number")})
        self.assertEqual((0, 0, 0), self.counts(url))


class SystemAttributes(QueueCase):
    def test_all(self):
        url = self.queue()
        before = time.time()
        self.send(url, "a", MessageSystemAttributes=trace())
        first = self.one(url, VisibilityTimeout=0, MessageSystemAttributeNames=["All"])["Attributes"]
        self.assertEqual({"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "AWSTraceHeader"}, set(first))
        self.assertEqual((TRACE, "1"), (first["AWSTraceHeader"], first["ApproximateReceiveCount"]))
        for name in "SentTimestamp", "ApproximateFirstReceiveTimestamp":
            self.assertRegex(first[name], r"^\d{13}$")
            self.assertAlmostEqual(before, int(first[name]) / 1000, delta=30)
        self.assertTrue(first["SenderId"])
        again = self.one(url, AttributeNames=["All"])["Attributes"]
        self.assertEqual(dict(first, ApproximateReceiveCount="2"), again)

    def test_by_name(self):
        url = self.queue()
        self.send(url, "a")
        self.assertNotIn("Attributes", self.one(url, VisibilityTimeout=0))
        self.assertEqual({"SenderId"}, set(self.one(url, VisibilityTimeout=0, MessageSystemAttributeNames=["SenderId"])["Attributes"]))
        self.assertEqual({"SenderId"}, set(self.one(url, VisibilityTimeout=0, AttributeNames=["SenderId", "SequenceNumber"])["Attributes"]))
        both = self.one(url, VisibilityTimeout=0, AttributeNames=["All"], MessageSystemAttributeNames=["SenderId"])["Attributes"]
        self.assertEqual({"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}, set(both))
        both = self.one(url, VisibilityTimeout=0, AttributeNames=["SentTimestamp"], MessageSystemAttributeNames=["SenderId"])["Attributes"]
        self.assertEqual({"SenderId", "SentTimestamp"}, set(both))

    def test_trace_of_the_request(self):
        """X-Amzn-Trace-Id of the request becomes the message's, unless it has one of its own."""
        url = self.queue()

        def add(request, **_):
            request.headers["X-Amzn-Trace-Id"] = TRACE

        sqs.meta.events.register("before-send.sqs.SendMessage", add)
        try:
            sent = sqs.send_message(QueueUrl=url, MessageBody="a")
        finally:
            sqs.meta.events.unregister("before-send.sqs.SendMessage", add)
        self.assertNotIn("MD5OfMessageSystemAttributes", sent)
        self.assertEqual(TRACE, self.one(url, AttributeNames=["AWSTraceHeader"])["Attributes"]["AWSTraceHeader"])

    def test_group_of_a_fair_queue(self):
        url = self.queue()
        sent = sqs.send_message(QueueUrl=url, MessageBody="a", MessageGroupId="tenant")
        self.assertNotIn("SequenceNumber", sent)
        got = self.one(url, MessageSystemAttributeNames=["All"])["Attributes"]
        self.assertEqual("tenant", got.pop("MessageGroupId"))
        self.assertEqual({"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}, set(got))


class Batches(QueueCase):
    def test_send(self):
        url = self.queue()
        entries = [{"Id": str(i), "MessageBody": f"m{i}"} for i in range(10)]
        entries[3].update(MessageAttributes={"Foo": text("Bar")}, MessageSystemAttributes=trace(), DelaySeconds=900)
        got = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        self.assertNotIn("Failed", got)
        self.assertEqual([(e["Id"], md5(e["MessageBody"])) for e in entries], [(s["Id"], s["MD5OfMessageBody"]) for s in got["Successful"]])
        for i, s in enumerate(got["Successful"]):
            self.assertRegex(s["MessageId"], f"^{UUID}$")
            self.assertEqual({"Id", "MessageId", "MD5OfMessageBody"} | ({"MD5OfMessageAttributes", "MD5OfMessageSystemAttributes"} if i == 3 else set()), set(s))
        self.assertEqual(("ae7155c6026991b6d54b11589678bf9c", "5ae4d5d7636402d80f4eb6d213245a88"), (got["Successful"][3]["MD5OfMessageAttributes"], got["Successful"][3]["MD5OfMessageSystemAttributes"]))
        self.assertEqual((9, 0, 1), self.counts(url))
        self.assertEqual({s["MessageId"] for i, s in enumerate(got["Successful"]) if i != 3}, {m["MessageId"] for m in self.drain(url, 9)})

    def test_send_some(self):
        url = self.queue(MaximumMessageSize="1024")
        got = sqs.send_message_batch(QueueUrl=url, Entries=[
            {"Id": "good", "MessageBody": "a" * 1024},
            {"Id": "long", "MessageBody": "a" * 1025},
            {"Id": "delay", "MessageBody": "a", "DelaySeconds": 1800},
            {"Id": "char", "MessageBody": "\x01"},
            {"Id": "type", "MessageBody": "a", "MessageAttributes": {"X": text("y", "Z")}},
            {"Id": "dedup", "MessageBody": "a", "MessageDeduplicationId": "x"},
            {"Id": "empty", "MessageBody": ""},
        ])
        self.assertEqual(["good"], [s["Id"] for s in got["Successful"]])
        failed = {f.pop("Id"): f for f in got["Failed"]}
        self.assertEqual({"long", "delay", "char", "type", "dedup", "empty"}, set(failed))
        self.assertEqual({True}, {f["SenderFault"] for f in failed.values()})
        self.assertEqual({"long": "InvalidParameterValue", "delay": "InvalidParameterValue", "char": "InvalidMessageContents", "type": "InvalidParameterValue", "dedup": "InvalidParameterValue", "empty": "EmptyValue"},
                         {k: f["Code"] for k, f in failed.items()})
        self.assertRegex(failed["long"]["Message"], r"^One or more parameters (are invalid|cannot be validated)\. Reason: Message must be shorter than 1024 bytes\.$")
        self.assertEqual("Value 1800 for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.", failed["delay"]["Message"])
        self.assertEqual(("a" * 1024,), tuple(self.bodies(url, WaitTimeSeconds=5)))

    def test_size_in_all(self):
        url = self.queue(MaximumMessageSize="2048")
        one = {"Id": "1", "MessageBody": "a" * 2040, "MessageAttributes": {"k": text("x")}}
        got = sqs.send_message_batch(QueueUrl=url, Entries=[one, {"Id": "2", "MessageBody": "a"}])  # more than a message may have
        self.assertEqual(["1", "2"], [s["Id"] for s in got["Successful"]])
        url = self.queue()
        one["MessageBody"] = "a" * (MIB - 8)
        with self.wrong(PREFIX + "BatchRequestTooLong", f"Batch requests cannot be longer than {MIB} bytes. You have sent {MIB + 1} bytes."):
            sqs.send_message_batch(QueueUrl=url, Entries=[one, {"Id": "2", "MessageBody": "a"}])
        self.assertEqual((0, 0, 0), self.counts(url))
        one["MessageBody"] = one["MessageBody"][1:]
        self.assertEqual(2, len(sqs.send_message_batch(QueueUrl=url, Entries=[one, {"Id": "2", "MessageBody": "a"}])["Successful"]))

    def test_delete_and_change(self):
        url = self.queue()
        self.send(url, "a", "b", "c", "d")
        got = self.drain(url, 4)
        entries = [{"Id": f"id-{i}", "ReceiptHandle": m["ReceiptHandle"], "VisibilityTimeout": 0} for i, m in enumerate(got[:2])]
        changed = sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries + [{"Id": "bad", "ReceiptHandle": "garbage", "VisibilityTimeout": 1}, {"Id": "much", "ReceiptHandle": got[2]["ReceiptHandle"], "VisibilityTimeout": 43201}])
        self.assertEqual([{"Id": "id-0"}, {"Id": "id-1"}], changed["Successful"])
        failed = {f["Id"]: f for f in changed["Failed"]}
        self.assertEqual(("ReceiptHandleIsInvalid", True), (failed["bad"]["Code"], failed["bad"]["SenderFault"]))
        self.assertEqual(("InvalidParameterValue", True), (failed["much"]["Code"], failed["much"]["SenderFault"]))
        self.assertEqual((2, 2, 0), self.counts(url))
        entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(got)]
        deleted = sqs.delete_message_batch(QueueUrl=url, Entries=entries + [{"Id": "x", "ReceiptHandle": "garbage"}])
        self.assertEqual([{"Id": str(i)} for i in range(4)], deleted["Successful"])
        (failed,) = deleted["Failed"]
        self.assertEqual(("x", "ReceiptHandleIsInvalid", True), (failed["Id"], failed["Code"], failed["SenderFault"]))
        self.assertRegex(failed["Message"], r'^The input receipt handle "garbage" is not (valid|a valid receipt handle)\.$')
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_refused(self):
        url = self.queue()
        for call, name, entry in (
            (sqs.send_message_batch, "SendMessage", {"MessageBody": "a"}),
            (sqs.delete_message_batch, "DeleteMessage", {"ReceiptHandle": "x"}),
            (sqs.change_message_visibility_batch, "ChangeMessageVisibility", {"ReceiptHandle": "x", "VisibilityTimeout": 1}),
        ):
            with self.subTest(name):
                with self.wrong(PREFIX + "EmptyBatchRequest", f"There should be at least one {name}BatchRequestEntry in the request."):
                    call(QueueUrl=url, Entries=[])
                with self.wrong(PREFIX + "TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent 20."):
                    call(QueueUrl=url, Entries=[dict(entry, Id=str(i)) for i in range(20)])
                for id in "", "invalid:id", "x" * 81, "\u00e9", " ":
                    with self.wrong(PREFIX + "InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."):
                        call(QueueUrl=url, Entries=[dict(entry, Id=id)])
                with self.wrong(PREFIX + "BatchEntryIdsNotDistinct", "Id same repeated."):
                    call(QueueUrl=url, Entries=[dict(entry, Id="same"), dict(entry, Id="same")])
                with self.no_queue():
                    call(QueueUrl=url + "x", Entries=[dict(entry, Id="1")])
        self.assertEqual((0, 0, 0), self.counts(url))


class Purge(QueueCase):
    def test_everything_goes(self):
        url = self.queue()
        self.send(url, "visible", "flying")
        self.send(url, "delayed", DelaySeconds=1)
        flying = self.one(url, VisibilityTimeout=1)
        sqs.purge_queue(QueueUrl=url)
        self.assertEqual((0, 0, 0), self.counts(url))
        self.assertEqual([], self.receive(url, WaitTimeSeconds=2))
        self.delete(url, flying)
        self.send(url, "after")
        self.assertEqual(["after"], self.bodies(url, WaitTimeSeconds=5))

    def test_once_a_minute(self):
        name = self.name("q")
        url = self.queue(name)
        sqs.purge_queue(QueueUrl=url)
        with self.wrong(PREFIX + "PurgeQueueInProgress", f"Only one PurgeQueue operation on {name} is allowed every 60 seconds.", 403):
            sqs.purge_queue(QueueUrl=url)


class Counts(QueueCase):
    def test_states(self):
        url = self.queue()
        self.send(url, *map(str, range(6)))
        self.send(url, "d", DelaySeconds=900)
        self.assertEqual((6, 0, 1), self.counts(url))
        got = self.one(url)
        self.assertEqual((5, 1, 1), self.counts(url))
        self.visibility(url, got, 0)
        self.assertEqual((6, 0, 1), self.counts(url))
        self.delete(url, self.one(url))
        self.assertEqual((5, 0, 1), self.counts(url))
        self.one(url, VisibilityTimeout=1)
        self.await_counts(url, (5, 0, 1))
