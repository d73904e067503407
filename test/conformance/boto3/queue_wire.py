"""SQS on the wire: JSON 1.0 with the errors' old names in a header, and the Query protocol that came before it."""

import json
import urllib.parse
import xml.etree.ElementTree as ET

from queueing import ACCOUNT, UUID, QueueCase, queue_arn, queue_name, sqs
from suite import ENDPOINT, send, signed

NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def post(operation, arguments, path="/", **headers):
    """A request in JSON."""
    headers = dict({"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS." + operation, "x-amzn-query-mode": "true"}, **headers)
    return signed("POST", path, json.dumps(arguments).encode() if not isinstance(arguments, bytes) else arguments, "sqs", headers)


class Xml:
    """An answer of the Query protocol."""

    def __init__(self, answer):
        self.status, self.headers, self.body = answer.status, answer.headers, answer.body
        self.root = ET.fromstring(answer.body)

    def name(self):
        return self.root.tag.removeprefix("{" + NAMESPACE + "}")

    def all(self, path):
        return [e.text or "" for e in self.root.findall("/".join("{%s}%s" % (NAMESPACE, p) for p in path.split("/")))]

    def one(self, path):
        (text,) = self.all(path)
        return text

    def elements(self, path):
        """What the elements have in them, one level down."""
        return [{c.tag.removeprefix("{" + NAMESPACE + "}"): c.text or "" for c in e} for e in self.root.findall("/".join("{%s}%s" % (NAMESPACE, p) for p in path.split("/")))]


def query(action, path="/", method="POST", version="2012-11-05", **parameters):
    """A request of the Query protocol; __ in a name stands for a dot."""
    form = {"Action": action, "Version": version, **{k.replace("__", "."): str(v) for k, v in parameters.items()}}
    text = urllib.parse.urlencode({k: v for k, v in form.items() if v is not None}, quote_via=urllib.parse.quote)
    if method == "GET":
        return Xml(signed("GET", path + "?" + text, b"", "sqs"))
    return Xml(signed("POST", path, text.encode(), "sqs", FORM))


def path_of(url):
    return urllib.parse.urlsplit(url).path


class Json(QueueCase):
    def test_answer(self):
        url = self.queue()
        answer = post("SendMessage", {"QueueUrl": url, "MessageBody": "a"})
        self.assertEqual((200, "application/x-amz-json-1.0"), (answer.status, answer.headers["Content-Type"]))
        self.assertRegex(answer.headers["x-amzn-RequestId"], f"^{UUID}$")
        self.assertEqual({"MD5OfMessageBody", "MessageId"}, set(answer.json))
        answer = post("ReceiveMessage", {"QueueUrl": url, "AttributeNames": ["All"]})
        (message,) = answer.json["Messages"]
        self.assertEqual({"MessageId", "ReceiptHandle", "MD5OfBody", "Body", "Attributes"}, set(message))
        self.assertEqual({str}, {type(v) for v in message["Attributes"].values()})
        for operation, arguments in ("DeleteMessage", {"ReceiptHandle": message["ReceiptHandle"]}), ("TagQueue", {"Tags": {"a": "b"}}):
            answer = post(operation, dict(arguments, QueueUrl=url))
            self.assertEqual((200, {}), (answer.status, json.loads(answer.body or b"{}")))

    def test_errors_have_two_names(self):
        url = self.queue()
        for operation, arguments, kind, old, status in (
            ("GetQueueUrl", {"QueueName": "nobody"}, "com.amazonaws.sqs#QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue;Sender", 400),
            ("SendMessageBatch", {"QueueUrl": url, "Entries": []}, "com.amazonaws.sqs#EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest;Sender", 400),
            ("CreateQueue", {"QueueName": queue_name(url), "Attributes": {"DelaySeconds": "5"}}, "com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists;Sender", 400),
            ("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["x"]}, "com.amazonaws.sqs#InvalidAttributeName", "InvalidAttributeName;Sender", 400),
            ("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": "x"}, "com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid;Sender", 404),
            ("ReceiveMessage", {"QueueUrl": url, "MaxNumberOfMessages": 11}, "com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue;Sender", 400),
            ("SendMessage", {"QueueUrl": url}, "com.amazon.coral.service#MissingRequiredParameterException", "MissingParameter;Sender", 400),
        ):
            with self.subTest(operation):
                answer = post(operation, arguments)
                self.assertEqual((status, "application/x-amz-json-1.0", old), (answer.status, answer.headers["Content-Type"], answer.headers["x-amzn-query-error"]))
                self.assertEqual((kind, str), (answer.json["__type"], type(answer.json["message"])))

    def test_on_the_queues_own_path(self):
        """What SDKs do that take the queue's URL for the endpoint."""
        url = self.queue()
        self.assertEqual(200, post("SendMessage", {"QueueUrl": url, "MessageBody": "a"}, path_of(url)).status)
        answer = post("ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": 5}, path_of(url))
        self.assertEqual(("application/x-amz-json-1.0", "a"), (answer.headers["Content-Type"], answer.json["Messages"][0]["Body"]))

    def test_malformed(self):
        for body in b"{", b"nonsense", b"[]", b'"x"', b'{"QueueUrl":', b"\xff\xfe":
            answer = post("SendMessage", body)
            with self.subTest(body):
                self.assertEqual(400, answer.status, answer.body)
                self.assertTrue(answer.json["__type"].endswith("#SerializationException"), answer.body)

    def test_what_is_not_known_is_not_looked_at(self):
        url = self.queue()
        self.assertEqual(200, post("SendMessage", {"QueueUrl": url, "MessageBody": "a", "Future": {"x": [1]}, "DelaySeconds": None}).status)

    def test_unknown_operation(self):
        answer = post("Nonsense", {})
        self.assertIn(answer.status, (400, 404))
        self.assertIn("UnknownOperationException", answer.json["__type"])

    def test_unsigned(self):
        answer = send("POST", ENDPOINT + "/", b"{}", {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.ListQueues"})
        self.assertIn(answer.status, (400, 403), answer.body)


class Query(QueueCase):
    def error(self, answer, code, message, status=400):
        self.assertEqual(status, answer.status, answer.body)
        self.assertEqual("ErrorResponse", answer.name())
        self.assertEqual(("Sender", code, message), (answer.one("Error/Type"), answer.one("Error/Code"), answer.one("Error/Message")))
        self.assertRegex(answer.one("RequestId"), f"^{UUID}$")

    def good(self, answer, name):
        self.assertEqual((200, name + "Response"), (answer.status, answer.name()), answer.body)
        self.assertRegex(answer.one("ResponseMetadata/RequestId"), f"^{UUID}$")
        self.assertTrue(answer.headers["Content-Type"].startswith("text/xml"), answer.headers["Content-Type"])
        return answer

    def test_life(self):
        name = self.name("q")
        made = self.good(query("CreateQueue", QueueName=name, Attribute__1__Name="VisibilityTimeout", Attribute__1__Value=40, Tag__1__Key="a", Tag__1__Value="b"), "CreateQueue")
        url = made.one("CreateQueueResult/QueueUrl")
        self.assertEqual(url, self.good(query("GetQueueUrl", QueueName=name), "GetQueueUrl").one("GetQueueUrlResult/QueueUrl"))
        self.assertEqual([url], self.good(query("ListQueues", QueueNamePrefix=name), "ListQueues").all("ListQueuesResult/QueueUrl"))
        self.assertEqual([{"Key": "a", "Value": "b"}], self.good(query("ListQueueTags", QueueUrl=url), "ListQueueTags").elements("ListQueueTagsResult/Tag"))
        self.good(query("TagQueue", QueueUrl=url, Tag__1__Key="c", Tag__1__Value="d", Tag__2__Key="e", Tag__2__Value="f"), "TagQueue")
        self.good(query("UntagQueue", QueueUrl=url, TagKey__1="a", TagKey__2="c"), "UntagQueue")
        self.assertEqual({"e": "f"}, sqs.list_queue_tags(QueueUrl=url)["Tags"])
        self.good(query("SetQueueAttributes", QueueUrl=url, Attribute__1__Name="DelaySeconds", Attribute__1__Value=1, Attribute__2__Name="MaximumMessageSize", Attribute__2__Value=2048), "SetQueueAttributes")
        self.good(query("SetQueueAttributes", QueueUrl=url, Attribute__Name="DelaySeconds", Attribute__Value=0), "SetQueueAttributes")
        got = self.good(query("GetQueueAttributes", QueueUrl=url, AttributeName__1="DelaySeconds", AttributeName__2="MaximumMessageSize", AttributeName__3="QueueArn"), "GetQueueAttributes")
        self.assertEqual({"DelaySeconds": "0", "MaximumMessageSize": "2048", "QueueArn": queue_arn(name)}, {a["Name"]: a["Value"] for a in got.elements("GetQueueAttributesResult/Attribute")})
        self.good(query("AddPermission", QueueUrl=url, Label="l", AWSAccountId__1=ACCOUNT, ActionName__1="SendMessage", ActionName__2="ReceiveMessage"), "AddPermission")
        (statement,) = json.loads(self.attributes(url, "Policy")["Policy"])["Statement"]
        self.assertEqual(["SQS:SendMessage", "SQS:ReceiveMessage"], statement["Action"])
        self.good(query("RemovePermission", QueueUrl=url, Label="l"), "RemovePermission")
        self.good(query("PurgeQueue", QueueUrl=url), "PurgeQueue")
        self.assertEqual([], self.good(query("ListDeadLetterSourceQueues", QueueUrl=url), "ListDeadLetterSourceQueues").all("ListDeadLetterSourceQueuesResult/QueueUrl"))
        self.good(query("DeleteQueue", QueueUrl=url), "DeleteQueue")
        self.error(query("GetQueueUrl", QueueName=name), "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist for this wsdl version.")

    def test_messages(self):
        url = self.queue()
        sent = self.good(query(
            "SendMessage", QueueUrl=url, MessageBody="<a> & \"b\"\r\n\u00e9", MessageAttribute__1__Name="Foo", MessageAttribute__1__Value__DataType="String", MessageAttribute__1__Value__StringValue="Bar",
            MessageAttribute__2__Name="bin", MessageAttribute__2__Value__DataType="Binary", MessageAttribute__2__Value__BinaryValue="AAEC",
            MessageSystemAttribute__1__Name="AWSTraceHeader", MessageSystemAttribute__1__Value__DataType="String", MessageSystemAttribute__1__Value__StringValue="Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
        ), "SendMessage")
        self.assertEqual("5ae4d5d7636402d80f4eb6d213245a88", sent.one("SendMessageResult/MD5OfMessageSystemAttributes"))
        plain = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], VisibilityTimeout=0)["Messages"][0]
        self.assertEqual(({"Foo": {"DataType": "String", "StringValue": "Bar"}, "bin": {"DataType": "Binary", "BinaryValue": b"\x00\x01\x02"}}, "<a> & \"b\"\r\n\u00e9"), (plain["MessageAttributes"], plain["Body"]))
        got = self.good(query("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=5, AttributeName__1="All", MessageAttributeName__1="All", WaitTimeSeconds=5), "ReceiveMessage")
        (message,) = got.elements("ReceiveMessageResult/Message")
        self.assertEqual((sent.one("SendMessageResult/MessageId"), sent.one("SendMessageResult/MD5OfMessageBody"), sent.one("SendMessageResult/MD5OfMessageAttributes"), plain["Body"].replace("\r\n", "\n")),
                         (message["MessageId"], message["MD5OfBody"], message["MD5OfMessageAttributes"], message["Body"].replace("\r\n", "\n")))
        names = [a["Name"] for a in got.elements("ReceiveMessageResult/Message/Attribute")]
        self.assertEqual({"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "AWSTraceHeader"}, set(names))
        values = dict(zip([a["Name"] for a in got.elements("ReceiveMessageResult/Message/MessageAttribute")], got.elements("ReceiveMessageResult/Message/MessageAttribute/Value")))
        self.assertEqual({"Foo": {"DataType": "String", "StringValue": "Bar"}, "bin": {"DataType": "Binary", "BinaryValue": "AAEC"}}, values)
        self.good(query("ChangeMessageVisibility", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60), "ChangeMessageVisibility")
        self.good(query("DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"]), "DeleteMessage")
        empty = self.good(query("ReceiveMessage", QueueUrl=url), "ReceiveMessage")
        self.assertEqual(([], [""]), (empty.elements("ReceiveMessageResult/Message"), empty.all("ReceiveMessageResult")))

    def test_batches(self):
        url = self.queue()
        e = "SendMessageBatchRequestEntry__"
        sent = self.good(query("SendMessageBatch", QueueUrl=url, **{
            e + "1__Id": "a", e + "1__MessageBody": "one", e + "2__Id": "b", e + "2__MessageBody": "two", e + "2__DelaySeconds": 5000,
            e + "3__Id": "c", e + "3__MessageBody": "three", e + "3__MessageAttribute__1__Name": "Foo", e + "3__MessageAttribute__1__Value__DataType": "String", e + "3__MessageAttribute__1__Value__StringValue": "Bar",
        }), "SendMessageBatch")
        good = sent.elements("SendMessageBatchResult/SendMessageBatchResultEntry")
        self.assertEqual([("a", None), ("c", "ae7155c6026991b6d54b11589678bf9c")], [(g["Id"], g.get("MD5OfMessageAttributes")) for g in good])
        (bad,) = sent.elements("SendMessageBatchResult/BatchResultErrorEntry")
        self.assertEqual({"Id": "b", "Code": "InvalidParameterValue", "SenderFault": "true", "Message": "Value 5000 for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."}, bad)
        got = self.drain(url, 2)
        e = "ChangeMessageVisibilityBatchRequestEntry__"
        changed = self.good(query("ChangeMessageVisibilityBatch", QueueUrl=url, **{e + "1__Id": "x", e + "1__ReceiptHandle": got[0]["ReceiptHandle"], e + "1__VisibilityTimeout": 60}), "ChangeMessageVisibilityBatch")
        self.assertEqual([{"Id": "x"}], changed.elements("ChangeMessageVisibilityBatchResult/ChangeMessageVisibilityBatchResultEntry"))
        e = "DeleteMessageBatchRequestEntry__"
        deleted = self.good(query("DeleteMessageBatch", QueueUrl=url, **{e + "1__Id": "x", e + "1__ReceiptHandle": got[0]["ReceiptHandle"], e + "2__Id": "y", e + "2__ReceiptHandle": "garbage"}), "DeleteMessageBatch")
        self.assertEqual([{"Id": "x"}], deleted.elements("DeleteMessageBatchResult/DeleteMessageBatchResultEntry"))
        self.assertEqual(["ReceiptHandleIsInvalid"], deleted.all("DeleteMessageBatchResult/BatchResultErrorEntry/Code"))

    def test_fifo(self):
        url = self.queue(FifoQueue="true")
        sent = self.good(query("SendMessage", QueueUrl=url, MessageBody="a", MessageGroupId="g", MessageDeduplicationId="d"), "SendMessage")
        self.assertRegex(sent.one("SendMessageResult/SequenceNumber"), r"^\d{20}$")
        got = self.good(query("ReceiveMessage", QueueUrl=url, MessageSystemAttributeName__1="MessageGroupId", MessageSystemAttributeName__2="SequenceNumber", ReceiveRequestAttemptId="x"), "ReceiveMessage")
        self.assertEqual({"MessageGroupId": "g", "SequenceNumber": sent.one("SendMessageResult/SequenceNumber")}, {a["Name"]: a["Value"] for a in got.elements("ReceiveMessageResult/Message/Attribute")})

    def test_move_tasks(self):
        url, dead = self.piped(1)
        arn = queue_arn(queue_name(dead))
        handle = self.good(query("StartMessageMoveTask", SourceArn=arn), "StartMessageMoveTask").one("StartMessageMoveTaskResult/TaskHandle")
        self.assertTrue(handle)
        listed = self.good(query("ListMessageMoveTasks", SourceArn=arn, MaxResults=5), "ListMessageMoveTasks").elements("ListMessageMoveTasksResult/ListMessageMoveTasksResultEntry")
        self.assertEqual([arn], [t["SourceArn"] for t in listed])
        self.error(query("CancelMessageMoveTask", TaskHandle="foobared"), "InvalidParameterValue", "Value for parameter TaskHandle is invalid.")

    def test_on_the_queues_own_path(self):
        url = self.queue()
        path = path_of(url)
        for method in "GET", "POST":
            self.good(query("SendMessage", path, method, MessageBody="foobar " + method), "SendMessage")
            got = self.good(query("ReceiveMessage", path, method), "ReceiveMessage")
            self.assertEqual(["foobar " + method], got.all("ReceiveMessageResult/Message/Body"))
        self.good(query("GetQueueAttributes", path, "GET", None, AttributeName__1="All"), "GetQueueAttributes")  # without a version
        got = self.good(query("GetQueueAttributes", path, "GET", AttributeName__1="All"), "GetQueueAttributes")
        self.assertIn({"Name": "QueueArn", "Value": queue_arn(queue_name(url))}, got.elements("GetQueueAttributesResult/Attribute"))
        other = self.queue()
        got = self.good(query("GetQueueAttributes", path, "GET", AttributeName__1="QueueArn", QueueUrl=other), "GetQueueAttributes")  # the parameter goes before the path
        self.assertEqual([queue_arn(queue_name(other))], got.all("GetQueueAttributesResult/Attribute/Value"))
        got = self.good(query("GetQueueUrl", path, "GET", QueueName=queue_name(other)), "GetQueueUrl")
        self.assertEqual(other, got.one("GetQueueUrlResult/QueueUrl"))
        for action in "FooBar", "CreateQueue", "ListQueues":
            with self.subTest(action):
                self.error(query(action, path, "GET", QueueName="x"), "InvalidAction", f"The action {action} is not valid for this endpoint.")
        self.good(query("DeleteQueue", path, "GET"), "DeleteQueue")
        self.error(query("GetQueueAttributes", path, "GET", AttributeName__1="QueueArn"), "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist for this wsdl version.")

    def test_a_path_without_an_action(self):
        url = self.queue()
        for headers in {}, {"Accept": "application/json"}:
            answer = signed("GET", path_of(url), b"", "sqs", headers)
            self.assertEqual(404, answer.status)
            self.assertIn(b"<UnknownOperationException", answer.body)

    def test_errors(self):
        url = self.queue()
        wsdl = "The specified queue does not exist for this wsdl version."
        self.error(query("SendMessage", QueueUrl=url), "MissingParameter", "The request must contain the parameter MessageBody.")
        self.error(query("SendMessage", QueueUrl=url + "x", MessageBody="a"), "AWS.SimpleQueueService.NonExistentQueue", wsdl)
        self.error(query("ReceiveMessage", MaxNumberOfMessages=1), "MissingParameter", "The request must contain the parameter QueueUrl.")
        self.error(query("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=11), "InvalidParameterValue", "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.")
        self.error(query("GetQueueAttributes", QueueUrl=url, AttributeName__1="Foobar"), "InvalidAttributeName", "Unknown Attribute Foobar.")
        self.error(query("DeleteMessage", QueueUrl=url, ReceiptHandle="garbage"), "ReceiptHandleIsInvalid", 'The input receipt handle "garbage" is not a valid receipt handle.', 404)
        self.error(query("SendMessageBatch", QueueUrl=url), "AWS.SimpleQueueService.EmptyBatchRequest", "There should be at least one SendMessageBatchRequestEntry in the request.")
        self.error(query("CreateQueue", QueueName=queue_name(url), Attribute__1__Name="DelaySeconds", Attribute__1__Value=7), "QueueAlreadyExists", "A queue already exists with the same name and a different value for attribute DelaySeconds")
        query("PurgeQueue", QueueUrl=url)
        self.error(query("PurgeQueue", QueueUrl=url), "AWS.SimpleQueueService.PurgeQueueInProgress", f"Only one PurgeQueue operation on {queue_name(url)} is allowed every 60 seconds.", 403)

    def test_json_of_a_query(self):
        """GET with Accept: application/json answers in JSON of its own kind."""
        url = self.queue()
        answer = signed("GET", "/?" + urllib.parse.urlencode({"Action": "ListQueues", "Version": "2012-11-05", "QueueNamePrefix": queue_name(url)}), b"", "sqs", {"Accept": "application/json"})
        self.assertEqual(200, answer.status)
        self.assertIn("ListQueuesResponse", answer.json)
