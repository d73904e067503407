"""SQS: what every operation refuses, in its own words."""

from queue_wire import post
from queueing import ACCOUNT, PREFIX, QueueCase, sqs

EVERY = {
    "AddPermission": {"Label": "l", "AWSAccountIds": [ACCOUNT], "Actions": ["SendMessage"]},
    "ChangeMessageVisibility": {"ReceiptHandle": "x", "VisibilityTimeout": 1},
    "ChangeMessageVisibilityBatch": {"Entries": [{"Id": "1", "ReceiptHandle": "x", "VisibilityTimeout": 1}]},
    "DeleteMessage": {"ReceiptHandle": "x"},
    "DeleteMessageBatch": {"Entries": [{"Id": "1", "ReceiptHandle": "x"}]},
    "DeleteQueue": {},
    "GetQueueAttributes": {},
    "ListDeadLetterSourceQueues": {},
    "ListQueueTags": {},
    "PurgeQueue": {},
    "ReceiveMessage": {},
    "RemovePermission": {"Label": "l"},
    "SendMessage": {"MessageBody": "a"},
    "SendMessageBatch": {"Entries": [{"Id": "1", "MessageBody": "a"}]},
    "SetQueueAttributes": {"Attributes": {"DelaySeconds": "1"}},
    "TagQueue": {"Tags": {"a": "b"}},
    "UntagQueue": {"TagKeys": ["a"]},
}


def call(operation, **arguments):
    method = "".join("_" + c.lower() if c.isupper() else c for c in operation).lstrip("_")
    return getattr(sqs, method)(**arguments)


class Urls(QueueCase):
    def test_no_such_queue(self):
        url = self.queue()
        for operation, arguments in EVERY.items():
            for nobody in url + "x", self.name("nobody"):
                with self.subTest((operation, nobody)), self.no_queue():
                    call(operation, QueueUrl=nobody, **arguments)

    def test_no_url(self):
        for operation, arguments in EVERY.items():
            with self.subTest(operation), self.missing("QueueUrl"):
                call(operation, **arguments)

    def test_not_an_url_of_a_queue(self):
        for address in "https://sqs.us-east-1.amazonaws.com/", "http://localhost/", "https://sqs.us-east-1.amazonaws.com":
            with self.subTest(address), self.wrong("InvalidAddress", f"The address {address} is not valid for this endpoint.", 404):
                sqs.receive_message(QueueUrl=address)

    def test_any_host(self):
        """Clients that remember a queue's URL find it when the server has moved."""
        url = self.queue()
        path = url.split("/", 3)[3]
        for host in "https://sqs.us-east-1.amazonaws.com/", "http://localhost:4566/", "https://queue.amazonaws.com/":
            self.send(host + path, host)
            self.assertEqual([host], self.bodies(url, WaitTimeSeconds=5))


class Missing(QueueCase):
    def test_parameters(self):
        url = self.queue()
        for operation, missing in (
            ("SendMessage", "MessageBody"), ("DeleteMessage", "ReceiptHandle"), ("ChangeMessageVisibility", "ReceiptHandle"), ("ChangeMessageVisibility", "VisibilityTimeout"),
            ("RemovePermission", "Label"), ("AddPermission", "Label"),
        ):
            arguments = {k: v for k, v in EVERY[operation].items() if k != missing}
            with self.subTest((operation, missing)), self.missing(missing):
                call(operation, QueueUrl=url, **arguments)
        with self.missing("SourceArn"):
            sqs.start_message_move_task()
        with self.missing("TaskHandle"):
            sqs.cancel_message_move_task()
        for create in sqs.create_queue, sqs.get_queue_url:
            with self.wrong("InvalidParameterValue", "Value for parameter QueueName is invalid. Reason: Must specify a queue name."):
                create()

    def test_batches_without_entries(self):
        url = self.queue()
        for operation in "SendMessage", "DeleteMessage", "ChangeMessageVisibility":
            with self.subTest(operation), self.wrong(PREFIX + "EmptyBatchRequest", f"There should be at least one {operation}BatchRequestEntry in the request."):
                call(operation + "Batch", QueueUrl=url)

    def test_empty_body(self):
        url = self.queue()
        with self.missing("MessageBody"):
            sqs.send_message(QueueUrl=url, MessageBody="")


class Values(QueueCase):
    def test_receive(self):
        url = self.queue()
        for n in 0, 11, -1:
            with self.subTest(n), self.invalid_value(f"Value {n} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."):
                sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=n)
        for n in 21, -1:
            with self.subTest(n), self.invalid_value(f"Value {n} for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."):
                sqs.receive_message(QueueUrl=url, WaitTimeSeconds=n)
        for n in 43201, -1:
            with self.subTest(n), self.invalid_value(f"Value {n} for parameter VisibilityTimeout is invalid. Reason: Must be >= 0 and <= 43200, if provided."):
                sqs.receive_message(QueueUrl=url, VisibilityTimeout=n)
        for names in {"AttributeNames": ["Foobar"]}, {"MessageSystemAttributeNames": ["Foobar"]}:
            with self.subTest(names), self.wrong("InvalidAttributeName", "Unknown Attribute Foobar."):
                sqs.receive_message(QueueUrl=url, **names)

    def test_an_attempt_id_of_a_standard_queue(self):
        """Recorded: it does not matter."""
        self.assertEqual([], self.receive(self.queue(), ReceiveRequestAttemptId="attempt-001"))

    def test_send(self):
        url = self.queue()
        for n in -1, 901:
            with self.subTest(n), self.invalid_value(f"Value {n} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."):
                self.send(url, "a", DelaySeconds=n)
        for id in "", "x" * 129, "group 123":
            with self.subTest(id[:9]), self.invalid_value(f"Value {id} for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length."):
                self.send(url, "a", MessageGroupId=id)
        with self.invalid_value("^(Value x for parameter MessageDeduplicationId is invalid\\. Reason: )?The request includes? (a )?parameter (MessageDeduplicationId )?(that|which) is not valid for this queue type\\.?$"):
            self.send(url, "a", MessageDeduplicationId="x")
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_characters(self):
        url = self.queue()
        for c in "\x00", "\x08", "\x0b", "\x13", "\x1f", "\ufffe", "\uffff":
            with self.subTest(repr(c)), self.wrong("InvalidMessageContents", f"Invalid binary character '#x{ord(c):X}' was found in the message body, the set of allowed characters is #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]."):
                self.send(url, "a" + c + "b")
        self.assertEqual((0, 0, 0), self.counts(url))

    def test_change(self):
        url = self.queue()
        self.send(url, "a")
        got = self.one(url)
        for n in 43201, -1:
            with self.subTest(n), self.invalid_value(f"^Value {n} for parameter VisibilityTimeout is invalid\\. Reason: "):
                self.visibility(url, got, n)


class Handles(QueueCase):
    def test_garbage(self):
        url = self.queue()
        for handle in "garbage", "AQEB" + "x" * 100, "a b":
            for operation in lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle=handle), lambda: sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=60):
                with self.subTest(handle[:8]), self.wrong("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.', 404):
                    operation()

    def test_of_another_queue(self):
        one, other = self.queue(), self.queue()
        self.send(one, "a")
        got = self.one(one)
        with self.wrong("ReceiptHandleIsInvalid", f'The input receipt handle "{got["ReceiptHandle"]}" is not a valid receipt handle.', 404):
            self.delete(other, got)
        self.assertEqual((0, 1, 0), self.counts(one))

    def test_changed_by_a_bit(self):
        url = self.queue()
        self.send(url, "a")
        handle = self.one(url)["ReceiptHandle"]
        for i in range(0, len(handle), max(1, len(handle) // 8)):
            forged = handle[:i] + ("A" if handle[i] != "A" else "B") + handle[i + 1:]
            with self.subTest(i):
                try:
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=forged)
                except sqs.exceptions.ClientError as e:
                    self.assertIn(e.response["Error"]["Code"], ("ReceiptHandleIsInvalid", "InvalidParameterValue"))
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)

    def test_twelve_hours(self):
        """Handles stay good for as long as the message is there."""
        url = self.queue()
        self.send(url, "a")
        old = self.one(url, VisibilityTimeout=0)
        for _ in range(5):
            self.one(url, VisibilityTimeout=0)
        self.delete(url, old)


class Requests(QueueCase):
    def test_types(self):
        url = self.queue()
        for arguments in {"MessageBody": {"a": "b"}}, {"MessageBody": ["a"]}, {"MessageBody": "a", "DelaySeconds": "invalid"}, {"MessageBody": "a", "MessageAttributes": "x"}:
            answer = post("SendMessage", dict(arguments, QueueUrl=url))
            with self.subTest(arguments):
                self.assertEqual(400, answer.status, answer.body)
                self.assertTrue(answer.json["__type"].endswith("#SerializationException"), answer.body)
