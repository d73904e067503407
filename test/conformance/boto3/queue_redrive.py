"""SQS: dead-letter queues, who may use them, and the tasks that move messages back."""

import base64
import json
import time

from queueing import ACCOUNT, REGION, UUID, QueueCase, queue_arn, queue_name, sqs

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


class Redrive(QueueCase):
    def test_moves(self):
        url, dead = self.piped(1)
        ids = [
            sqs.send_message(QueueUrl=url, MessageBody="message-1", MessageAttributes={"MyAttribute": {"DataType": "String", "StringValue": "foobar"}},
                             MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}})["MessageId"],
            sqs.send_message(QueueUrl=url, MessageBody="message-2")["MessageId"],
        ]
        before = {m["Body"]: m for m in self.drain(url, 2, AttributeNames=["All"])}
        self.assertEqual({"1"}, {m["Attributes"]["ApproximateReceiveCount"] for m in before.values()})
        for m in before.values():
            self.visibility(url, m, 0)
        self.assertEqual([], self.receive(url))
        self.assertEqual(((0, 0, 0), (2, 0, 0)), (self.counts(url), self.counts(dead)))
        after = {m["Body"]: m for m in self.drain(dead, 2, AttributeNames=["All"], MessageAttributeNames=["All"])}
        self.assertEqual(ids, [after["message-1"]["MessageId"], after["message-2"]["MessageId"]])
        self.assertEqual("adb59cd4678ea5a855436b949cd07ab6", after["message-1"]["MD5OfMessageAttributes"])
        self.assertEqual(TRACE, after["message-1"]["Attributes"]["AWSTraceHeader"])
        for body, m in after.items():
            was, system = before[body]["Attributes"], m["Attributes"]
            self.assertEqual((queue_arn(queue_name(url)), "2"), (system["DeadLetterQueueSourceArn"], system["ApproximateReceiveCount"]))  # counted over all queues
            self.assertEqual((was["SentTimestamp"], was["SenderId"]), (system["SentTimestamp"], system["SenderId"]))

    def test_as_many_receives_as_are_allowed(self):
        url, dead = self.piped(3)
        self.send(url, "a")
        self.assertEqual(["1", "2", "3"], [self.one(url, VisibilityTimeout=0, AttributeNames=["All"])["Attributes"]["ApproximateReceiveCount"] for _ in range(3)])
        self.assertEqual([], self.receive(url))
        self.assertEqual("4", self.one(dead, AttributeNames=["All"])["Attributes"]["ApproximateReceiveCount"])

    def test_a_timeout_counts(self):
        url, dead = self.piped(1)
        self.send(url, "a")
        self.one(url, VisibilityTimeout=1)
        self.assertEqual([], self.receive(url, WaitTimeSeconds=3))
        self.assertEqual("a", self.one(dead)["Body"])

    def test_a_deleted_message_does_not_move(self):
        url, dead = self.piped(1)
        self.send(url, "a")
        self.delete(url, self.one(url))
        self.assertEqual([], self.receive(url))
        self.assertEqual((0, 0, 0), self.counts(dead))

    def test_policy(self):
        dead = self.queue()
        arn = queue_arn(queue_name(dead))
        url = self.queue(RedrivePolicy={"deadLetterTargetArn": arn, "maxReceiveCount": 10})
        get = lambda: json.loads(self.attributes(url, "RedrivePolicy")["RedrivePolicy"])
        self.assertEqual({"deadLetterTargetArn": arn, "maxReceiveCount": 10}, get())
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "42"})})
        got = get()
        self.assertEqual((arn, "42"), (got["deadLetterTargetArn"], str(got["maxReceiveCount"])))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})
        self.assertNotIn("RedrivePolicy", self.attributes(url))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})

    def test_policy_refused(self):
        dead, url = self.queue(), self.queue()
        arn = queue_arn(queue_name(dead))
        for policy, message in (
            ({"deadLetterTargetArn": "dummy", "maxReceiveCount": 42}, "Invalid value for deadLetterTargetArn."),
            ({}, "Redrive policy does not contain mandatory attribute: maxReceiveCount."),
            ({"maxReceiveCount": 5}, "Redrive policy does not contain mandatory attribute: deadLetterTargetArn."),
            ({"deadLetterTargetArn": arn}, "Redrive policy does not contain mandatory attribute: maxReceiveCount."),
            ({"deadLetterTargetArn": arn, "maxReceiveCount": 0}, "Invalid value for maxReceiveCount: 0, valid values are from 1 to 1000 both inclusive."),
            ({"deadLetterTargetArn": arn, "maxReceiveCount": 1001}, "Invalid value for maxReceiveCount: 1001, valid values are from 1 to 1000 both inclusive."),
            ({"deadLetterTargetArn": arn, "maxReceiveCount": "invalid"}, "Invalid value for maxReceiveCount: invalid, valid values are from 1 to 1000 both inclusive."),
            ({"deadLetterTargetArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:topic", "maxReceiveCount": 5}, "Only SQS queues are valid resources for deadLetterTargetArn."),
            ({"deadLetterTargetArn": queue_arn("nobody"), "maxReceiveCount": 5}, "Dead letter target does not exist."),
            ({"deadLetterTargetArn": arn, "maxReceiveCount": 5, "dummyField": "x"}, "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn]."),
        ):
            text = json.dumps(policy)
            for call in lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": text}), lambda: sqs.create_queue(QueueName="never", Attributes={"RedrivePolicy": text}):
                with self.subTest(text), self.invalid_value(f"Value {text} for parameter RedrivePolicy is invalid. Reason: {message}"):
                    call()
        for text in "nonsense", "[]", "4", " ":
            with self.subTest(text), self.wrong("InvalidAttributeValue", "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON map."):
                sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": text})
        self.assertNotIn("RedrivePolicy", self.attributes(url))

    def test_sources(self):
        dead = self.queue()
        self.assertEqual([], sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"])
        urls = sorted(self.piped(50, dead)[0] for _ in range(5))
        self.assertEqual(urls, sorted(sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"]))
        pages = [p["queueUrls"] for p in sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=dead, PaginationConfig={"PageSize": 2})]
        self.assertEqual([2, 2, 1], [len(p) for p in pages])
        self.assertEqual(urls, sorted(sum(pages, [])))
        sqs.set_queue_attributes(QueueUrl=urls[0], Attributes={"RedrivePolicy": ""})
        sqs.delete_queue(QueueUrl=urls[1])
        self.assertEqual(urls[2:], sorted(sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"]))
        with self.no_queue():
            sqs.list_dead_letter_source_queues(QueueUrl=dead + "x")


class AllowPolicy(QueueCase):
    def test_who_may(self):
        dead, url = self.queue(), self.queue()
        policy = json.dumps({"deadLetterTargetArn": queue_arn(queue_name(dead)), "maxReceiveCount": 3})
        use = lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
        allow = lambda **p: sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(p)})
        for refused in {"redrivePermission": "denyAll"}, {"redrivePermission": "byQueue", "sourceQueueArns": [queue_arn("other")]}:
            allow(**refused)
            self.assertEqual(refused, json.loads(self.attributes(dead, "RedriveAllowPolicy")["RedriveAllowPolicy"]))
            with self.subTest(refused), self.invalid_value(None):
                use()
        for allowed in {"redrivePermission": "allowAll"}, {"redrivePermission": "byQueue", "sourceQueueArns": [queue_arn("other"), queue_arn(queue_name(url))]}:
            allow(**allowed)
            use()
        sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": ""})
        self.assertNotIn("RedriveAllowPolicy", self.attributes(dead))

    def test_refused(self):
        url = self.queue()
        arns = [queue_arn(f"x{i}") for i in range(11)]
        for policy, message in (
            ({"redrivePermission": "byQueue"}, "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values."),
            ({"redrivePermission": "byQueue", "sourceQueueArns": []}, "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values."),
            ({"redrivePermission": "byQueue", "sourceQueueArns": arns}, "The maximum number of source queue ARNs you can specify is 10."),
            ({"redrivePermission": "allowAll", "sourceQueueArns": arns[:1]}, "To specify one or more source queue ARNs, you must set redrivePermission to byQueue."),
            ({"redrivePermission": "denyAll", "sourceQueueArns": arns[:1]}, "To specify one or more source queue ARNs, you must set redrivePermission to byQueue."),
        ):
            text = json.dumps(policy)
            with self.subTest(text), self.invalid_value(f"Value {text} for parameter RedriveAllowPolicy is invalid. Reason: Amazon SQS can't create the redrive allow policy. {message}"):
                sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedriveAllowPolicy": text})
        for text in "nonsense", "[]", "444", "{}", '{"redrivePermission":"dummy"}', '{"redrivePermission":"allowAll","dummy":"x"}', '{"redrivePermission":"byQueue","sourceQueueArns":"arn"}', '{"redrivePermission":"byQueue","sourceQueueArns":[{}]}':
            with self.subTest(text), self.wrong("InvalidAttributeValue", "Invalid value for the parameter RedriveAllowPolicy. Reason: Amazon SQS can't create the redrive allow policy, as it\u2019s in an unsupported format."):
                sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedriveAllowPolicy": text})
        self.assertNotIn("RedriveAllowPolicy", self.attributes(url))


class MoveTasks(QueueCase):
    def dead(self, n, pipes=1):
        """A dead-letter queue with n messages of every one of its source queues: its URL, its ARN, theirs."""
        urls, dead = [], self.queue()
        for p in range(pipes):
            url, _ = self.piped(1, dead)
            self.send(url, *(f"message-{p}-{i}" for i in range(n)))
            self.drain(url, n, VisibilityTimeout=0)
            while self.receive(url):
                pass
            urls.append(url)
        self.await_counts(dead, (n * pipes, 0, 0))
        return dead, queue_arn(queue_name(dead)), urls

    def start(self, arn, to=None, **arguments):
        if to:
            arguments["DestinationArn"] = queue_arn(queue_name(to))
        return sqs.start_message_move_task(SourceArn=arn, **arguments)["TaskHandle"]

    def latest(self, arn):
        return sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]

    def settled(self, arn):
        deadline = time.monotonic() + 30
        while (got := self.latest(arn))["Status"] in ("RUNNING", "CANCELLING"):
            self.assertLess(time.monotonic(), deadline, got)
            time.sleep(0.02)
        self.assertAlmostEqual(time.time(), got.pop("StartedTimestamp") / 1000, delta=120)
        return got

    def test_to_a_queue(self):
        dead, arn, _ = self.dead(2)
        to = self.queue()
        handle = self.start(arn, to)
        decoded = json.loads(base64.b64decode(handle))
        self.assertRegex(decoded["taskId"], f"^{UUID}$")
        self.assertEqual(arn, decoded["sourceArn"])
        self.assertEqual({"message-0-0", "message-0-1"}, {m["Body"] for m in self.drain(to, 2)})
        self.assertEqual({"ApproximateNumberOfMessagesMoved": 2, "ApproximateNumberOfMessagesToMove": 2, "SourceArn": arn, "DestinationArn": queue_arn(queue_name(to)), "Status": "COMPLETED"}, self.settled(arn))
        self.assertEqual((0, 0, 0), self.counts(dead))

    def test_back_to_the_sources(self):
        dead, arn, urls = self.dead(2, 2)
        self.start(arn)
        for p, url in enumerate(urls):
            self.assertEqual({f"message-{p}-0", f"message-{p}-1"}, {m["Body"] for m in self.drain(url, 2)})
        self.assertEqual({"ApproximateNumberOfMessagesMoved": 4, "ApproximateNumberOfMessagesToMove": 4, "SourceArn": arn, "Status": "COMPLETED"}, self.settled(arn))
        self.assertEqual((0, 0, 0), self.counts(dead))

    def test_slowly(self):
        _, arn, _ = self.dead(3)
        to = self.queue()
        began = time.monotonic()
        self.start(arn, to, MaxNumberOfMessagesPerSecond=1)
        self.drain(to, 3)
        self.assertGreaterEqual(time.monotonic() - began, 1.5)

    def test_cancelled(self):
        dead, arn, _ = self.dead(10)
        to = self.queue()
        handle = self.start(arn, to, MaxNumberOfMessagesPerSecond=1)
        self.drain(to, 1)
        running = self.latest(arn)
        self.assertEqual({"ApproximateNumberOfMessagesMoved", "ApproximateNumberOfMessagesToMove", "SourceArn", "DestinationArn", "Status", "MaxNumberOfMessagesPerSecond", "TaskHandle", "StartedTimestamp"}, set(running))
        self.assertEqual(("RUNNING", handle, 1, 10), tuple(running[k] for k in ("Status", "TaskHandle", "MaxNumberOfMessagesPerSecond", "ApproximateNumberOfMessagesToMove")))
        with self.invalid_value("There is already a task running. Only one active task is allowed for a source queue arn at a given time."):
            self.start(arn, to)
        moved = sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
        self.assertGreaterEqual(moved, 1)
        got = self.settled(arn)
        self.assertEqual(("CANCELLED", 10), (got["Status"], got["ApproximateNumberOfMessagesToMove"]))
        self.assertNotIn("TaskHandle", got)
        self.assertTrue(self.receive(dead, WaitTimeSeconds=5))
        with self.wrong_resource(None):
            sqs.cancel_message_move_task(TaskHandle=handle)

    def test_destination_deleted(self):
        dead, arn, _ = self.dead(10)
        to = self.queue()
        self.start(arn, to, MaxNumberOfMessagesPerSecond=1)
        sqs.delete_queue(QueueUrl=to)
        got = self.settled(arn)
        self.assertEqual(("FAILED", "AWS.SimpleQueueService.NonExistentQueue"), (got["Status"], got["FailureReason"]))
        self.assertNotIn("TaskHandle", got)
        self.assertTrue(self.receive(dead, WaitTimeSeconds=5))

    def test_listed(self):
        _, arn, _ = self.dead(1)
        to = self.queue()
        self.assertEqual([], sqs.list_message_move_tasks(SourceArn=arn).get("Results", []))
        for n in range(3):
            self.start(arn, to)
            self.settled(arn)
        self.assertEqual(1, len(sqs.list_message_move_tasks(SourceArn=arn)["Results"]))
        got = sqs.list_message_move_tasks(SourceArn=arn, MaxResults=10)["Results"]
        self.assertEqual([0, 0, 1], [r["ApproximateNumberOfMessagesMoved"] for r in got])  # the latest first

    def wrong_resource(self, message):
        return self.wrong("ResourceNotFoundException", message, 404)

    def test_refused(self):
        dead, arn, _ = self.dead(1)
        plain = self.queue()
        with self.invalid_value("Source queue must be configured as a Dead Letter Queue."):
            self.start(queue_arn(queue_name(plain)), dead)
        with self.wrong_resource("The resource that you specified for the DestinationArn parameter doesn't exist."):
            self.start(arn, plain + "doesntexist")
        with self.wrong_resource("The resource that you specified for the SourceArn parameter doesn't exist."):
            self.start(queue_arn("nobody"), plain)
        with self.wrong_resource("The resource that you specified for the SourceArn parameter doesn't exist."):
            sqs.list_message_move_tasks(SourceArn=queue_arn("nobody"))
        with self.invalid_value("You must use this format to specify the SourceArn: arn:<partition>:<service>:<region>:<account-id>:<resource-id>"):
            sqs.list_message_move_tasks(SourceArn="nonsense")
        with self.invalid_value("You must use this format to specify the SourceArn: arn:<partition>:<service>:<region>:<account-id>:<resource-id>"):
            self.start("nonsense")
        for rate in 0, 501, -1:
            with self.subTest(rate), self.invalid_value(None):
                self.start(arn, plain, MaxNumberOfMessagesPerSecond=rate)
        for n in 0, 11:
            with self.subTest(n), self.invalid_value(None):
                sqs.list_message_move_tasks(SourceArn=arn, MaxResults=n)
        with self.invalid_value("Value for parameter TaskHandle is invalid."):
            sqs.cancel_message_move_task(TaskHandle="foobared")
        handle = lambda source: base64.b64encode(json.dumps({"taskId": "10f57157-fc38-4da9-a113-4de7e12d05aa", "sourceArn": source}).encode()).decode()
        with self.wrong_resource("The resource that you specified for the SourceArn parameter doesn't exist."):
            sqs.cancel_message_move_task(TaskHandle=handle(queue_arn("nobody")))
        with self.wrong_resource("Task does not exist."):
            sqs.cancel_message_move_task(TaskHandle=handle(arn))
        self.assertEqual((1, 0, 0), self.counts(dead))
