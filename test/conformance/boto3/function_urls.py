"""Function URLs and the permissions of functions."""

import base64
import http.client
import json
import time
import urllib.parse

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from suite import CREDENTIALS, ENDPOINT, REGION, Case, function_arn, lam

ECHO = """
import base64, json
def handler(event, context):
    if event.get('rawPath') == '/fail':
        raise ValueError('no')
    if event.get('rawPath') == '/raw':
        return json.loads(event['queryStringParameters']['v'])
    if event.get('rawPath') == '/binary':
        return {'statusCode': 201, 'headers': {'Content-Type': 'image/x', 'X-Own': 'yes'}, 'cookies': ['a=1; Secure', 'b=2'],
                'body': base64.b64encode(bytes(range(256))).decode(), 'isBase64Encoded': True}
    return {'statusCode': 200, 'body': json.dumps(event)}
"""


class Reply:
    def __init__(self, response):
        self.status, self.body = response.status, response.read()
        self.headers = response.headers

    @property
    def json(self):
        return json.loads(self.body)


def ask(url, method="GET", path="/", body=None, headers=None, host=True):
    """Sends a request to a URL: by its host name, which is not looked up, or by the path below /_mayfly/url/."""
    name = urllib.parse.urlsplit(url).netloc
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(ENDPOINT).netloc, timeout=30)
    headers = dict(headers or {})
    if host:
        headers["Host"] = name
    else:
        path = "/_mayfly/url/" + name.split(".")[0] + path
    try:
        connection.request(method, path, body, headers)
        return Reply(connection.getresponse())
    finally:
        connection.close()


class URLs(Case):
    def open(self, name, qualifier=None, **config):
        """Makes a URL that everyone may use."""
        of = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})
        lam.add_permission(StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE", **of)
        lam.add_permission(StatementId="invoke", Action="lambda:InvokeFunction", Principal="*", InvokedViaFunctionUrl=True, **of)
        return lam.create_function_url_config(AuthType="NONE", **of, **config)["FunctionUrl"]

    def test_event(self):
        name = self.python(ECHO)
        url = self.open(name)
        for host in (True, False):
            got = ask(url, "POST", "/a%20b/c?x=1&x=2&y=%C3%A9", b'{"z":1}', {"Content-Type": "application/json", "Cookie": "a=1; b=2", "X-Own": "v"}, host)
            self.assertEqual((200, "application/json"), (got.status, got.headers["Content-Type"]), got.body)
            event, http_part = got.json, got.json["requestContext"]["http"]
            self.assertEqual(("2.0", "$default", "/a%20b/c", "x=1&x=2&y=%C3%A9"), tuple(event[k] for k in ("version", "routeKey", "rawPath", "rawQueryString")))
            self.assertEqual({"x": "1,2", "y": "é"}, event["queryStringParameters"])
            self.assertEqual(["a=1", "b=2"], event["cookies"])
            self.assertEqual(('{"z":1}', False), (event["body"], event["isBase64Encoded"]))
            self.assertEqual("v", event["headers"]["x-own"])
            self.assertEqual(("POST", "/a%20b/c", "HTTP/1.1", "127.0.0.1"), tuple(http_part[k] for k in ("method", "path", "protocol", "sourceIp")))
            self.assertEqual("anonymous", event["requestContext"]["accountId"])
            self.assertEqual(url.split("//")[1].split(".")[0], event["requestContext"]["apiId"])
            self.assertEqual(got.headers["x-amzn-RequestId"], event["requestContext"]["requestId"])
            self.assertLess(abs(time.time() * 1000 - event["requestContext"]["timeEpoch"]), 20_000)
        form = ask(url, "POST", "/", b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}).json
        self.assertEqual((base64.b64encode(b"a=b").decode(), True), (form["body"], form["isBase64Encoded"]))

    def test_response(self):
        url = self.open(self.python(ECHO))
        for value, body in (("3", b"3"), ("true", b"true"), ('"hello"', b"hello"), ("[1, 2]", b"[1, 2]"), ('{"a": 1}', b'{"a": 1}'), ("null", b"null")):
            got = ask(url, path="/raw?v=" + urllib.parse.quote(value))
            self.assertEqual((200, "application/json", body), (got.status, got.headers["Content-Type"], got.body))
        got = ask(url, path="/binary")
        self.assertEqual((201, "image/x", "yes", bytes(range(256))), (got.status, got.headers["Content-Type"], got.headers["X-Own"], got.body))
        self.assertEqual(["a=1; Secure", "b=2"], got.headers.get_all("Set-Cookie"))
        self.assertEqual((201, b""), (lambda r: (r.status, r.body))(ask(url, "HEAD", "/binary")))
        for path in ("/fail", "/raw?v=" + urllib.parse.quote('{"statusCode":"x"}')):
            got = ask(url, path=path)
            self.assertEqual((502, b"Internal Server Error"), (got.status, got.body))
        got = ask(url, "POST", "/", b"x" * (6 * 1024 * 1024 + 1), {"Content-Type": "text/plain"})
        self.assertEqual(413, got.status, got.body)

    def test_permissions(self):
        name = self.python(ECHO)
        url = lam.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
        forbidden = (403, {"Message": "Forbidden"})
        self.assertEqual(forbidden, (lambda r: (r.status, r.json))(ask(url)))
        lam.add_permission(FunctionName=name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE")
        self.assertEqual(forbidden, (lambda r: (r.status, r.json))(ask(url)))
        lam.add_permission(FunctionName=name, StatementId="invoke", Action="lambda:InvokeFunction", Principal="*", InvokedViaFunctionUrl=True)
        self.assertEqual(200, ask(url).status)
        lam.remove_permission(FunctionName=name, StatementId="url")
        self.assertEqual(forbidden, (lambda r: (r.status, r.json))(ask(url)))
        self.assertEqual(forbidden, (lambda r: (r.status, r.json))(ask(url.replace(url[7:39], "a" * 32))))
        lam.delete_function_url_config(FunctionName=name)
        self.assertEqual(403, ask(url).status)

    def test_signed(self):
        name = self.python(ECHO)
        url = lam.create_function_url_config(FunctionName=name, AuthType="AWS_IAM")["FunctionUrl"]
        self.assertEqual((403, {"Message": "Forbidden"}), (lambda r: (r.status, r.json))(ask(url)))
        request = AWSRequest("POST", url + "x?a=b", data=b"hello", headers={"Content-Type": "text/plain"})
        SigV4Auth(CREDENTIALS, "lambda", REGION).add_auth(request)
        got = ask(url, "POST", "/x?a=b", b"hello", dict(request.headers))
        self.assertEqual(200, got.status, got.body)
        who = got.json["requestContext"]["authorizer"]["iam"]
        self.assertEqual(CREDENTIALS.access_key, who["accessKey"])
        self.assertTrue(who["userArn"].endswith(":root"))
        self.assertEqual(who["accountId"], got.json["requestContext"]["accountId"])
        self.assertEqual(403, ask(url, "POST", "/x?a=b", b"other", dict(request.headers)).status)
        request = AWSRequest("GET", url + "y")
        SigV4QueryAuth(CREDENTIALS, "lambda", REGION, expires=60).add_auth(request)
        self.assertEqual(200, ask(url, path=request.url.removeprefix(url[:-1])).status)
        request = AWSRequest("GET", url)
        SigV4Auth(CREDENTIALS, "execute-api", REGION).add_auth(request)
        self.assertEqual(403, ask(url, headers=dict(request.headers)).status)

    def test_cors(self):
        url = self.open(self.python(ECHO), Cors={
            "AllowOrigins": ["http://a.example"], "AllowMethods": ["GET", "PUT"], "AllowHeaders": ["X-One"], "ExposeHeaders": ["Date"], "MaxAge": 300, "AllowCredentials": True})
        ours, theirs = {"Origin": "http://a.example"}, {"Origin": "http://b.example"}
        wants = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-one"}
        got = ask(url, "OPTIONS", headers=ours | wants)
        self.assertEqual((200, b""), (got.status, got.body))
        self.assertEqual(("http://a.example", "GET,PUT", "X-One", "300", "true"), tuple(
            got.headers["Access-Control-" + h] for h in ("Allow-Origin", "Allow-Methods", "Allow-Headers", "Max-Age", "Allow-Credentials")))
        self.assertIsNone(ask(url, "OPTIONS", headers=theirs | wants).headers["Access-Control-Allow-Origin"])
        got = ask(url, headers=ours)
        self.assertEqual(("http://a.example", "Date", "true"), tuple(got.headers["Access-Control-" + h] for h in ("Allow-Origin", "Expose-Headers", "Allow-Credentials")))
        got = ask(url, headers=theirs)
        self.assertEqual((200, None), (got.status, got.headers["Access-Control-Allow-Origin"]))

    def test_configurations(self):
        name = self.python(ECHO, Publish=True)
        lam.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        made = lam.create_function_url_config(FunctionName=name, AuthType="NONE", Cors={"AllowOrigins": ["*"]})
        self.assertEqual(201, made.pop("ResponseMetadata")["HTTPStatusCode"])
        self.assertRegex(made["FunctionUrl"], r"^http://[a-z0-9]{32}\.lambda-url\." + REGION + r"\.localhost:\d+/$")
        self.assertEqual({"FunctionUrl", "FunctionArn", "AuthType", "Cors", "CreationTime"}, set(made))
        with self.refused("ResourceConflictException", 409, f"Failed to create function url config for [functionArn = {function_arn(name)}]. Error message:  FunctionUrlConfig exists for this Lambda function"):
            lam.create_function_url_config(FunctionName=name, AuthType="NONE")
        of_alias = lam.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="AWS_IAM", InvokeMode="BUFFERED")
        self.assertEqual((function_arn(name, "live"), "BUFFERED"), (of_alias["FunctionArn"], of_alias["InvokeMode"]))
        listed = [u["FunctionArn"] for p in lam.get_paginator("list_function_url_configs").paginate(FunctionName=name, PaginationConfig={"PageSize": 1}) for u in p["FunctionUrlConfigs"]]
        self.assertEqual([function_arn(name), function_arn(name, "live")], listed)
        changed = lam.update_function_url_config(FunctionName=name, AuthType="AWS_IAM", Cors={})
        self.assertEqual(("AWS_IAM", made["FunctionUrl"], made["CreationTime"]), (changed["AuthType"], changed["FunctionUrl"], changed["CreationTime"]))
        self.assertNotIn("Cors", changed)
        self.assertNotIn("InvokeMode", changed)
        self.assertEqual("BUFFERED", lam.get_function_url_config(FunctionName=name)["InvokeMode"])
        self.assertEqual("AWS_IAM", lam.get_function_url_config(FunctionName=name)["AuthType"])
        lam.delete_alias(FunctionName=name, Name="live")
        lam.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        with self.not_found("The resource you requested does not exist."):
            lam.get_function_url_config(FunctionName=name, Qualifier="live")
        lam.delete_function_url_config(FunctionName=name)
        for call in (lam.get_function_url_config, lam.delete_function_url_config, lam.update_function_url_config):
            with self.not_found("The resource you requested does not exist."):
                call(FunctionName=name)
        for call in (lam.create_function_url_config, lam.update_function_url_config):
            for missing in ({"FunctionName": "nope"}, {"FunctionName": name, "Qualifier": "none"}):
                with self.not_found("Function does not exist"):
                    call(AuthType="NONE", **missing)
        for call in (lam.get_function_url_config, lam.delete_function_url_config):
            with self.not_found("The resource you requested does not exist."):
                call(FunctionName="nope")

    def test_alias(self):
        name = self.python(ECHO, Publish=True)
        lam.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        url = self.open(name, "live")
        self.assertEqual(200, ask(url).status)
        lam.remove_permission(FunctionName=name, Qualifier="live", StatementId="invoke")
        lam.add_permission(FunctionName=name, StatementId="invoke", Action="lambda:InvokeFunction", Principal="*", InvokedViaFunctionUrl=True)
        self.assertEqual(403, ask(url).status, "the policy of the function is not that of its alias")

    def test_stream(self):
        name = self.node("""
            export const handler = awslambda.streamifyResponse(async (event, out) => {
                if (event.rawPath === '/early') throw new Error('early');
                out = awslambda.HttpResponseStream.from(out, {statusCode: 206, headers: {'Content-Type': 'text/x'}, cookies: ['c=d']});
                out.write('first');
                await new Promise(r => setTimeout(r, 1000));
                if (event.rawPath === '/late') throw new Error('late');
                out.end('second');
            });""")
        url = self.open(name, InvokeMode="RESPONSE_STREAM")
        ask(url)
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(ENDPOINT).netloc, timeout=30)
        began = time.monotonic()
        connection.request("GET", "/", headers={"Host": urllib.parse.urlsplit(url).netloc})
        got = connection.getresponse()
        self.assertEqual((206, "text/x", "c=d", b"first"), (got.status, got.headers["Content-Type"], got.headers["Set-Cookie"], got.read(5)))
        self.assertLess(time.monotonic() - began, 0.9, "the first bytes wait for the last")
        self.assertEqual(b"second", got.read())
        connection.close()
        with self.assertRaises(http.client.IncompleteRead):
            ask(url, path="/late")
        got = ask(url, path="/early")
        self.assertEqual((502, b"Internal Server Error"), (got.status, got.body))

    def test_policy(self):
        name = self.python(ECHO)
        arn = function_arn(name)
        for missing in ({"FunctionName": name}, {"FunctionName": name, "Qualifier": "42"}, {"FunctionName": name, "Qualifier": "none"}, {"FunctionName": "nope"}):
            with self.not_found("The resource you requested does not exist."):
                lam.get_policy(**missing)
        with self.not_found(f"Function not found: {arn}:with-$"):
            lam.add_permission(FunctionName=name, Qualifier="with-$", StatementId="s3", Action="lambda:InvokeFunction", Principal="*")
        added = lam.add_permission(FunctionName=name, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::b")
        self.assertEqual(201, added["ResponseMetadata"]["HTTPStatusCode"])
        statement = f'{{"Sid":"s3","Effect":"Allow","Principal":{{"Service":"s3.amazonaws.com"}},"Action":"lambda:InvokeFunction","Resource":"{arn}","Condition":{{"ArnLike":{{"AWS:SourceArn":"arn:aws:s3:::b"}}}}}}'
        self.assertEqual(statement, added["Statement"])
        got = lam.get_policy(FunctionName=name)
        self.assertEqual(f'{{"Version":"2012-10-17","Id":"default","Statement":[{statement}]}}', got["Policy"])
        self.assertEqual(lam.get_function_configuration(FunctionName=name)["RevisionId"], got["RevisionId"])
        with self.refused("ResourceConflictException", 409, "The statement id (s3) provided already exists. Please provide a new statement id, or remove the existing statement."):
            lam.add_permission(FunctionName=name, StatementId="s3", Action="lambda:InvokeFunction", Principal="*")
        with self.refused("PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id"):
            lam.add_permission(FunctionName=name, StatementId="t", Action="lambda:InvokeFunction", Principal="*", RevisionId="old")
        with self.invalid("We currently do not support adding policies for $LATEST."):
            lam.add_permission(FunctionName=name, Qualifier="$LATEST", StatementId="t", Action="lambda:InvokeFunction", Principal="*")
        with self.invalid("The provided principal was invalid. Please check the principal and try again."):
            lam.add_permission(FunctionName=name, StatementId="t", Action="lambda:InvokeFunction", Principal="me")
        with self.not_found("Statement t is not found in resource policy."):
            lam.remove_permission(FunctionName=name, StatementId="t")
        self.assertEqual(204, lam.remove_permission(FunctionName=name, StatementId="s3", RevisionId=got["RevisionId"])["ResponseMetadata"]["HTTPStatusCode"])
        with self.not_found("No policy is associated with the given resource."):
            lam.remove_permission(FunctionName=name, StatementId="s3")
        with self.not_found("No policy found for: " + function_arn("nope")):
            lam.remove_permission(FunctionName="nope", StatementId="s3")
