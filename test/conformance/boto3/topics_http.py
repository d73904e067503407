"""SNS: subscriptions of HTTP endpoints and of functions: confirmation, headers, signatures, events."""

import base64
import http.server
import json
import queue
import threading
import urllib.error
import urllib.request

from suite import eventually, function_arn, lam, log_events
from topics_recorded import TopicCase, sns

AGENT = "Amazon Simple Notification Service Agent"


class Endpoint:
    """Takes what SNS posts; answers with the statuses it is given, and with 200 then."""

    def __init__(self, *statuses):
        self.got, statuses = queue.Queue(), list(statuses)
        got = self.got

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.put((self.path, {k.lower(): v for k, v in self.headers.items()}, body.decode()))
                self.send_response(statuses.pop(0) if statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/sns-endpoint"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self):
        return self.got.get(timeout=30)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def visit(url):
    """What a person does who follows a link; the answer's XML."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as e:
        raise AssertionError(f"{url}: {e.read().decode()}") from e


class Http(TopicCase):
    def endpoint(self, *statuses):
        e = Endpoint(*statuses)
        self.addCleanup(e.close)
        return e

    def confirmed(self, topic, *statuses, **attributes):
        e = self.endpoint(200, *statuses)
        arn = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=e.url, Attributes=attributes, ReturnSubscriptionArn=True)["SubscriptionArn"]
        message = json.loads(e.next()[2])
        self.assertEqual(arn, sns.confirm_subscription(TopicArn=topic, Token=message["Token"])["SubscriptionArn"])
        return e, arn

    def headers(self, got, kind, topic, **more):
        wanted = {"user-agent": AGENT, "content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": kind, "x-amz-sns-topic-arn": topic, **{k.replace("_", "-"): v for k, v in more.items()}}
        self.assertEqual(wanted, {k: got.get(k) for k in wanted})

    def test_confirmation(self):
        topic, e = self.topic(), self.endpoint()
        self.assertEqual("pending confirmation", sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=e.url)["SubscriptionArn"])
        arn = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=e.url, ReturnSubscriptionArn=True)["SubscriptionArn"]
        attributes = self.of_subscription(arn)
        self.assertEqual(("true", "false", e.url, "http"), tuple(attributes[k] for k in ("PendingConfirmation", "ConfirmationWasAuthenticated", "Endpoint", "Protocol")))
        self.assertEqual(["PendingConfirmation"], [s["SubscriptionArn"] for s in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]])
        self.assertEqual(("0", "1"), tuple(self.of_topic(topic)[k] for k in ("SubscriptionsConfirmed", "SubscriptionsPending")))
        path, headers, body = e.next()
        message = json.loads(body)
        self.assertEqual("/sns-endpoint", path)
        self.headers(headers, "SubscriptionConfirmation", topic, x_amz_sns_message_id=message["MessageId"])
        self.assertEqual({"Type", "MessageId", "Token", "TopicArn", "Message", "SubscribeURL", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL"}, set(message))
        self.assertEqual(("SubscriptionConfirmation", topic, f"You have chosen to subscribe to the topic {topic}.\nTo confirm the subscription, visit the SubscribeURL included in this message."), (message["Type"], message["TopicArn"], message["Message"]))
        self.assertIn(f"/?Action=ConfirmSubscription&TopicArn={topic}&Token={message['Token']}", message["SubscribeURL"])
        sns.publish(TopicArn=topic, Message="nobody is told yet")
        answer = visit(message["SubscribeURL"])
        self.assertIn("<ConfirmSubscriptionResponse", answer)
        self.assertIn(f"<SubscriptionArn>{arn}</SubscriptionArn>", answer)
        attributes = self.of_subscription(arn)
        self.assertEqual(("false", "false"), (attributes["PendingConfirmation"], attributes["ConfirmationWasAuthenticated"]))
        self.assertEqual(("1", "0"), tuple(self.of_topic(topic)[k] for k in ("SubscriptionsConfirmed", "SubscriptionsPending")))
        sns.publish(TopicArn=topic, Message="test_external_http_endpoint")
        while True:
            _, headers, body = e.next()
            message = json.loads(body)
            if message["Type"] == "Notification":
                break
        self.headers(headers, "Notification", topic, x_amz_sns_message_id=message["MessageId"], x_amz_sns_subscription_arn=arn)
        self.assertEqual({"Type", "MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL", "UnsubscribeURL"}, set(message))
        self.assertEqual("test_external_http_endpoint", message["Message"])
        self.assertNotIn("x-amz-sns-rawdelivery", headers)
        self.assertIn("<UnsubscribeResponse", visit(message["UnsubscribeURL"]))
        while True:  # the second question whether it wants the subscription may still come
            _, headers, body = e.next()
            message = json.loads(body)
            if message["Type"] == "UnsubscribeConfirmation":
                break
        self.headers(headers, "UnsubscribeConfirmation", topic, x_amz_sns_message_id=message["MessageId"], x_amz_sns_subscription_arn=arn)
        self.assertEqual(f"You have chosen to deactivate subscription {arn}.\nTo cancel this operation and restore the subscription, visit the SubscribeURL included in this message.", message["Message"])

    def test_raw(self):
        topic = self.topic()
        e, arn = self.confirmed(topic, RawMessageDelivery="true")
        sns.publish(TopicArn=topic, Message="as it is", Subject="not seen")
        _, headers, body = e.next()
        self.assertEqual("as it is", body)
        self.headers(headers, "Notification", topic, x_amz_sns_subscription_arn=arn, x_amz_sns_rawdelivery="true")

    def test_content_type(self):
        topic = self.topic(DeliveryPolicy='{"http":{"defaultRequestPolicy":{"headerContentType":"application/json"}}}')
        e, _ = self.confirmed(topic)
        sns.publish(TopicArn=topic, Message="{}")
        self.assertEqual("application/json", e.next()[1]["content-type"])
        e, _ = self.confirmed(topic, RawMessageDelivery="true", DeliveryPolicy='{"requestPolicy":{"headerContentType":"text/csv"}}')
        sns.publish(TopicArn=topic, Message="a,b")
        self.assertEqual(("text/csv", "a,b"), (lambda got: (got[1]["content-type"], got[2]))(e.next()))

    def test_tried_again(self):
        topic = self.topic()
        e, _ = self.confirmed(topic, 500, DeliveryPolicy='{"healthyRetryPolicy":{"minDelayTarget":1,"maxDelayTarget":1,"numRetries":3}}')
        sns.publish(TopicArn=topic, Message="again")
        first, second = json.loads(e.next()[2]), json.loads(e.next()[2])
        self.assertEqual((first["MessageId"], "again"), (second["MessageId"], second["Message"]))

    def test_signatures(self):
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric import padding
        except ImportError:
            self.skipTest("the Python package cryptography is not installed")
        for version, algorithm in ("1", hashes.SHA1()), ("2", hashes.SHA256()):
            with self.subTest(version):
                topic = self.topic(SignatureVersion=version)
                url, _ = self.subscribed(topic)
                sns.publish(TopicArn=topic, Message="signed", Subject="s")
                message = json.loads(self.one(url)["Body"])
                self.assertEqual(version, message["SignatureVersion"])
                text = "".join(f"{k}\n{message[k]}\n" for k in ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"))
                certificate = x509.load_pem_x509_certificate(visit(message["SigningCertURL"]).encode())
                certificate.public_key().verify(base64.b64decode(message["Signature"]), text.encode(), padding.PKCS1v15(), algorithm)


class Functions(TopicCase):
    CODE = "import json\ndef handler(event, context):\n    print('GOT ' + json.dumps(event))\n"

    def test_event(self):
        topic, name = self.topic(), self.python(self.CODE)
        lam.add_permission(FunctionName=name, StatementId="sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com", SourceArn=topic)
        subscription = sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn(name), ReturnSubscriptionArn=True)["SubscriptionArn"]
        sent = sns.publish(TopicArn=topic, Message="Hello world.", Subject="[Subject] Test subject", MessageAttributes={"attr1": {"DataType": "Number", "StringValue": "1"}})
        line = next(m for m in log_events("/aws/lambda/" + name, "GOT ") if m.startswith("GOT "))
        (record,) = json.loads(line[4:])["Records"]
        self.assertEqual(["EventSource", "EventVersion", "EventSubscriptionArn", "Sns"], list(record))
        self.assertEqual(("aws:sns", "1.0", subscription), tuple(record[k] for k in ("EventSource", "EventVersion", "EventSubscriptionArn")))
        self.assertEqual({"Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertUrl", "UnsubscribeUrl", "MessageAttributes"}, set(record["Sns"]))
        self.assertEqual((sent["MessageId"], "Hello world.", "[Subject] Test subject", {"attr1": {"Type": "Number", "Value": "1"}}), tuple(record["Sns"][k] for k in ("MessageId", "Message", "Subject", "MessageAttributes")))

    def test_without_attributes(self):
        topic, name = self.topic(), self.python(self.CODE)
        lam.add_permission(FunctionName=name, StatementId="sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com")
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn(name))
        sns.publish(TopicArn=topic, Message="plain")
        line = next(m for m in log_events("/aws/lambda/" + name, "GOT ") if m.startswith("GOT "))
        got = json.loads(line[4:])["Records"][0]["Sns"]
        self.assertEqual(({}, None), (got["MessageAttributes"], got["Subject"]))

    def test_failed_events(self):
        """A topic as a function's dead-letter queue."""
        topic, name = self.topic(), self.python("def handler(event, context):\n    raise Exception('intentional')\n")
        url, _ = self.subscribed(topic)
        lam.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": topic})
        self.wait("function_updated_v2", name)
        lam.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        request = lam.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n":1}')["ResponseMetadata"]["RequestId"]
        body = json.loads(eventually(lambda: self.receive(url, 1, WaitTimeSeconds=5), 60)[0]["Body"])
        self.assertEqual({"n": 1}, json.loads(body["Message"]))
        self.assertEqual({"ErrorCode": {"Type": "Number", "Value": "200"}, "ErrorMessage": {"Type": "String", "Value": "intentional"}, "RequestID": {"Type": "String", "Value": request}}, body["MessageAttributes"])

