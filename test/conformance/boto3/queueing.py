"""What the suites of queues share: queues that go away with their test, and the errors as SQS words them."""

import contextlib
import json
import time

from botocore.exceptions import ClientError

from suite import ACCOUNT, REGION, UUID, Case, client

sqs = client("sqs")

# The names that errors have in JSON's __type; in the header x-amzn-query-error and in XML they have those on the left.
TYPES = {
    "InvalidParameterValue": "InvalidParameterValueException",
    "MissingParameter": "MissingRequiredParameterException",
    "QueueAlreadyExists": "QueueNameExists",
    "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
}
PREFIX = "AWS.SimpleQueueService."


def queue_arn(name, region=REGION):
    return f"arn:aws:sqs:{region}:{ACCOUNT}:{name}"


def queue_name(url):
    return url.rsplit("/", 1)[1]


class QueueCase(Case):
    def queue(self, name=None, queues=None, **attributes):
        """Creates a queue that is deleted after the test, of FIFO if FifoQueue is given, and returns its URL."""
        queues = queues or sqs
        attributes = {k: v if isinstance(v, str) else json.dumps(v) for k, v in attributes.items()}
        name = name or self.name("q") + (".fifo" if "FifoQueue" in attributes else "")
        url = queues.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.addCleanup(delete, queues, url)
        return url

    def fifo(self, **attributes):
        return self.queue(**dict(dict(FifoQueue="true", ContentBasedDeduplication="true"), **attributes))

    def piped(self, receives=1, dead=None, **attributes):
        """A queue and its dead-letter queue."""
        dead = dead or self.queue()
        return self.queue(RedrivePolicy={"deadLetterTargetArn": queue_arn(queue_name(dead)), "maxReceiveCount": receives}, **attributes), dead

    def attributes(self, url, *names):
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names) or ["All"]).get("Attributes", {})

    def counts(self, url):
        """How many messages are visible, in flight and delayed."""
        got = self.attributes(url, "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
        return tuple(int(got["ApproximateNumberOfMessages" + k]) for k in ("", "NotVisible", "Delayed"))

    def send(self, url, *bodies, **arguments):
        for body in bodies:
            sqs.send_message(QueueUrl=url, MessageBody=body, **arguments)

    def receive(self, url, n=10, **arguments):
        return sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=n, **arguments).get("Messages", [])

    def one(self, url, **arguments):
        (message,) = self.receive(url, 1, **dict(dict(WaitTimeSeconds=20), **arguments))
        return message

    def bodies(self, url, n=10, **arguments):
        return [m["Body"] for m in self.receive(url, n, **arguments)]

    def drain(self, url, n, limit=30, **arguments):
        """Receives until there are n messages; they stay in flight."""
        got, deadline = [], time.monotonic() + limit
        while len(got) < n:
            got += self.receive(url, min(10, n - len(got)), **dict(dict(WaitTimeSeconds=1), **arguments))
            self.assertLess(time.monotonic(), deadline, f"{len(got)} messages of {n}")
        return got

    def delete(self, url, message):
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def visibility(self, url, message, seconds):
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds)

    def await_counts(self, url, wanted):
        deadline = time.monotonic() + 20
        while (got := self.counts(url)) != wanted:
            self.assertLess(time.monotonic(), deadline, f"{got} and not {wanted}")
            time.sleep(0.02)

    @contextlib.contextmanager
    def wrong(self, code, message=None, status=400):
        """Expects an error in both of its names."""
        with self.refused(code, status, message):
            yield
        got = self.error["Error"]
        self.assertEqual(TYPES.get(code, code.removeprefix(PREFIX)), got.get("QueryErrorCode"))
        self.assertEqual("Sender", got.get("Type"))

    def invalid_value(self, message):
        return self.wrong("InvalidParameterValue", message)

    def no_queue(self):
        return self.wrong(PREFIX + "NonExistentQueue", "The specified queue does not exist.")

    def missing(self, parameter):
        return self.wrong("MissingParameter", f"The request must contain the parameter {parameter}.")


def delete(queues, url):
    with contextlib.suppress(ClientError):
        queues.delete_queue(QueueUrl=url)


__all__ = ["ACCOUNT", "REGION", "UUID", "PREFIX", "QueueCase", "client", "queue_arn", "queue_name", "sqs"]
