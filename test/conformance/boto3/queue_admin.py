"""SQS: queues created, listed, configured, tagged, shared, deleted."""

import json
import time

from queueing import ACCOUNT, PREFIX, REGION, QueueCase, client, queue_arn, queue_name, sqs

DEFAULTS = {
    "VisibilityTimeout": "30", "MaximumMessageSize": "1048576", "MessageRetentionPeriod": "345600", "DelaySeconds": "0", "ReceiveMessageWaitTimeSeconds": "0", "SqsManagedSseEnabled": "true",
    "ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0",
}


class Queues(QueueCase):
    def test_life(self):
        name = self.name("q")
        url = self.queue(name)
        self.assertTrue(url.endswith(f"/{ACCOUNT}/{name}"), url)
        self.assertEqual(url, sqs.get_queue_url(QueueName=name)["QueueUrl"])
        self.assertEqual(url, sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=ACCOUNT)["QueueUrl"])
        self.assertIn(url, sqs.list_queues(QueueNamePrefix=name)["QueueUrls"])
        sqs.delete_queue(QueueUrl=url)
        for call in (
            lambda: sqs.get_queue_url(QueueName=name),
            lambda: sqs.get_queue_attributes(QueueUrl=url),
            lambda: sqs.delete_queue(QueueUrl=url),
            lambda: sqs.send_message(QueueUrl=url, MessageBody="a"),
            lambda: sqs.receive_message(QueueUrl=url),
        ):
            with self.no_queue():
                call()
        self.assertNotIn("QueueUrls", sqs.list_queues(QueueNamePrefix=name))
        with self.wrong(PREFIX + "QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another with the same name."):
            sqs.create_queue(QueueName=name)

    def test_created_again(self):
        name = self.name("q")
        url = self.queue(name, ReceiveMessageWaitTimeSeconds="1", DelaySeconds="1")
        for attributes in {}, {"DelaySeconds": "1"}, {"ReceiveMessageWaitTimeSeconds": "1", "DelaySeconds": "1"}:
            self.assertEqual(url, sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

        def differs(name_of_attribute, **attributes):
            with self.wrong("QueueAlreadyExists", f"A queue already exists with the same name and a different value for attribute {name_of_attribute}"):
                sqs.create_queue(QueueName=name, Attributes=attributes)

        differs("DelaySeconds", ReceiveMessageWaitTimeSeconds="1", DelaySeconds="2")
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "2"})
        self.assertEqual(url, sqs.create_queue(QueueName=name, Attributes={"ReceiveMessageWaitTimeSeconds": "1", "DelaySeconds": "2"})["QueueUrl"])
        differs("DelaySeconds", ReceiveMessageWaitTimeSeconds="1", DelaySeconds="1")
        differs("VisibilityTimeout", VisibilityTimeout="31")
        self.send(url, "a", "b")
        self.assertEqual(url, sqs.create_queue(QueueName=name)["QueueUrl"])
        self.assertEqual(url, sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "30"})["QueueUrl"])  # defaults count as set

    def test_names(self):
        for name in "a b", "a.b", "a/b", "\u00e9", "x" * 81, "a:b":
            with self.subTest(name[:5]), self.invalid_value("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"):
                sqs.create_queue(QueueName=name)
        with self.invalid_value("Queue name cannot be empty"):
            sqs.create_queue(QueueName="")
        url = self.queue(("x" * 80 + self.name("_-"))[-80:])
        self.assertEqual(80, len(queue_name(url)))
        for name in queue_name(url).upper(), "nobody":
            with self.no_queue():
                sqs.get_queue_url(QueueName=name)

    def test_regions_are_apart(self):
        name = self.name("q")
        url, other = self.queue(name), client("sqs", region_name="eu-north-1")
        with self.no_queue():
            other.get_queue_url(QueueName=name)
        there = self.queue(name, queues=other)
        other.send_message(QueueUrl=there, MessageBody="there")
        self.assertEqual([], self.receive(url))
        self.assertEqual(queue_arn(name, "eu-north-1"), other.get_queue_attributes(QueueUrl=there, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])
        self.assertEqual("there", other.receive_message(QueueUrl=there, WaitTimeSeconds=5)["Messages"][0]["Body"])

    def test_list(self):
        prefix = self.name("many")
        urls = sorted(self.queue(f"{prefix}-{i}") for i in range(5))
        self.assertEqual(urls, sqs.list_queues(QueueNamePrefix=prefix)["QueueUrls"])
        self.assertEqual(set(urls), set(sqs.list_queues()["QueueUrls"]) & set(urls))
        self.assertNotIn("NextToken", sqs.list_queues(QueueNamePrefix=prefix))
        pages = [p.get("QueueUrls", []) for p in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 2})]
        self.assertEqual([2, 2, 1], [len(p) for p in pages])
        self.assertEqual(urls, sum(pages, []))
        first = sqs.list_queues(QueueNamePrefix=prefix, MaxResults=2)
        self.assertEqual(urls[2:], sqs.list_queues(QueueNamePrefix=prefix, MaxResults=10, NextToken=first["NextToken"])["QueueUrls"])
        with self.invalid_value("^Invalid or expired next token\\.$|^Value .* for parameter NextToken is invalid"):
            sqs.list_queues(QueueNamePrefix=prefix, MaxResults=2, NextToken="nonsense")
        for n in 0, 1001, -1:
            with self.subTest(n), self.invalid_value("Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer between 1 and 1000."):
                sqs.list_queues(MaxResults=n)


class Settings(QueueCase):
    def test_defaults(self):
        before = int(time.time())
        name = self.name("q")
        got = self.attributes(self.queue(name))
        for stamp in "CreatedTimestamp", "LastModifiedTimestamp":
            self.assertRegex(got[stamp], r"^\d{10}$")
            self.assertAlmostEqual(before, int(got.pop(stamp)), delta=30)
        self.assertEqual(dict(DEFAULTS, QueueArn=queue_arn(name)), got)

    def test_none_asked_for(self):
        self.assertNotIn("Attributes", sqs.get_queue_attributes(QueueUrl=self.queue()))

    def test_some_asked_for(self):
        url = self.queue(MessageRetentionPeriod="604800")
        self.assertEqual({"MessageRetentionPeriod": "604800", "DelaySeconds": "0"}, self.attributes(url, "MessageRetentionPeriod", "DelaySeconds", "RedrivePolicy", "Policy"))
        with self.wrong("InvalidAttributeName", "Unknown Attribute Foobar."):
            self.attributes(url, "QueueArn", "Foobar")
        with self.wrong("InvalidAttributeName", "Unknown Attribute FifoQueue."):
            self.attributes(url, "FifoQueue")

    def test_created_with(self):
        url = self.queue(MessageRetentionPeriod="604800", ReceiveMessageWaitTimeSeconds="10", VisibilityTimeout="20")
        got = self.attributes(url)
        self.assertEqual(("604800", "10", "20", "1048576"), tuple(got[k] for k in ("MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "VisibilityTimeout", "MaximumMessageSize")))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "2048", "VisibilityTimeout": "69", "DelaySeconds": "420"})
        again = self.attributes(url)
        self.assertGreaterEqual(int(again["LastModifiedTimestamp"]), int(got["LastModifiedTimestamp"]))
        wanted = dict(got, MaximumMessageSize="2048", VisibilityTimeout="69", DelaySeconds="420", LastModifiedTimestamp=again["LastModifiedTimestamp"])
        self.assertEqual(wanted, again)

    def test_bounds(self):
        url = self.queue()
        for name, lowest, highest in (
            ("DelaySeconds", 0, 900), ("MaximumMessageSize", 1024, 1048576), ("MessageRetentionPeriod", 60, 1209600), ("ReceiveMessageWaitTimeSeconds", 0, 20), ("VisibilityTimeout", 0, 43200), ("KmsDataKeyReusePeriodSeconds", 60, 86400),
        ):
            for good in lowest, highest:
                sqs.set_queue_attributes(QueueUrl=url, Attributes={name: str(good)})
            if not name.startswith("Kms"):
                self.assertEqual({name: str(highest)}, self.attributes(url, name))
            for bad in lowest - 1, highest + 1, "x", "1.5", " 60", "true":
                with self.subTest((name, bad)), self.wrong("InvalidAttributeValue", f"Invalid value for the parameter {name}."):
                    sqs.set_queue_attributes(QueueUrl=url, Attributes={name: str(bad)})
                with self.subTest((name, bad)), self.wrong("InvalidAttributeValue", f"Invalid value for the parameter {name}."):
                    sqs.create_queue(QueueName="never", Attributes={name: str(bad)})

    def test_unknown(self):
        url = self.queue()
        for attributes, message in (
            ({"Foobar": "1"}, "Unknown Attribute Foobar."),
            ({"FifoQueue": "true"}, "Unknown Attribute FifoQueue."),
            ({"FifoQueue": "false"}, "Unknown Attribute FifoQueue."),
            ({"ContentBasedDeduplication": "true"}, "Unknown Attribute ContentBasedDeduplication."),
            ({"QueueArn": "arn"}, "Unknown Attribute QueueArn."),
            ({"CreatedTimestamp": "1"}, "Unknown Attribute CreatedTimestamp."),
            ({"ApproximateNumberOfMessages": "1"}, "Unknown Attribute ApproximateNumberOfMessages."),
            ({"All": "1"}, "Unknown Attribute All."),
        ):
            with self.subTest(attributes), self.wrong("InvalidAttributeName", message):
                sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        for attributes, message in (
            ({"Foobar": "1"}, "Unknown Attribute Foobar."),
            ({"FifoQueue": "false"}, "Unknown Attribute FifoQueue."),
            ({"ContentBasedDeduplication": "false"}, "Unknown Attribute ContentBasedDeduplication."),
            ({"DeduplicationScope": "queue"}, "You can specify the DeduplicationScope only when FifoQueue is set to true."),
            ({"FifoThroughputLimit": "perQueue"}, "You can specify the FifoThroughputLimit only when FifoQueue is set to true."),
        ):
            with self.subTest(attributes), self.wrong("InvalidAttributeName", message):
                sqs.create_queue(QueueName="never", Attributes=attributes)

    def test_encryption(self):
        url = self.queue()
        get = lambda: self.attributes(url, "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled")
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "testKeyId", "KmsDataKeyReusePeriodSeconds": "6000"})
        self.assertEqual({"KmsMasterKeyId": "testKeyId", "KmsDataKeyReusePeriodSeconds": "6000", "SqsManagedSseEnabled": "false"}, get())
        with self.wrong("InvalidAttributeName", "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE."):
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "testKeyId", "SqsManagedSseEnabled": "true"})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": ""})
        self.assertEqual({"SqsManagedSseEnabled": "false"}, get())
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"SqsManagedSseEnabled": "true"})
        self.assertEqual({"SqsManagedSseEnabled": "true"}, get())
        made = self.queue(KmsMasterKeyId="alias/aws/sqs")
        self.assertEqual({"KmsMasterKeyId": "alias/aws/sqs", "KmsDataKeyReusePeriodSeconds": "300", "SqsManagedSseEnabled": "false"}, self.attributes(made, "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled"))
        self.send(made, "works")
        self.assertEqual(["works"], self.bodies(made, WaitTimeSeconds=5))
        with self.wrong("InvalidAttributeName", "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE."):
            sqs.create_queue(QueueName="never", Attributes={"KmsMasterKeyId": "alias/aws/sqs", "SqsManagedSseEnabled": "true"})

    def test_retention_shortened(self):
        """A message older than the retention that was set later goes."""
        url = self.queue()
        self.send(url, "a")
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "60"})
        self.assertEqual(["a"], self.bodies(url, WaitTimeSeconds=5))

    def test_none_given(self):
        url = self.queue()
        for attributes in ({},):
            with self.missing("Attribute.Name"):
                sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)


class Policies(QueueCase):
    def policy(self, url, **statement):
        return json.dumps({"Version": "2012-10-17", "Statement": [dict({"Sid": "s", "Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sqs:SendMessage", "Resource": queue_arn(queue_name(url))}, **statement)]})

    def test_life(self):
        url = self.queue()
        self.assertNotIn("Policy", self.attributes(url))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
        policy = self.policy(url)
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        for got in self.attributes(url), self.attributes(url, "Policy"):
            self.assertEqual(json.loads(policy), json.loads(got["Policy"]))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
        self.assertNotIn("Policy", self.attributes(url))

    def test_malformed(self):
        url = self.queue()
        for policy in "nonsense", "[]", '"text"', "5", "null", '{"Version":"4532-10-17","Statement":[]}', self.policy(url, Effect="Maybe"), self.policy(url, Nonsense="x"), json.dumps({"Version": "2012-10-17"}):
            with self.subTest(policy), self.wrong("InvalidAttributeValue", "Invalid value for the parameter Policy."):
                sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        self.assertNotIn("Policy", self.attributes(url))

    def test_permissions(self):
        url = self.queue()
        arn = queue_arn(queue_name(url))

        def add(label, *actions, accounts=(ACCOUNT,)):
            sqs.add_permission(QueueUrl=url, Label=label, AWSAccountIds=list(accounts), Actions=list(actions))

        def remove(label):
            sqs.remove_permission(QueueUrl=url, Label=label)

        def statement(label, action="SQS:ReceiveMessage"):
            return {"Sid": label, "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": action, "Resource": arn}

        get = lambda: json.loads(self.attributes(url, "Policy")["Policy"])
        add("one", "ReceiveMessage", accounts=[ACCOUNT, "668614515564"])
        got = get()
        got["Statement"][0]["Principal"]["AWS"].sort()
        both = sorted(f"arn:aws:iam::{a}:root" for a in (ACCOUNT, "668614515564"))
        self.assertEqual({"Version": "2008-10-17", "Id": arn + "/SQSDefaultPolicy", "Statement": [dict(statement("one"), Principal={"AWS": both})]}, got)
        remove("one")
        self.assertEqual({}, self.attributes(url, "Policy"))
        add("one", "ReceiveMessage")
        self.assertEqual([statement("one")], get()["Statement"])
        with self.invalid_value("Value one for parameter Label is invalid. Reason: Already exists."):
            add("one", "ReceiveMessage")
        add("two", "SendMessage", "*")
        self.assertEqual([statement("one"), statement("two", ["SQS:SendMessage", "SQS:*"])], get()["Statement"])
        remove("one")
        self.assertEqual([statement("two", ["SQS:SendMessage", "SQS:*"])], get()["Statement"])
        remove("two")
        self.assertEqual({}, self.attributes(url, "Policy"))
        with self.invalid_value("^Value two for parameter Label is invalid\\. Reason: can't find label( on existing policy)?\\.$"):
            remove("two")

    def test_permissions_refused(self):
        url = self.queue()

        def add(accounts=(ACCOUNT,), actions=("SendMessage",), label="l"):
            sqs.add_permission(QueueUrl=url, Label=label, AWSAccountIds=list(accounts), Actions=list(actions))

        with self.wrong("OverLimit", "8 Actions were found, maximum allowed is 7.", 403):
            add(actions=["SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes", "GetQueueUrl", "ListDeadLetterSourceQueues", "PurgeQueue"])
        with self.missing("Actions"):
            add(actions=[])
        with self.invalid_value("Value [] for parameter PrincipalId is invalid. Reason: Unable to verify."):
            add(accounts=[])
        for action in "RemovePermission", "AddPermission", "CreateQueue", "DeleteQueue", "ListQueues", "SetQueueAttributes":
            with self.subTest(action), self.invalid_value(f"Value SQS:{action} for parameter ActionName is invalid. Reason: Only the queue owner is allowed to invoke this action."):
                add(actions=["SendMessage", action])
        with self.invalid_value("^Value SQS:Foo for parameter ActionName is invalid\\. Reason: "):
            add(actions=["Foo"])
        for label in "a b", "x" * 81, "\u00e9":
            with self.subTest(label[:3]), self.invalid_value(f"Value {label} for parameter Label is invalid. Reason: Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length."):
                add(label=label)
        self.assertNotIn("Policy", self.attributes(url))


class Tags(QueueCase):
    def tags(self, url):
        return sqs.list_queue_tags(QueueUrl=url).get("Tags")

    def test_life(self):
        url = self.queue()
        self.assertIsNone(self.tags(url))
        sqs.tag_queue(QueueUrl=url, Tags={"tag1": "value1", "tag2": "value2", "tag3": ""})
        self.assertEqual({"tag1": "value1", "tag2": "value2", "tag3": ""}, self.tags(url))
        sqs.untag_queue(QueueUrl=url, TagKeys=["tag1", "tag3", "never"])
        self.assertEqual({"tag2": "value2"}, self.tags(url))
        sqs.tag_queue(QueueUrl=url, Tags={"tag2": "other", "Tag2": "case matters"})
        self.assertEqual({"tag2": "other", "Tag2": "case matters"}, self.tags(url))
        sqs.untag_queue(QueueUrl=url, TagKeys=["tag2", "Tag2"])
        self.assertIsNone(self.tags(url))

    def test_at_creation(self):
        name = self.name("q")
        url = self.queue(name)
        other = sqs.create_queue(QueueName=name + "x", tags={"a": "b"})["QueueUrl"]
        self.addCleanup(sqs.delete_queue, QueueUrl=other)
        self.assertEqual((None, {"a": "b"}), (self.tags(url), self.tags(other)))

    def test_refused(self):
        url = self.queue()
        with self.invalid_value("Tag keys must be between 1 and 128 characters in length."):
            sqs.tag_queue(QueueUrl=url, Tags={"": "x"})
        with self.invalid_value("Tag keys must be between 1 and 128 characters in length."):
            sqs.tag_queue(QueueUrl=url, Tags={"x" * 129: "x"})
        with self.invalid_value("Tag values must be between 0 and 256 characters in length."):
            sqs.tag_queue(QueueUrl=url, Tags={"x": "x" * 257})
        with self.invalid_value(f"Too many tags added for queue {queue_name(url)}."):
            sqs.tag_queue(QueueUrl=url, Tags={f"k{i}": "v" for i in range(51)})
        with self.missing("Tags"):
            sqs.tag_queue(QueueUrl=url, Tags={})
        with self.missing("TagKeys"):
            sqs.untag_queue(QueueUrl=url, TagKeys=[])
        self.assertIsNone(self.tags(url))
