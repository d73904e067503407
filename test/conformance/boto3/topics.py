"""SNS: who may use topics and whom topics may reach; what is refused by name; answers by hand."""

import json

from permissions import LimitedRole, allow, document
from queueing import queue_arn, queue_name, sqs
from suite import ACCOUNT, ENDPOINT, REGION, function_arn, lam, log_events, send, signed
from topics_http import Endpoint
from topics_recorded import TopicCase, sns


class Policies(TopicCase, LimitedRole):
    """A role's session calls, with what its own policies and the topic's allow."""

    def refused_to_role(self, action, resource, why=None):
        why = why or f"because no identity-based policy allows the SNS:{action} action"
        return self.refused("AuthorizationError", 403, f"User: {self.me} is not authorized to perform: SNS:{action} on resource: {resource} {why}")

    def test_of_the_role(self):
        mine, topic = self.client("sns"), self.topic()
        with self.refused_to_role("Publish", topic):
            mine.publish(TopicArn=topic, Message="m")
        with self.refused_to_role("Publish", topic):
            mine.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": "m"}])
        with self.refused_to_role("ListTopics", "*"):
            mine.list_topics()
        name = self.name("made")
        arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}"
        with self.refused_to_role("CreateTopic", arn):
            mine.create_topic(Name=name)
        self.grant(allow("sns:Publish", topic), allow("sns:CreateTopic", f"arn:aws:sns:{REGION}:{ACCOUNT}:made-*", Condition={"StringEquals": {"aws:RequestTag/k": "v"}}))
        mine.publish(TopicArn=topic, Message="m")
        with self.refused_to_role("CreateTopic", arn):
            mine.create_topic(Name=name)
        with self.refused_to_role("TagResource", arn):
            mine.create_topic(Name=name, Tags=[{"Key": "k", "Value": "v"}])
        self.grant(allow(["sns:CreateTopic", "sns:TagResource"], f"arn:aws:sns:{REGION}:{ACCOUNT}:made-*"))
        self.assertEqual(arn, mine.create_topic(Name=name, Tags=[{"Key": "k", "Value": "v"}])["TopicArn"])
        self.addCleanup(sns.delete_topic, TopicArn=arn)

    def test_of_the_topic(self):
        mine, topic = self.client("sns"), self.topic()
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=document(
            {"Effect": "Allow", "Principal": {"AWS": self.role_arn}, "Action": "SNS:Publish", "Resource": topic},
            {"Effect": "Allow", "Principal": {"AWS": self.role_arn}, "Action": "SNS:Subscribe", "Resource": topic, "Condition": {"StringEquals": {"sns:Protocol": "sqs"}, "StringLike": {"sns:Endpoint": "*:mine-*"}}},
            {"Effect": "Deny", "Principal": "*", "Action": "SNS:GetTopicAttributes", "Resource": topic, "Condition": {"ArnEquals": {"aws:PrincipalArn": self.role_arn}}}))
        mine.publish(TopicArn=topic, Message="m")
        mine.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn("mine-1"))
        with self.refused_to_role("Subscribe", topic):
            mine.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn("yours"))
        with self.refused_to_role("Subscribe", topic):
            mine.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn("mine-1"))
        with self.refused_to_role("GetTopicAttributes", topic, "with an explicit deny in a resource-based policy"):
            mine.get_topic_attributes(TopicArn=topic)
        sns.get_topic_attributes(TopicArn=topic)

    def test_of_subscriptions(self):
        mine, topic = self.client("sns"), self.topic()
        url, arn = self.subscribed(topic)
        for action, call in (
            ("GetSubscriptionAttributes", lambda: mine.get_subscription_attributes(SubscriptionArn=arn)),
            ("SetSubscriptionAttributes", lambda: mine.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RawMessageDelivery", AttributeValue="true")),
            ("Unsubscribe", lambda: mine.unsubscribe(SubscriptionArn=arn)),
        ):
            with self.refused_to_role(action, arn):
                call()
            self.grant(allow("sns:" + action, topic + ":*"))
            call()
        self.assertEqual([], sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"])

    def test_documents(self):
        topic = self.topic()
        put = lambda *statements: sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=document(*statements))
        with self.parameter("Policy statement action out of service scope!"):
            put({"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": topic})
        with self.wrong("InvalidParameter", "^Invalid parameter: Policy Error: "):
            put({"Effect": "Allow", "Action": "SNS:Publish", "Resource": topic})
        with self.wrong("InvalidParameter", "^Invalid parameter: Policy Error: "):
            sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue="no JSON")


class Reach(TopicCase):
    """Deliveries need the permission of whom they reach, for this topic."""

    def dead(self, topic):
        """A dead-letter queue that takes from SNS."""
        url = self.queue()
        arn = queue_arn(queue_name(url))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document({"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": topic}}})})
        return url, {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn})}

    def test_queue(self):
        topic, other, url = self.topic(), self.topic(), self.queue()
        arn = queue_arn(queue_name(url))
        dead, redrive = self.dead(topic)
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=redrive)

        def policy(source):
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document({"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": source}, "StringEquals": {"aws:SourceAccount": ACCOUNT}}})})

        for n, source in enumerate((None, other)):
            if source:
                policy(source)
            sns.publish(TopicArn=topic, Message=f"refused {n}")
            self.assertEqual(f"refused {n}", json.loads(self.pop(dead))["Message"])
        policy(topic)
        sns.publish(TopicArn=topic, Message="taken")
        self.assertEqual("taken", json.loads(self.pop(url))["Message"])
        self.assertEqual([], self.receive(dead))

    def pop(self, url):
        got = self.one(url, WaitTimeSeconds=20)
        self.delete(url, got)
        return got["Body"]

    def test_function(self):
        topic, name = self.topic(), self.python("def handler(event, context):\n    print('GOT ' + event['Records'][0]['Sns']['Message'])\n")
        dead, redrive = self.dead(topic)
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn(name), Attributes=redrive)
        sns.publish(TopicArn=topic, Message="refused", MessageAttributes={"a": {"DataType": "String", "StringValue": "b"}})
        message = json.loads(self.pop(dead))
        self.assertEqual(("Notification", "refused", {"a": {"Type": "String", "Value": "b"}}), (message["Type"], message["Message"], message["MessageAttributes"]))
        lam.add_permission(FunctionName=name, StatementId="sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com", SourceArn=topic, SourceAccount=ACCOUNT)
        sns.publish(TopicArn=topic, Message="taken")
        self.assertIn("GOT taken", [m.strip() for m in log_events("/aws/lambda/" + name, "GOT taken")])

    def test_function_that_is_gone(self):
        topic = self.topic()
        dead, redrive = self.dead(topic)
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn("there-is-none"), Attributes=redrive)
        sns.publish(TopicArn=topic, Message="lost")
        self.assertEqual("lost", json.loads(self.pop(dead))["Message"])

    def test_endpoint_that_refuses(self):
        topic = self.topic()
        dead, redrive = self.dead(topic)
        e = Endpoint(200, 404)
        self.addCleanup(e.close)
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=e.url, Attributes=redrive)
        sns.confirm_subscription(TopicArn=topic, Token=json.loads(e.next()[2])["Token"])
        sns.publish(TopicArn=topic, Message="unwanted")
        posted = json.loads(e.next()[2])
        self.assertEqual(posted, json.loads(self.pop(dead)))

    def test_functions_publish(self):
        """A destination: the function's role must be allowed to publish."""
        topic = self.topic()
        url, _ = self.subscribed(topic, RawMessageDelivery="true")
        name = self.python("def handler(event, context):\n    return 'done'\n")
        lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnSuccess": {"Destination": topic}})
        lam.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n":1}')
        record = json.loads(self.pop(url))
        self.assertEqual(({"n": 1}, "done", "Success"), (record["requestPayload"], record["responsePayload"], record["requestContext"]["condition"]))


class Refused(TopicCase):
    def test_protocols(self):
        topic, fifo = self.topic(), self.topic(FifoTopic="true")
        subscribe = lambda protocol, endpoint, to=topic, **attributes: sns.subscribe(TopicArn=to, Protocol=protocol, Endpoint=endpoint, Attributes=attributes)
        for protocol, endpoint in ("sms", "+15551234567"), ("application", f"arn:aws:sns:{REGION}:{ACCOUNT}:endpoint/APNS/a/b"), ("firehose", f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/d"):
            with self.subTest(protocol), self.parameter(f"Protocol Reason: Mayfly does not serve the protocol {protocol}"):
                subscribe(protocol, endpoint)
        with self.parameter("Protocol Reason: Mayfly sends no mail to email subscriptions unless it is started with a mail relay (--smtp)"):
            subscribe("email", "a@example.com")
        with self.parameter("Endpoint must match the specified protocol"):
            subscribe("https", "http://127.0.0.1/")
        with self.wrong("InvalidParameter", "^Invalid parameter: Invalid parameter: Endpoint Reason: "):
            subscribe("lambda", function_arn("f"), fifo)
        with self.parameter("Attributes Reason: Delivery protocol [lambda] does not support raw message delivery."):
            subscribe("lambda", function_arn("f"), RawMessageDelivery="true")
        for policy in "{", '{"healthyRetryPolicy":{"numRetries":-1}}', '{"healthyRetryPolicy":{"minDelayTarget":5,"maxDelayTarget":1}}', '{"what":1}':
            with self.subTest(policy), self.wrong("InvalidParameter", "^Invalid parameter: Attributes Reason: DeliveryPolicy: "):
                subscribe("http", "http://127.0.0.1/", DeliveryPolicy=policy)

    def test_operations(self):
        for call, action in (
            (lambda: sns.check_if_phone_number_is_opted_out(phoneNumber="+15551234567"), "CheckIfPhoneNumberIsOptedOut"),
            (lambda: sns.list_platform_applications(), "ListPlatformApplications"),
            (lambda: sns.get_sms_attributes(), "GetSMSAttributes"),
            (lambda: sns.create_platform_application(Name="n", Platform="GCM", Attributes={}), "CreatePlatformApplication"),
        ):
            with self.subTest(action), self.refused("NotImplemented", 501, f"Mayfly does not serve sns:{action} yet."):
                call()
        with self.parameter("PhoneNumber Reason: Mayfly sends no text messages"):
            sns.publish(PhoneNumber="+15551234567", Message="m")

    def test_strangers(self):
        """Only the links in messages work without a signature."""
        topic = self.topic()
        for query in f"Action=GetTopicAttributes&TopicArn={topic}", f"Action=Publish&TopicArn={topic}&Message=m", "Action=ListTopics":
            answer = send("GET", ENDPOINT + "/?Version=2010-03-31&" + query)
            self.assertEqual(403, answer.status, answer.body)
        answer = send("GET", ENDPOINT + f"/?Action=ConfirmSubscription&TopicArn={topic}&Token=ab")
        self.assertEqual(400, answer.status)
        self.assertIn(b"<Code>InvalidParameter</Code>", answer.body)
        answer = send("GET", ENDPOINT + f"/?Action=Unsubscribe&SubscriptionArn={topic}:10f57157-fc38-4da9-a113-4de7e12d05dd")
        self.assertEqual(200, answer.status, answer.body)

    def test_pages(self):
        with self.parameter("NextToken"):
            sns.list_topics(NextToken="no token")
        answer = signed("POST", "/", b"Action=ListTopics&Version=2010-03-31", "sns", {"Content-Type": "application/x-www-form-urlencoded"})
        self.assertIn(b"<ListTopicsResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">", answer.body)
