"""SNS: filter policies on attributes and on bodies, as SNS was recorded to take them."""

import json

from queueing import queue_arn
from topics_recorded import TopicCase, prefix, sns


class FilterCase(TopicCase):
    def passed(self, policy, messages, scope="MessageBody"):
        """Those of the messages that pass, which are bodies or attributes."""
        topic = self.topic()
        url, _ = self.subscribed(topic, RawMessageDelivery="true", FilterPolicyScope=scope, FilterPolicy=policy)
        control, _ = self.subscribed(topic, RawMessageDelivery="true")
        for i, m in enumerate(messages):
            if scope == "MessageBody":
                sns.publish(TopicArn=topic, Message=m if isinstance(m, str) else json.dumps(m))
            else:
                sns.publish(TopicArn=topic, Message=str(i), MessageAttributes=m)
        self.drain(control, len(messages))  # by now all have been looked at
        got, quiet = [], 0
        while quiet < 2:
            more = self.receive(url, WaitTimeSeconds=1)
            quiet = 0 if more else quiet + 1
            got += [m["Body"] for m in more]
        return got

    def chosen(self, policy, passing, failing, scope="MessageBody"):
        wanted = [json.dumps(m) for m in passing] if scope == "MessageBody" else [str(i) for i in range(len(passing))]
        self.assertEqual(sorted(wanted), sorted(self.passed(policy, passing + failing, scope)))


class Bodies(FilterCase):
    def test_nested(self):
        self.chosen(
            {"object": {"key": [{"prefix": "auto-"}, "hardcodedvalue"], "nested_key": [{"exists": False}]}, "test": [{"exists": False}]},
            [{"object": {"key": "auto-test"}}, {"object": {"key": "hardcodedvalue"}}],
            [{"object": {"key": "test-auto"}}, {"object": {"key": "auto-test"}, "test": "just-exists"}, {"object": {"key": "auto-test", "nested_key": "just-exists"}}, {"object": {"test": "auto-test"}}, {"test": "auto-test"}, "Regular string message", '"a string"', "[1]"],
        )

    def test_dots(self):
        self.chosen({"object.nested": ["string.value"]}, [{"object": {"nested": "string.value"}}, {"object.nested": "string.value"}], [{"object": {"nested": "test-auto"}}])
        self.chosen({"object.nested.test": ["string.value"]}, [
            {"object": {"nested": {"test": "string.value"}}}, {"object.nested.test": "string.value"}, {"object.nested": {"test": "string.value"}}, {"object": {"nested.test": "string.value"}},
        ], [{"object": {"nested": {"test": "string.notvalue"}}}])

    def test_arrays(self):
        self.chosen({"headers": {"route-to": ["queue1"]}}, [{"headers": {"route-to": ["queue1"]}}, {"headers": {"route-to": ["queue1", "queue2"]}}], [{"headers": {"route-to": ["queue3"]}}, {"headers": {"route-to": ["queue2"]}}, {"headers": {"route-to": []}}])
        record = lambda name, key: {"eventSource": "aws:s3", "eventName": name, "s3": {"object": key}}
        auto, home = {"key": "auto-insurance-2314.xml", "size": 17}, {"key": "home-insurance-2314.xml", "size": 17}
        self.chosen({"Records": {"s3": {"object": {"key": [{"prefix": "auto-"}]}}, "eventName": [{"prefix": "ObjectCreated:"}]}}, [
            {"Records": [record("ObjectCreated:Put", [[auto]]), record("ObjectRemoved:Delete", home)]}, {"Records": [record("ObjectCreated:Put", auto)]},
        ], [{"Records": [record("ObjectRemoved:Delete", auto)]}, {"Records": [record("ObjectCreated:Put", home)]}])
        self.chosen({"detail": {"eventVersion": [""]}}, [{"resources": [], "detail": {"eventVersion": "", "responseElements": None}}], [{"detail": {"eventVersion": "1"}}])

    def test_or(self):
        self.chosen({
            "$or": [{"metricName": ["CPUUtilization", "ReadLatency"]}, {"namespace": ["AWS/EC2", "AWS/ES"]}],
            "detail": {"scope": ["Service"], "$or": [{"source": ["aws.cloudwatch"]}, {"type": ["CloudWatch Alarm State Change"]}]},
        }, [
            {"metricName": "CPUUtilization", "detail": {"scope": "Service", "source": "aws.cloudwatch"}},
            {"metricName": "ReadLatency", "detail": {"scope": "Service", "source": "aws.cloudwatch"}},
            {"namespace": "AWS/EC2", "detail": {"scope": "Service", "source": "aws.cloudwatch"}},
            {"namespace": "AWS/ES", "detail": {"scope": "Service", "source": "aws.cloudwatch"}},
            {"metricName": "CPUUtilization", "detail": {"scope": "Service", "type": "CloudWatch Alarm State Change"}},
        ], [
            {"metricName": "CPUUtilization", "detail": {"scope": "aws.cloudwatch", "type": "CloudWatch Alarm State Change"}},
            {"metricName": "CPUUtilization", "detail": {"scope": "Service", "type": "CPUUtilization"}},
            {"metricName": "CPUUtilization", "detail": {"type": "CloudWatch Alarm State Change"}},
            {"metricName": "CPUUtilization", "detail": {"scope": "Service"}},
            {"metricName": "CPUUtilization", "scope": "Service"},
            {"metricName": "AWS/EC2", "detail": {"scope": "Service", "type": "CloudWatch Alarm State Change"}},
            {"namespace": "CPUUtilization", "detail": {"scope": "Service", "type": "CloudWatch Alarm State Change"}},
        ])

    def test_addresses(self):
        self.chosen({"detail": {"$or": [{"sourceIPAddress": [{"cidr": "10.0.0.0/24"}]}, {"sourceIPAddressV6": [{"cidr": "2001:db8:1234:1a00::/64"}]}]}}, [
            {"detail": {"sourceIPAddress": "10.0.0.255"}}, {"detail": {"sourceIPAddressV6": "2001:0db8:1234:1a00:0000:0000:0000:0000"}},
        ], [{"detail": {"sourceIPAddress": "10.0.0.256"}}, {"detail": {"sourceIPAddressV6": "2001:0db8:123f:1a01:0000:0000:0000:0000"}}])


class Attributes(FilterCase):
    def of(self, kind="Number", **values):
        return {k: {"DataType": kind, "StringValue": v} for k, v in values.items()}

    def test_numeric(self):
        self.chosen({"attr1": [{"numeric": [">", 0, "<=", 100]}]}, [self.of(attr1="99"), self.of(attr1="99.12"), self.of(attr1="100")], [self.of(attr1="111"), self.of(attr1="0"), self.of("String", attr1="99"), {}], "MessageAttributes")

    def test_exists(self):
        self.chosen({"store": [{"exists": True}]}, [self.of(store="99", **{"def": "99"})], [self.of(**{"def": "99"})], "MessageAttributes")
        self.chosen({"store": [{"exists": False}]}, [self.of(**{"def": "99"}), {}], [self.of(store="99")], "MessageAttributes")

    def test_arrays(self):
        array = lambda text: {"store": {"DataType": "String.Array", "StringValue": text}}
        self.chosen({"store": ["value1"]}, [array('["value1"]'), array('["value1","value2"]'), self.of("String", store="value1")], [array('["value2"]'), self.of("String", store="value2")], "MessageAttributes")

    def test_batches(self):
        topic = self.topic()
        filtered, _ = self.subscribed(topic, RawMessageDelivery="true", FilterPolicy={"attr1": [{"numeric": [">", 0, "<=", 100]}]})
        plain, _ = self.subscribed(topic, RawMessageDelivery="true")
        sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": n, "Message": n, "MessageAttributes": self.of(attr1=n)} for n in ("99", "111")])
        self.assertEqual({"99", "111"}, {m["Body"] for m in self.drain(plain, 2)})
        self.assertEqual(["99"], [m["Body"] for m in self.drain(filtered, 1)])
        self.assertEqual([], self.receive(filtered, WaitTimeSeconds=1))


class Settings(FilterCase):
    def put(self, arn, name, value):
        sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value if isinstance(value, str) else json.dumps(value))

    def test_scope(self):
        _, arn = self.subscribed(self.topic())
        self.put(arn, "FilterPolicyScope", "MessageBody")
        self.assertEqual(set(), {"FilterPolicyScope", "FilterPolicy"} & set(self.of_subscription(arn)))
        with self.parameter("FilterPolicyScope: Invalid value [RandomValue]. Please use either MessageBody or MessageAttributes"):
            self.put(arn, "FilterPolicyScope", "RandomValue")
        self.put(arn, "FilterPolicy", {"attr": ["match-this"]})
        got = self.of_subscription(arn)
        self.assertEqual(("MessageBody", {"attr": ["match-this"]}), (got["FilterPolicyScope"], json.loads(got["FilterPolicy"])))

    def test_default_scope(self):
        _, arn = self.subscribed(self.topic(), FilterPolicy={"attr1": [{"numeric": [">", 0, "<=", 100]}]})
        self.assertEqual("MessageAttributes", self.of_subscription(arn)["FilterPolicyScope"])
        self.put(arn, "FilterPolicy", "{}")
        self.assertNotIn("FilterPolicy", self.of_subscription(arn))

    def test_nested(self):
        _, arn = self.subscribed(self.topic())
        nested = {"object": {"key": [{"prefix": "auto-"}]}}
        with self.parameter("Filter policy scope MessageAttributes does not support nested filter policy"):
            self.put(arn, "FilterPolicy", nested)
        self.put(arn, "FilterPolicyScope", "MessageBody")
        self.put(arn, "FilterPolicy", nested)
        self.assertEqual(nested, json.loads(self.of_subscription(arn)["FilterPolicy"]))
        with self.parameter("FilterPolicy: Filter policy is too complex"):
            self.put(arn, "FilterPolicy", {"key_a": {"key_b": {"key_c": ["value_one", "value_two", "value_three", "value_four"]}}, "key_d": {"key_e": ["value_one", "value_two", "value_three"]}, "key_f": ["value_one", "value_two", "value_three"]})
        with self.parameter("FilterPolicy: Filter policy can not have more than 5 keys"):
            self.put(arn, "FilterPolicy", {f"key{i}": ["v"] for i in range(6)})
        with self.wrong("InvalidParameter", prefix('Invalid parameter: FilterPolicy: "key_a" must be an object or an array')):
            self.put(arn, "FilterPolicy", {"key_a": "value_one"})

    def subscribe(self, topic, policy, scope=None):
        attributes = {"FilterPolicy": policy if isinstance(policy, str) else json.dumps(policy)}
        if scope:
            attributes["FilterPolicyScope"] = scope
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn("filtered"), Attributes=attributes)

    def test_malformed(self):
        topic = self.topic()
        for condition, message in (
            ([["value"]], "Match value must be String, number, true, false, or null"),
            ([{"wrong-operator": True}], "Unrecognized match type wrong-operator"),
            ([{"suffix": "value", "prefix": "value2"}], "Only one key allowed in match expression"),
            ([], "Empty arrays are not allowed"),
            ([{"suffix": 100}], "suffix match pattern must be a string"),
            ([{"suffix": None}], "suffix match pattern must be a string"),
            ([{"suffix": []}], "suffix match pattern must be a string"),
            ([{"suffix": ["test", "test2"]}], "suffix match pattern must be a string"),
            ({"suffix": "value"}, '"suffix" must be an object or an array'),
            ({"suffix": "value", "prefix": "value"}, '"suffix" must be an object or an array'),
            ({"not-an-operator": "value"}, '"not-an-operator" must be an object or an array'),
            ([{"cidr": ["bad-filter"]}], "prefix match pattern must be a string"),
            ([{"cidr": "bad-filter"}], "Malformed CIDR, one '/' required"),
            ([{"cidr": "bad-filter/64"}], "Nonstandard IP address: bad-filter"),
            ([{"cidr": "bad-/64filter"}], "Malformed CIDR, mask bits must be an integer"),
            ([{"cidr": "xx.11.xx/8"}], "Nonstandard IP address: xx.11.xx"),
            ([{"cidr": "xxxx:db8:1234:1a00::/64"}], "Nonstandard IP address: xxxx:db8:1234:1a00::"),
            ([{"numeric": []}], "Invalid member in numeric match: ]"),
            ([{"numeric": ["operator"]}], "Unrecognized numeric range operator: operator"),
            ([{"numeric": [1, "<="]}], "Invalid member in numeric match: 1"),
            ([{"numeric": ["=", "000"]}], "Value of equals must be numeric"),
            ([{"numeric": [">="]}], "Value of >= must be numeric"),
            ([{"numeric": ["<", 100, ">", 10]}], "Too many elements in numeric expression"),
            ([{"numeric": [">=", 1, ">", 2]}], "Bad numeric range operator: >"),
            ([{"numeric": [">", 3, "<", 1]}], "Bottom must be less than top"),
            ([{"numeric": [">", 20, "<="]}], "Value of <= must be numeric"),
            ([{"numeric": [">", 20, 30]}], "Bad value in numeric range: 30"),
            ([{"numeric": [">", 20, "test"]}], "Bad numeric range operator: test"),
            ([{"numeric": [">", "20", "<", "30"]}], "Value of > must be numeric"),
            ([{"numeric": [">", 20, "<", "30"]}], "Value of < must be numeric"),
            ([{"numeric": [">", 20, "<", 30, "<", 50]}], "Too many terms in numeric range expression"),
            ([{"exists": None}], "exists match pattern must be either true or false."),
            ([{"exists": "no"}], "exists match pattern must be either true or false."),
            ([{"anything-but": {"wrong-operator": None}}], "Unsupported anything-but pattern: wrong-operator"),
            ([{"anything-but": {"exists": False}}], "Unsupported anything-but pattern: exists"),
            ([{"anything-but": {"prefix": False}}], "prefix match pattern must be a string"),
        ):
            with self.subTest(condition), self.wrong("InvalidParameter", prefix("Invalid parameter: Attributes Reason: FilterPolicy: " + message)):
                self.subscribe(topic, {"key": condition})
        with self.wrong("InvalidParameter", prefix("Invalid parameter: Attributes Reason: FilterPolicy: failed to parse JSON. ")):
            self.subscribe(topic, "invalid")
        self.assertEqual([], sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"])
        for condition in [{"anything-but": {"prefix": "test-"}}], [{"anything-but": {"suffix": "-test"}}], [{"anything-but": ["test", "test2"]}], [{"anything-but": "test"}], [None, {"anything-but": "whatever"}]:
            self.subscribe(self.topic(), {"key": condition})

    def test_complexity(self):
        topic = self.topic()
        values = lambda n: [f"value{i}" for i in range(n)]
        for policy in {"key": values(151)}, {"key1": values(100), "key2": values(51)}:
            with self.parameter("Attributes Reason: FilterPolicy: Filter policy is too complex"):
                self.subscribe(topic, policy)
        with self.parameter("Attributes Reason: FilterPolicy: Filter policy can not have more than 5 keys"):
            self.subscribe(topic, {f"key{i}": ["v"] for i in range(6)})
        either = lambda sources, ids: {"source": values(sources), "$or": [{"metricName": values(6)}, {"metricType": values(4), "$or": [{"metricId": [1, 2, 3, 4]}, {"spaceId": list(range(ids))}]}]}
        with self.parameter("Attributes Reason: FilterPolicy: Filter policy is too complex"):
            self.subscribe(topic, either(4, 4), "MessageAttributes")  # 4*6 + 4*4*4 + 4*4*4
        self.subscribe(topic, either(3, 7), "MessageAttributes")  # 3*6 + 3*4*4 + 3*4*7
        with self.parameter("Attributes Reason: FilterPolicy: Filter policy is too complex"):
            self.subscribe(self.topic(), {"$or": [{"metricName": values(3)}, {"namespace": values(2)}], "detail": {"scope": values(2), "$or": [{"source": values(1)}, {"type": values(3)}]}}, "MessageBody")
