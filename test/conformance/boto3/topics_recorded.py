"""SNS: topics, subscriptions and messages as SNS was recorded to answer."""

import contextlib
import json
import re

from botocore.exceptions import ClientError

from queueing import QueueCase, queue_arn, queue_name, sqs
from suite import ACCOUNT, REGION, UUID, client

sns = client("sns")

RETRIES = {"minDelayTarget": 20, "maxDelayTarget": 20, "numRetries": 3, "numMaxDelayRetries": 0, "numNoDelayRetries": 0, "numMinDelayRetries": 0, "backoffFunction": "linear"}
ACTIONS = ["GetTopicAttributes", "SetTopicAttributes", "AddPermission", "RemovePermission", "DeleteTopic", "Subscribe", "ListSubscriptionsByTopic", "Publish"]


class TopicCase(QueueCase):
    def topic(self, name=None, topics=None, **attributes):
        """Creates a topic that is deleted after the test, and returns its ARN."""
        topics = topics or sns
        name = name or self.name("topic") + (".fifo" if attributes.get("FifoTopic") == "true" else "")
        arn = topics.create_topic(Name=name, Attributes=attributes)["TopicArn"]
        self.addCleanup(delete, topics, arn)
        return arn

    def subscribed(self, topic, url=None, **attributes):
        """Subscribes a queue that lets the topic send; returns the queue's URL and the subscription's ARN."""
        url = url or self.queue()
        arn = queue_arn(queue_name(url))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}]})})
        attributes = {k: v if isinstance(v, str) else json.dumps(v) for k, v in attributes.items()}
        return url, sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes, ReturnSubscriptionArn=True)["SubscriptionArn"]

    def of_topic(self, arn):
        return sns.get_topic_attributes(TopicArn=arn)["Attributes"]

    def of_subscription(self, arn):
        return sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]

    @contextlib.contextmanager
    def wrong(self, code, message=None, status=400):
        """Expects an error in SNS's way, with only one name."""
        with self.refused(code, status, message):
            yield
        self.assertEqual("Sender", self.error["Error"].get("Type"))

    def parameter(self, message):
        return self.wrong("InvalidParameter", "Invalid parameter: " + message)

    def no_topic(self):
        return self.wrong("NotFound", "Topic does not exist", 404)


def delete(topics, arn):
    with contextlib.suppress(ClientError):
        topics.delete_topic(TopicArn=arn)


def default_policy(arn, *statements):
    return {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [{
        "Sid": "__default_statement_ID", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["SNS:" + a for a in ACTIONS], "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": ACCOUNT}}}, *statements]}


class Topics(TopicCase):
    def test_attributes(self):
        arn = self.topic()
        self.assertRegex(arn, f"^arn:aws:sns:{REGION}:{ACCOUNT}:topic-")
        got = self.of_topic(arn)
        self.assertEqual({"http": {"defaultHealthyRetryPolicy": RETRIES, "disableSubscriptionOverrides": False, "defaultRequestPolicy": {"headerContentType": "text/plain; charset=UTF-8"}}}, json.loads(got.pop("EffectiveDeliveryPolicy")))
        self.assertEqual(default_policy(arn), json.loads(got.pop("Policy")))
        self.assertEqual({"DisplayName": "", "Owner": ACCOUNT, "SubscriptionsConfirmed": "0", "SubscriptionsDeleted": "0", "SubscriptionsPending": "0", "TopicArn": arn}, got)
        for _ in range(2):
            sns.delete_topic(TopicArn=arn)
        with self.no_topic():
            self.of_topic(arn)

    def test_of_fifo(self):
        arn = self.topic(FifoTopic="true", DisplayName="TestTopic", SignatureVersion="2")
        got = self.of_topic(arn)
        self.assertEqual({"ContentBasedDeduplication": "false", "DisplayName": "TestTopic", "FifoTopic": "true", "SignatureVersion": "2"}, {k: got.get(k) for k in ("ContentBasedDeduplication", "DisplayName", "FifoTopic", "SignatureVersion")})
        plain = self.topic(FifoTopic="false")
        self.assertNotIn("FifoTopic", self.of_topic(plain))
        with self.parameter("AttributeName"):
            sns.set_topic_attributes(TopicArn=plain, AttributeName="FifoTopic", AttributeValue="false")

    def test_created_again(self):
        name = self.name("topic")
        arn = self.topic(name, DisplayName="Value1")
        for attributes in {}, {"DisplayName": "Value1"}, {"FifoTopic": "false"}:
            with self.subTest(attributes):
                self.assertEqual(arn, sns.create_topic(Name=name, Attributes=attributes)["TopicArn"])
        for attributes in {"DisplayName": "Value2"}, {"SignatureVersion": "2"}, {"SignatureVersion": "2", "DisplayName": "Value1"}:
            with self.subTest(attributes), self.parameter("Attributes Reason: Topic already exists with different attributes"):
                sns.create_topic(Name=name, Attributes=attributes)
        with self.parameter("Topic Name"):
            sns.create_topic(Name=name, Attributes={"FifoTopic": "true"})
        with self.parameter("Tags Reason: Topic already exists with different tags"):
            sns.create_topic(Name=name, Tags=[{"Key": "a", "Value": "b"}])
        self.assertEqual("Value1", self.of_topic(arn)["DisplayName"])

    def test_names(self):
        self.topic(("a" * 256 + self.name(""))[-256:])
        for name, attributes in ("", {}), ("a" * 257, {}), ("test.fifo", {}), ("test", {"FifoTopic": "true"}), *((f"bad{c}name", {}) for c in ":;!@|^% "):
            with self.subTest(name[:9]), self.parameter("Topic Name"):
                sns.create_topic(Name=name, Attributes=attributes)

    def test_arns(self):
        for call in (
            lambda arn: sns.get_topic_attributes(TopicArn=arn),
            lambda arn: sns.publish(TopicArn=arn, Message="a"),
            lambda arn: sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn("x")),
        ):
            with self.parameter("TopicArn Reason: An ARN must have at least 6 elements, not 1"):
                call("randomstring")
            with self.parameter("TopicArn Reason: An ARN must have at least 6 elements, not 5"):
                call("arn:aws:sns:us-east-1:random")
            with self.no_topic():
                call(f"arn:aws:sns:{REGION}:{ACCOUNT}:nobody")
        with self.parameter("TopicArn Reason: An ARN must have at least 6 elements, not 1"):
            sns.publish(TopicArn="", Message="a")

    def test_other_regions(self):
        name = self.name("topic")
        arn, there = self.topic(name), client("sns", region_name="eu-west-1")
        for call in (
            lambda: there.get_topic_attributes(TopicArn=arn),
            lambda: there.set_topic_attributes(TopicArn=arn, AttributeName="DisplayName", AttributeValue="x"),
            lambda: there.publish(TopicArn=arn, Message="a"),
            lambda: there.publish_batch(TopicArn=arn, PublishBatchRequestEntries=[{"Id": "1", "Message": "a"}]),
            lambda: there.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn("x")),
            lambda: there.list_subscriptions_by_topic(TopicArn=arn),
            lambda: there.delete_topic(TopicArn=arn),
        ):
            with self.parameter("TopicArn"):
                call()
        other = self.topic(name, there)
        self.assertEqual(arn.replace(REGION, "eu-west-1"), other)
        self.assertNotIn(arn, [t["TopicArn"] for p in there.get_paginator("list_topics").paginate() for t in p["Topics"]])

    def test_delivery_policy(self):
        arn = self.topic(DeliveryPolicy='{"http":{"defaultRequestPolicy":{"headerContentType":"application/json"}}}')

        def policies():
            got = self.of_topic(arn)
            return json.loads(got["DeliveryPolicy"]) if "DeliveryPolicy" in got else None, json.loads(got["EffectiveDeliveryPolicy"])

        plain = {"headerContentType": "text/plain; charset=UTF-8"}
        self.assertEqual((
            {"http": {"disableSubscriptionOverrides": False, "defaultRequestPolicy": {"headerContentType": "application/json"}}},
            {"http": {"defaultHealthyRetryPolicy": RETRIES, "disableSubscriptionOverrides": False, "defaultRequestPolicy": {"headerContentType": "application/json"}}},
        ), policies())
        put = lambda value: sns.set_topic_attributes(TopicArn=arn, AttributeName="DeliveryPolicy", AttributeValue=value)
        put('{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":5,"maxDelayTarget":6,"numRetries":1}}}')
        self.assertEqual((
            {"http": {"defaultHealthyRetryPolicy": {"minDelayTarget": 5, "maxDelayTarget": 6, "numRetries": 1}, "disableSubscriptionOverrides": False}},
            {"http": {"defaultHealthyRetryPolicy": dict(RETRIES, minDelayTarget=5, maxDelayTarget=6, numRetries=1), "disableSubscriptionOverrides": False, "defaultRequestPolicy": plain}},
        ), policies())
        put("")
        self.assertEqual((None, {"http": {"defaultHealthyRetryPolicy": RETRIES, "disableSubscriptionOverrides": False, "defaultRequestPolicy": plain}}), policies())

    def test_permissions(self):
        arn = self.topic()
        statement = {"Sid": "test", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "SNS:Publish", "Resource": arn}
        add = lambda label, *actions, to=arn: sns.add_permission(TopicArn=to, Label=label, AWSAccountId=[ACCOUNT], ActionName=list(actions))
        policy = lambda: json.loads(self.of_topic(arn)["Policy"])
        add("test", "Publish")
        self.assertEqual(default_policy(arn, statement), policy())
        with self.parameter("Statement already exists"):
            add("test", "AddPermission")
        with self.parameter("Policy statement action out of service scope!"):
            add("other", "InvalidAction")
        with self.no_topic():
            add("other", "Publish", to=arn + "x")
        add("both", "Publish", "Subscribe")
        self.assertEqual(default_policy(arn, statement, dict(statement, Sid="both", Action=["SNS:Publish", "SNS:Subscribe"])), policy())
        sns.remove_permission(TopicArn=arn, Label="test")
        sns.remove_permission(TopicArn=arn, Label="both")
        self.assertEqual(default_policy(arn), policy())
        with self.no_topic():
            sns.remove_permission(TopicArn=arn + "x", Label="test")

    def test_tags(self):
        arn = self.topic()
        tags = lambda: sorted((t["Key"], t["Value"]) for t in sns.list_tags_for_resource(ResourceArn=arn)["Tags"])
        self.assertEqual([], tags())
        with self.parameter("Duplicated keys are not allowed."):
            sns.tag_resource(ResourceArn=arn, Tags=[{"Key": "k1", "Value": "v1"}, {"Key": "k2", "Value": "v2"}, {"Key": "k2", "Value": "v2"}])
        sns.tag_resource(ResourceArn=arn, Tags=[{"Key": "k1", "Value": "v1"}, {"Key": "k2", "Value": "v2"}])
        sns.untag_resource(ResourceArn=arn, TagKeys=["k1"])
        sns.tag_resource(ResourceArn=arn, Tags=[{"Key": "k2", "Value": "v2b"}])
        self.assertEqual([("k2", "v2b")], tags())

    def test_data_protection(self):
        arn = self.topic()
        policy = {"Name": "data_protection_policy", "Description": "Test Policy", "Version": "2021-06-01", "Statement": [{
            "Sid": "test-statement", "DataDirection": "Inbound", "Principal": ["*"], "DataIdentifier": [f"arn:aws:dataprotection:{REGION}::data-identifier/EmailAddress"], "Operation": {"Deny": {}}}]}
        before = self.of_topic(arn)
        sns.put_data_protection_policy(ResourceArn=arn, DataProtectionPolicy=json.dumps(policy))
        self.assertEqual(policy, json.loads(sns.get_data_protection_policy(ResourceArn=arn)["DataProtectionPolicy"]))
        self.assertEqual(before, self.of_topic(arn))


class Subscriptions(TopicCase):
    def test_attributes(self):
        topic = self.topic()
        url, arn = self.subscribed(topic)
        self.assertRegex(arn, f"^{topic}:{UUID}$")
        got = self.of_subscription(arn)
        self.assertTrue(got.pop("SubscriptionPrincipal").startswith(f"arn:aws:iam::{ACCOUNT}:"))
        self.assertEqual({"ConfirmationWasAuthenticated": "true", "Endpoint": queue_arn(queue_name(url)), "Owner": ACCOUNT, "PendingConfirmation": "false", "Protocol": "sqs", "RawMessageDelivery": "false", "SubscriptionArn": arn, "TopicArn": topic}, got)
        listed = {"Endpoint": queue_arn(queue_name(url)), "Owner": ACCOUNT, "Protocol": "sqs", "SubscriptionArn": arn, "TopicArn": topic}
        self.assertEqual([listed], sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"])
        self.assertIn(listed, [s for p in sns.get_paginator("list_subscriptions").paginate() for s in p["Subscriptions"]])
        for _ in range(2):
            sns.unsubscribe(SubscriptionArn=arn)
        self.assertEqual([], sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"])
        for call in lambda: self.of_subscription(arn), lambda: sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RawMessageDelivery", AttributeValue="true"):
            with self.wrong("NotFound", "Subscription does not exist", 404):
                call()

    def test_again(self):
        topic, url = self.topic(), self.queue()
        _, arn = self.subscribed(topic, url, RawMessageDelivery="True")
        self.assertEqual("true", self.of_subscription(arn)["RawMessageDelivery"])
        for attributes in {"RawMessageDelivery": "true"}, {"RawMessageDelivery": "true", "FilterPolicyScope": "MessageAttributes"}, {}, {"FilterPolicyScope": "MessageAttributes"}:
            with self.subTest(attributes):
                self.assertEqual(arn, self.subscribed(topic, url, **attributes)[1])
        with self.parameter("Attributes Reason: Subscription already exists with different attributes"):
            self.subscribed(topic, url, RawMessageDelivery="false", FilterPolicyScope="MessageBody")

    def test_paging(self):
        topic = self.topic()
        for i in range(101):
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn(f"q{i}"))
        first = sns.list_subscriptions_by_topic(TopicArn=topic)
        second = sns.list_subscriptions_by_topic(TopicArn=topic, NextToken=first["NextToken"])
        self.assertEqual((100, 1, False), (len(first["Subscriptions"]), len(second["Subscriptions"]), "NextToken" in second))

    def test_refused(self):
        topic = self.topic()
        subscribe = lambda protocol="sqs", endpoint=queue_arn("x"), **attributes: sns.subscribe(TopicArn=topic, Protocol=protocol, Endpoint=endpoint, Attributes=attributes)
        with self.parameter("Amazon SNS does not support this protocol string: test-protocol"):
            subscribe("test-protocol")
        for endpoint in "https://sqs.us-east-1.amazonaws.com/111111111111/x", "not-an-arn":
            with self.subTest(endpoint), self.parameter("SQS endpoint ARN"):
                subscribe("sqs", endpoint)
        with self.parameter("Attributes Reason: RawMessageDelivery: Invalid value [wrongvalue]. Must be true or false."):
            subscribe(RawMessageDelivery="wrongvalue")
        with self.parameter("Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics"):
            subscribe("sqs", self.attributes(self.queue(FifoQueue="true"))["QueueArn"])
        subscribe()  # that the queue is not there is found later

    def test_set(self):
        _, arn = self.subscribed(self.topic())
        put = lambda name, value: sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)
        with self.parameter("AttributeName"):
            put("FakeAttribute", "x")
        for value in "test-ValUe", "":
            with self.subTest(value), self.parameter(f"RawMessageDelivery: Invalid value [{value}]. Must be true or false."):
                put("RawMessageDelivery", value)
        with self.parameter("RedrivePolicy: deadLetterTargetArn is an invalid arn"):
            put("RedrivePolicy", '{"deadLetterTargetArn":"fake-arn"}')
        for name in "RedrivePolicy", "FilterPolicy":
            with self.subTest(name), self.wrong("InvalidParameter", f"^Invalid parameter: {name}: failed to parse JSON\\. "):
                put(name, "{invalidjson}")
        policy = {"deadLetterTargetArn": queue_arn("x")}
        put("RedrivePolicy", json.dumps(policy))
        self.assertEqual(policy, json.loads(self.of_subscription(arn)["RedrivePolicy"]))

    def test_unsubscribe_refused(self):
        for arn, message in (
            ("randomstring", "SubscriptionArn Reason: An ARN must have at least 6 elements, not 1"),
            ("arn:aws:sns:us-east-1:random", "SubscriptionArn Reason: An ARN must have at least 6 elements, not 5"),
            ("arn:aws:sns:us-east-1:111111111111:random", "SubscriptionId"),
        ):
            with self.subTest(arn), self.parameter(message):
                sns.unsubscribe(SubscriptionArn=arn)
        sns.unsubscribe(SubscriptionArn=f"{self.topic()}:10f57157-fc38-4da9-a113-4de7e12d05dd")

    def test_confirm_refused(self):
        topic = self.topic()
        with self.wrong("InvalidParameter", "Invalid token"):
            sns.confirm_subscription(TopicArn=topic, Token="randomtoken")
        token = "51b2ff3edb475b7d91550e0ab6edf0c1de2a34e6ebaf6c2262a001bcb7e051c43aa00022ceecce70bd2a67b2042da8d8eb47fef7a4e4e942d23e7fa56146b9ee35da040b4b8af564cc4184a7391c834cb75d75c22981f776ad1ce8805e9bab29da2329985337bb8095627907b46c8577c8440556b6f86582a954758026f41fc62041c4b3f67b0f5921232b5dae5aaca1"
        with self.parameter("Token"):
            sns.confirm_subscription(TopicArn=topic, Token=token)


class Messages(TopicCase):
    def test_envelope(self):
        topic = self.topic()
        url, subscription = self.subscribed(topic)
        sent = sns.publish(TopicArn=topic, Message="öä<&>\n", Subject="A subject", MessageAttributes={"a": {"DataType": "Number", "StringValue": "99.12"}, "b": {"DataType": "Binary", "BinaryValue": b"\x02\x03\x04"}})
        self.assertEqual({"MessageId", "ResponseMetadata"}, set(sent))
        got = self.one(url, AttributeNames=["All"], MessageAttributeNames=["All"])
        self.assertNotIn("MessageAttributes", got)
        self.assertNotEqual(sent["MessageId"], got["MessageId"])
        self.assertEqual({"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}, set(got["Attributes"]))
        body = json.loads(got["Body"])
        self.assertEqual(["Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL", "UnsubscribeURL", "MessageAttributes"], list(body))
        self.assertEqual(("Notification", sent["MessageId"], topic, "A subject", "öä<&>\n", "1"), tuple(body[k] for k in ("Type", "MessageId", "TopicArn", "Subject", "Message", "SignatureVersion")))
        self.assertRegex(body["Timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertRegex(body["SigningCertURL"], r"/SimpleNotificationService-[^/]+\.pem$")
        self.assertTrue(body["UnsubscribeURL"].endswith(f"/?Action=Unsubscribe&SubscriptionArn={subscription}"), body["UnsubscribeURL"])
        self.assertEqual({"a": {"Type": "Number", "Value": "99.12"}, "b": {"Type": "Binary", "Value": "AgME"}}, body["MessageAttributes"])
        self.delete(url, got)
        sns.publish(TargetArn=topic, Message="plain")
        body = json.loads(self.one(url)["Body"])
        self.assertEqual(["Type", "MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL", "UnsubscribeURL"], list(body))

    def test_raw(self):
        topic = self.topic()
        url, _ = self.subscribed(topic, RawMessageDelivery="true")
        sns.publish(TopicArn=topic, Message="Test msg", Subject="not to be seen", MessageAttributes={"attr1": {"DataType": "Number", "StringValue": "99.12"}})
        got = self.one(url, MessageAttributeNames=["All"])
        self.assertEqual(("Test msg", {"attr1": {"DataType": "Number", "StringValue": "99.12"}}, "d302007e9aa062660afc85fd0a482472"), (got["Body"], got["MessageAttributes"], got["MD5OfMessageAttributes"]))

    def test_group(self):
        """A standard topic hands on the group to a fair queue."""
        topic = self.topic()
        url, _ = self.subscribed(topic)
        sns.publish(TopicArn=topic, Message="a", MessageGroupId="my-group-id-1")
        self.assertEqual("my-group-id-1", self.one(url, AttributeNames=["All"])["Attributes"]["MessageGroupId"])

    def test_before_subscribing(self):
        topic = self.topic()
        sns.publish(TopicArn=topic, Message="before")
        url, _ = self.subscribed(topic)
        sns.publish(TopicArn=topic, Message="after")
        self.assertEqual("after", json.loads(self.one(url)["Body"])["Message"])
        self.assertEqual([], self.receive(url, WaitTimeSeconds=1))

    def test_structure(self):
        topic = self.topic()
        url, _ = self.subscribed(topic)
        publish = lambda message: sns.publish(TopicArn=topic, Message=message, MessageStructure="json")
        publish('{"default":"default field","sqs":"{\\"field\\": \\"value\\"}"}')
        got = self.one(url)
        self.assertEqual('{"field": "value"}', json.loads(got["Body"])["Message"])
        self.delete(url, got)
        publish('{"default":"default field"}')
        self.assertEqual("default field", json.loads(self.one(url)["Body"])["Message"])
        with self.parameter("Message Structure - No default entry in JSON message body"):
            publish('{"sqs":"x"}')
        with self.parameter("Message Structure - No default entry in JSON message body"):
            publish('{"default":{"object":"test"}}')
        with self.parameter("Message Structure - JSON message body failed to parse"):
            publish('{"default": "This is a default message"} }')
        publish('{"default":"a","default":"b"}')

    def test_refused(self):
        topic = self.topic()
        publish = lambda **a: sns.publish(**dict(dict(TopicArn=topic, Message="a"), **a))
        with self.parameter("Empty message"):
            publish(Message="")
        with self.parameter("Subject"):
            publish(Subject="")
        with self.parameter("Message too long"):
            publish(Message="a" * 262145)
        attribute = {"k": {"DataType": "String", "StringValue": "x"}}
        publish(Message="a" * (262144 - 8), MessageAttributes=attribute)
        with self.parameter("Message too long"):
            publish(Message="a" * (262144 - 7), MessageAttributes=attribute)
        with self.parameter("TargetArn Reason: No endpoint found for the target arn specified"):
            sns.publish(TargetArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:endpoint/APNS/abcdef/0f7d5971-aa8b-4bd5-b585-0826e9f93a66", Message="a")
        with self.parameter("MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that is not valid for this topic type"):
            publish(MessageDeduplicationId="x")

    def test_attributes_refused(self):
        topic = self.topic()
        text = lambda value, kind="String": {"DataType": kind, "StringValue": value}
        for attributes, message in (
            ({"attr1": text("")}, "The message attribute 'attr1' must contain non-empty message attribute value for message attribute type 'String'."),
            ({"attr1": {"DataType": "String"}}, "The message attribute 'attr1' must contain non-empty message attribute value for message attribute type 'String'."),
            ({"attr1": {"DataType": "Binary", "BinaryValue": b""}}, "The message attribute 'attr1' must contain non-empty message attribute value for message attribute type 'Binary'."),
            ({"attr1": {"DataType": "String", "BinaryValue": b"123"}}, "The message attribute 'attr1' with type 'String' must use field 'String'."),
            ({"attr1": {"DataType": "Number", "BinaryValue": b"123"}}, "The message attribute 'attr1' with type 'Number' must use field 'String'."),
            ({"attr1": text("123", "Binary")}, "The message attribute 'attr1' with type 'Binary' must use field 'Binary'."),
            ({"attr1": text("123", "InvalidType")}, "The message attribute 'attr1' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String."),
            ({"attr1": text("123", "String.")}, "The message attribute 'attr1' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String."),
            ({"attr1": text("123", "Stringprefixed")}, "The message attribute 'attr1' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String."),
            ({"a" * 257: text("x")}, "Length of message attribute name must be less than 256 bytes."),
            ({"^*?": text("x")}, "Invalid non-alphanumeric character '#x5E' was found in the message attribute name. Can only include alphanumeric characters, hyphens, underscores, or dots."),
            ({".attr": text("x")}, "Invalid message attribute name starting with character '.' was found."),
            ({"attr.": text("x")}, "Invalid message attribute name ending with character '.' was found."),
            ({"at..tr": text("x")}, "Message attribute name can not have successive '.' character."),
        ):
            for call in (
                lambda: sns.publish(TopicArn=topic, Message="a", MessageAttributes=attributes),
                lambda: sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": "a", "MessageAttributes": attributes}]),
            ):
                with self.subTest(str(attributes)[:50]), self.wrong("ParameterValueInvalid", message):
                    call()
        sns.publish(TopicArn=topic, Message="a", MessageAttributes={"attr1": text("x", "String.prefixed"), "attr2": text("y", "String.  prefixed.")})
        with self.wrong("ValidationError", "1 validation error detected: Value null at 'messageAttributes.attr1.member.dataType' failed to satisfy constraint: Member must not be null"):
            sns.publish(TopicArn=topic, Message="a", MessageAttributes={"attr1": {"StringValue": "x"}})

    def test_trace(self):
        topic = self.topic()
        url, _ = self.subscribed(topic)
        header = "Root=1-3152b799-8954dae64eda91bc9a23a7e8;Parent=7fa8c0f79203be72;Sampled=1"

        def add(request, **_):
            request.headers["X-Amzn-Trace-Id"] = header

        sns.meta.events.register("before-send.sns.Publish", add)
        try:
            sns.publish(TopicArn=topic, Message="a")
        finally:
            sns.meta.events.unregister("before-send.sns.Publish", add)
        self.assertEqual(header, self.one(url, AttributeNames=["AWSTraceHeader"])["Attributes"]["AWSTraceHeader"])


class Batches(TopicCase):
    def test_answer(self):
        topic = self.topic()
        url, _ = self.subscribed(topic, RawMessageDelivery="true")
        sent = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[
            {"Id": "1", "Message": "two", "Subject": "s", "MessageAttributes": {"attr1": {"DataType": "Number", "StringValue": "99.12"}, "attr2": {"DataType": "Number", "StringValue": "109.12"}}},
            {"Id": "2", "Message": "one", "MessageAttributes": {"attr1": {"DataType": "Number", "StringValue": "19.12"}}},
            {"Id": "3", "Message": "none"},
            {"Id": "4", "Message": '{"default":"x","sqs":"for queues"}', "MessageStructure": "json"},
            {"Id": "a" * 80, "Message": "long-id_"},
        ])
        self.assertEqual(([], ["1", "2", "3", "4", "a" * 80]), (sent["Failed"], [s["Id"] for s in sent["Successful"]]))
        self.assertEqual({"Id", "MessageId"}, {k for s in sent["Successful"] for k in s})
        self.assertEqual({"two": "9b720b3af309c1c4b0d395c53b08c502", "one": "1f07082409022a373fa2a2601f82b3cb", "none": None, "for queues": None, "long-id_": None},
                         {m["Body"]: m.get("MD5OfMessageAttributes") for m in self.drain(url, 5, MessageAttributeNames=["All"])})

    def test_refused(self):
        topic, fifo = self.topic(), self.topic(FifoTopic="true")
        batch = lambda *entries, to=topic: sns.publish_batch(TopicArn=to, PublishBatchRequestEntries=[dict({"Id": "1", "Message": "a"}, **e) for e in entries])
        for id, what in ("message.id", "contains an impermissible character"), ("msg@123#test", "contains an impermissible character"), ("a" * 81, "is too long"):
            with self.subTest(id[:9]), self.wrong("InvalidBatchEntryId", f"The Id of a batch entry in the batch request {what}: {id}"):
                batch({"Id": id})
        with self.wrong("TooManyEntriesInBatchRequest", "The batch request contains more entries than permissible."):
            batch(*({"Id": f"Id_{i}"} for i in range(11)), to=fifo)
        with self.wrong("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id."):
            batch({}, {}, to=fifo)
        with self.wrong("BatchRequestTooLong", "The length of all the messages put together is more than the limit."):
            batch({"Message": "a" * 262144}, {"Id": "2"})
        with self.parameter("The MessageGroupId parameter is required for FIFO topics"):
            batch({}, to=fifo)
        with self.parameter("The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"):
            batch({"MessageGroupId": "g"}, to=fifo)
        with self.parameter("Message Structure - No default entry in JSON message body"):
            batch({"Message": '{"sqs":"x"}', "MessageStructure": "json"}, to=topic)
        with self.no_topic():
            batch({}, to=topic + "x")


class Fifo(TopicCase):
    def test_to_a_fifo_queue(self):
        for content in "false", "true":
            with self.subTest(content):
                topic = self.topic(FifoTopic="true", ContentBasedDeduplication=content)
                url, _ = self.subscribed(topic, self.queue(FifoQueue="true"))
                arguments = dict(TopicArn=topic, Message="Test", MessageGroupId="message-group-id-1", **({} if content == "true" else {"MessageDeduplicationId": "message-deduplication-id-1"}))
                sent, again = sns.publish(**arguments), sns.publish(**arguments)
                self.assertRegex(sent["SequenceNumber"], r"^\d{20}$")
                self.assertEqual((sent["MessageId"], sent["SequenceNumber"]), (again["MessageId"], again["SequenceNumber"]))
                got = self.one(url, AttributeNames=["All"])
                system = got["Attributes"]
                self.assertEqual(("message-group-id-1", "532eaabd9574880dbf76b9b8cc00832c20a6ec113d682299550d7a6e0f345e25" if content == "true" else "message-deduplication-id-1"), (system["MessageGroupId"], system["MessageDeduplicationId"]))
                body = json.loads(got["Body"])
                self.assertEqual(["Type", "MessageId", "SequenceNumber", "TopicArn", "Message", "Timestamp", "UnsubscribeURL"], list(body))  # not signed
                self.assertEqual(sent["SequenceNumber"], body["SequenceNumber"])
                self.delete(url, got)
                self.assertEqual([], self.receive(url, WaitTimeSeconds=1))

    def test_to_a_standard_queue(self):
        topic = self.topic(FifoTopic="true")
        url, _ = self.subscribed(topic)
        sns.publish(TopicArn=topic, Message="Test", MessageGroupId="g", MessageDeduplicationId="d")
        got = self.one(url, AttributeNames=["All"])
        self.assertEqual({"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}, set(got["Attributes"]))
        self.assertIn("SequenceNumber", json.loads(got["Body"]))

    def test_batch_in_order(self):
        topic = self.topic(FifoTopic="true", ContentBasedDeduplication="true")
        url, _ = self.subscribed(topic, self.queue(FifoQueue="true", ContentBasedDeduplication="true"), RawMessageDelivery="true")
        entries = [{"Id": str(i), "Message": f"m{i}", "MessageGroupId": "g"} for i in range(10)]
        sent = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)["Successful"]
        numbers = [s["SequenceNumber"] for s in sent]
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertEqual(sent, sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)["Successful"])
        got = []
        while len(got) < 10:
            for m in self.receive(url, WaitTimeSeconds=20):
                got.append(m["Body"])
                self.delete(url, m)
        self.assertEqual([f"m{i}" for i in range(10)], got)

    def test_refused(self):
        topic = self.topic(FifoTopic="true")
        with self.parameter("The MessageGroupId parameter is required for FIFO topics"):
            sns.publish(TopicArn=topic, Message="a")
        with self.parameter("The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"):
            sns.publish(TopicArn=topic, Message="a", MessageGroupId="g")
        dead = self.attributes(self.queue())["QueueArn"]
        _, arn = self.subscribed(topic, self.queue(FifoQueue="true"))
        with self.parameter("RedrivePolicy: must use a FIFO queue as DLQ for a FIFO Subscription to a FIFO Topic."):
            sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RedrivePolicy", AttributeValue=json.dumps({"deadLetterTargetArn": dead}))
        _, arn = self.subscribed(topic)
        sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RedrivePolicy", AttributeValue=json.dumps({"deadLetterTargetArn": dead}))


class DeadLetters(TopicCase):
    def test_of_a_queue_that_is_gone(self):
        for raw in "true", "false":
            with self.subTest(raw):
                topic, dead, url = self.topic(), self.queue(), self.queue()
                self.subscribed(topic, dead)  # for the policy
                (subscription,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
                sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
                self.subscribed(topic, url, RawMessageDelivery=raw, RedrivePolicy={"deadLetterTargetArn": queue_arn(queue_name(dead))})
                sqs.delete_queue(QueueUrl=url)
                sns.publish(TopicArn=topic, Message="dead", MessageAttributes={"attr1": {"DataType": "Number", "StringValue": "111"}})
                got = self.one(dead, MessageAttributeNames=["All"], WaitTimeSeconds=20)
                if raw == "true":
                    self.assertEqual(("dead", {"attr1": {"DataType": "Number", "StringValue": "111"}}), (got["Body"], got["MessageAttributes"]))
                else:
                    body = json.loads(got["Body"])
                    self.assertEqual(("Notification", "dead", {"attr1": {"Type": "Number", "Value": "111"}}), (body["Type"], body["Message"], body["MessageAttributes"]))


def prefix(text):
    """A pattern of a message that goes on with where in the JSON something stands."""
    return "^" + re.escape(text)
