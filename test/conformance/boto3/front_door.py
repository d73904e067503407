"""Signatures, credentials, presigned URLs, and requests that are no calls."""

import datetime
import urllib.error
import urllib.request
from unittest import mock

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from suite import CREDENTIALS, ENDPOINT, REGION, UUID, Case, client, iam, lam, logs, send, signed, sts

LIST = "/2015-03-31/functions"
IDENTITY = b"Action=GetCallerIdentity&Version=2011-06-15"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def header(name, value):
    """Changes a header after it was signed."""

    def change(request):
        if name in request.headers:
            del request.headers[name]
        if value is not None:
            request.headers[name] = value

    return change


class Signatures(Case):
    def answer(self, got, status, code, message=None):
        self.assertEqual((status, code), (got.status, got.code), got.body)
        if message:
            self.assertRegex(got.json.get("message") or got.json.get("Message"), message)
        self.assertRegex(got.headers["x-amzn-RequestId"], UUID)

    def test_right(self):
        self.assertEqual(200, signed("GET", LIST).status)
        self.assertEqual(200, signed("GET", LIST + "?MaxItems=1&Marker=").status)

    def test_none(self):
        self.answer(send("GET", ENDPOINT + LIST), 403, "MissingAuthenticationTokenException", "Missing Authentication Token")

    def test_wrong(self):
        wrong = Credentials(CREDENTIALS.access_key, "x" * 40)
        text = "^The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
        self.answer(signed("GET", LIST, credentials=wrong), 403, "InvalidSignatureException", text)
        self.answer(signed("GET", LIST, prepare=header("X-Amz-Date", "20200101T000000Z")), 403, "InvalidSignatureException")
        self.answer(signed("POST", LIST, b"{}", prepare=lambda r: setattr(r, "data", b'{"a":1}')), 403, "InvalidSignatureException")

    def test_unknown_key(self):
        unknown = Credentials("AKIAIOSFODNN7EXAMPLE", "x" * 40)
        self.answer(signed("GET", LIST, credentials=unknown), 403, "UnrecognizedClientException", "^The security token included in the request is invalid.$")

    def test_bad_token(self):
        self.answer(signed("GET", LIST, credentials=Credentials(CREDENTIALS.access_key, CREDENTIALS.secret_key, "nonsense")), 403, "UnrecognizedClientException")

    def test_clock(self):
        for skew, text in ((-3600, "^Signature expired: "), (3600, "^Signature not yet current: ")):
            then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=skew)
            with self.subTest(skew), mock.patch("botocore.auth.get_current_datetime", return_value=then):
                self.answer(signed("GET", LIST), 403, "InvalidSignatureException", text)

    def test_malformed(self):
        self.answer(signed("GET", LIST, prepare=header("Authorization", "AWS4-HMAC-SHA256 Credential=x")), 403, "IncompleteSignatureException")
        self.assertEqual(403, signed("GET", LIST, prepare=header("Authorization", "Basic eDp5")).status)

    def test_other_service_in_scope(self):
        self.assertIn(signed("GET", LIST, service="s3x").status, (403, 404, 501))

    def test_in_each_protocol(self):
        wrong = dict(aws_access_key_id=CREDENTIALS.access_key, aws_secret_access_key="x" * 40)
        import boto3
        for service, call, code, status in (("lambda", "list_functions", "InvalidSignatureException", 403), ("logs", "describe_log_groups", "InvalidSignatureException", 400),
                                            ("sts", "get_caller_identity", "SignatureDoesNotMatch", 403), ("iam", "list_roles", "SignatureDoesNotMatch", 403)):
            with self.subTest(service), self.refused(code, status):
                getattr(boto3.client(service, **wrong), call)()
        unknown = dict(aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x" * 40)
        for service, call, code, status in (("logs", "describe_log_groups", "UnrecognizedClientException", 400), ("sts", "get_caller_identity", "InvalidClientTokenId", 403)):
            with self.subTest(service), self.refused(code, status, "The security token included in the request is invalid."):
                getattr(boto3.client(service, **unknown), call)()

    def test_query_errors_are_xml(self):
        got = send("POST", ENDPOINT + "/", IDENTITY, FORM)
        self.assertEqual(403, got.status)
        self.assertIn(b"<Code>MissingAuthenticationToken</Code>", got.body)


class Presigned(Case):
    def test_identity(self):
        url = sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
        with urllib.request.urlopen(url) as answer:
            self.assertIn(b"<Arn>", answer.read())
        with self.assertRaises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(url.replace("X-Amz-Expires=60", "X-Amz-Expires=61"))
        self.assertEqual(403, e.exception.code)

    def test_expired(self):
        then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=2)
        with mock.patch("botocore.auth.get_current_datetime", return_value=then):
            got = signed("GET", LIST, signer=SigV4QueryAuth, expires=60)
        self.assertEqual((403, "InvalidSignatureException"), (got.status, got.code))
        self.assertEqual(200, signed("GET", LIST, signer=SigV4QueryAuth, expires=60).status)


class Requests(Case):
    def test_unknown_actions(self):
        got = signed("POST", "/", b"Action=DanceAround&Version=2011-06-15", service="sts", headers=FORM)
        self.assertEqual(400, got.status)
        self.assertIn(b"<Code>InvalidAction</Code>", got.body)
        self.assertIn(b"DanceAround", got.body)
        got = signed("POST", "/", b"{}", service="logs", headers={"X-Amz-Target": "Logs_20140328.DanceAround", "Content-Type": "application/x-amz-json-1.1"})
        self.assertIn(got.status, (400, 404))
        self.assertIn("UnknownOperationException", got.json["__type"])

    def test_service_that_is_not_served(self):
        with self.assertRaises(ClientError) as e:
            client("dynamodb").list_tables()
        self.assertIn(e.exception.response["ResponseMetadata"]["HTTPStatusCode"], (400, 404, 501))
        self.assertTrue(e.exception.response["Error"]["Message"])

    def test_bad_json(self):
        got = signed("POST", "/", b"{", service="logs", headers={"X-Amz-Target": "Logs_20140328.DescribeLogGroups", "Content-Type": "application/x-amz-json-1.1"})
        self.assertEqual(400, got.status)
        self.assertIn("SerializationException", got.json["__type"])

    def test_health_needs_no_signature(self):
        got = send("GET", ENDPOINT + "/_mayfly/health")
        self.assertEqual((200, "running"), (got.status, got.json["status"]))

    def test_usage_is_for_root(self):
        self.assertEqual(403, send("GET", ENDPOINT + "/_mayfly/usage").status)

    def test_reset_is_not_there(self):
        self.assertIn(send("POST", ENDPOINT + "/_mayfly/reset").status, (403, 404))

    def test_long_names(self):
        got = signed("GET", "/2015-03-31/functions/" + "x" * 5000)
        self.assertEqual((400, "ValidationException"), (got.status, got.code))

    def test_request_ids(self):
        ids = {lam.list_functions()["ResponseMetadata"]["RequestId"] for _ in range(3)}
        ids |= {logs.describe_log_groups()["ResponseMetadata"]["RequestId"], iam.list_roles()["ResponseMetadata"]["RequestId"]}
        self.assertEqual(5, len(ids))
