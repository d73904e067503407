"""What policies allow: sessions of a role, as its functions have them, functions themselves, and users."""

import json

import boto3
from botocore.config import Config

from identity import TRUST, Base
from queueing import sqs
from suite import ACCOUNT, ENDPOINT, REGION, archive, function_arn, iam, invoke, lam, logs, sts

# A function that calls what its event says, with its role's credentials, and answers with the code and message of the error. It signs
# by hand, since there is no SDK in its environment.
CALLER = """
import datetime, hashlib, hmac, http.client, json, os, urllib.parse

def handler(event, context):
    if event == "credentials":
        return {k: os.environ[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    u = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"])
    body = event.get("body", "").encode()
    now = datetime.datetime.utcnow().strftime("%Y%m%dT%H%M%SZ")
    region, service = os.environ["AWS_REGION"], event["service"]
    headers = dict(event.get("headers", {}), **{"host": u.netloc, "x-amz-date": now, "x-amz-security-token": os.environ["AWS_SESSION_TOKEN"]})
    names = sorted(headers)
    canonical = "\\n".join([event["method"], event["path"], "", *(f"{n}:{headers[n]}" for n in names), "", ";".join(names), hashlib.sha256(body).hexdigest()])
    scope = f"{now[:8]}/{region}/{service}/aws4_request"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (now[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = "\\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    c = http.client.HTTPConnection(u.netloc)
    c.request(event["method"], event["path"], body, headers)
    r = c.getresponse()
    return [r.status, r.read().decode()]
"""


def allow(action, resource="*", **more):
    return dict({"Effect": "Allow", "Action": action, "Resource": resource}, **more)


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class LimitedRole(Base):
    def setUp(self):
        """A role without permissions, a function that has it, and its credentials, with which the tests call from outside."""
        self.rolename = self.name("limited")
        self.role_arn = self.role(RoleName=self.rolename)["Arn"]
        self.fn = self.create(Role=self.role_arn, Runtime="python3.11", Handler="app.handler", Code={"ZipFile": archive({"app.py": CALLER})})
        answer = invoke(self.fn, "credentials")
        self.assertIsNone(answer.error, answer.raw)
        self.session = boto3.session.Session(answer.payload["AWS_ACCESS_KEY_ID"], answer.payload["AWS_SECRET_ACCESS_KEY"], answer.payload["AWS_SESSION_TOKEN"], REGION)
        self.me = f"arn:aws:sts::{ACCOUNT}:assumed-role/{self.rolename}/{self.fn}"

    def client(self, service):
        return self.session.client(service, endpoint_url=ENDPOINT, config=Config(retries={"total_max_attempts": 1}, parameter_validation=False))

    def grant(self, *statements):
        iam.put_role_policy(RoleName=self.rolename, PolicyName="p", PolicyDocument=document(*statements))

    def denied(self, action, resource, code="AccessDeniedException", why=None):
        status = 400 if action.startswith("logs:") else 403
        why = why or f"because no identity-based policy allows the {action} action"
        return self.refused(code, status, f"User: {self.me} is not authorized to perform: {action} on resource: {resource} {why}")


class Permissions(LimitedRole):
    def test_identity(self):
        mine = self.client("lambda")
        with self.denied("lambda:GetFunction", function_arn(self.fn)):
            mine.get_function(FunctionName=self.fn)
        with self.denied("lambda:GetFunction", function_arn("there-is-none")):  # as if there were one
            mine.get_function(FunctionName="there-is-none")
        with self.denied("lambda:ListFunctions", "*"):
            mine.list_functions()
        with self.denied("lambda:InvokeFunction", function_arn(self.fn, "$LATEST")):
            mine.invoke(FunctionName=self.fn, Qualifier="$LATEST")
        with self.denied("logs:DescribeLogGroups", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group::log-stream:"):
            self.client("logs").describe_log_groups()
        with self.denied("iam:GetRole", "role " + self.rolename, "AccessDenied"):
            self.client("iam").get_role(RoleName=self.rolename)
        self.assertEqual(self.me, self.client("sts").get_caller_identity()["Arn"], "needs no permission")

        self.grant(allow("lambda:Get*", function_arn(self.fn)), allow("iam:GetRole", self.role_arn))
        self.assertEqual(self.fn, mine.get_function(FunctionName=self.fn)["Configuration"]["FunctionName"])
        self.assertEqual(self.role_arn, self.client("iam").get_role(RoleName=self.rolename)["Role"]["Arn"])
        with self.denied("lambda:GetFunction", function_arn(self.fn, "1")):  # the qualified ARN is another resource
            mine.get_function(FunctionName=self.fn, Qualifier="1")
        with self.denied("lambda:DeleteFunction", function_arn(self.fn)):
            mine.delete_function(FunctionName=self.fn)

    def test_explicit_deny(self):
        self.grant(allow("lambda:*"), {"Effect": "Deny", "Action": "lambda:Delete*", "Resource": "*"})
        mine = self.client("lambda")
        mine.list_functions()
        with self.denied("lambda:DeleteFunction", function_arn(self.fn), why="with an explicit deny in an identity-based policy"):
            mine.delete_function(FunctionName=self.fn)

    def test_managed_policies_and_boundary(self):
        policy = self.policy(json.loads(document(allow("lambda:*"))))["Arn"]
        iam.attach_role_policy(RoleName=self.rolename, PolicyArn=policy)
        mine = self.client("lambda")
        mine.list_functions()
        boundary = self.policy(json.loads(document(allow("lambda:GetFunction"))))["Arn"]
        iam.put_role_permissions_boundary(RoleName=self.rolename, PermissionsBoundary=boundary)
        self.addCleanup(iam.delete_role_permissions_boundary, RoleName=self.rolename)
        mine.get_function(FunctionName=self.fn)
        with self.denied("lambda:ListFunctions", "*", why="because no permissions boundary allows the lambda:ListFunctions action"):
            mine.list_functions()
        iam.create_policy_version(PolicyArn=boundary, PolicyDocument=document(allow("lambda:List*")), SetAsDefault=True)
        mine.list_functions()

    def test_conditions(self):
        mine = self.client("lambda")
        for condition, met in [
            ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.0/8"]}}, True),
            ({"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, False),
            ({"StringEquals": {"aws:RequestedRegion": REGION}}, True),
            ({"StringLike": {"aws:UserAgent": "*Boto3*"}}, True),
            ({"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::*:role/{self.rolename}"}}, True),
            ({"ArnEquals": {"lambda:SourceFunctionArn": function_arn(self.fn)}}, True),
            ({"DateGreaterThan": {"aws:CurrentTime": "2099-01-01T00:00:00Z"}}, False),
            ({"StringEquals": {"aws:ResourceTag/team": "red"}}, True),
            ({"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/Team}"}}, True),
            ({"StringEquals": {"aws:ResourceTag/other": "red"}}, False),
            ({"Null": {"aws:TokenIssueTime": "false"}, "Bool": {"aws:MultiFactorAuthPresent": "false"}}, True),
        ]:
            with self.subTest(condition):
                lam.tag_resource(Resource=function_arn(self.fn), Tags={"team": "red"})
                iam.tag_role(RoleName=self.rolename, Tags=[{"Key": "team", "Value": "red"}])
                self.grant(allow("lambda:GetFunction", Condition=condition))
                if met:
                    mine.get_function(FunctionName=self.fn)
                else:
                    with self.denied("lambda:GetFunction", function_arn(self.fn)):
                        mine.get_function(FunctionName=self.fn)

    def test_request_tags(self):
        self.grant(allow("iam:CreateRole", Condition={"StringEquals": {"aws:RequestTag/team": "red"}}), allow("iam:TagRole"))
        mine = self.client("iam")
        name = self.name("made")
        with self.denied("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/x/{name}", "AccessDenied"):
            mine.create_role(RoleName=name, Path="/x/", AssumeRolePolicyDocument=json.dumps(TRUST))
        mine.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=[{"Key": "team", "Value": "red"}])
        self.addCleanup(self.remove_role, name)

    def test_pass_role(self):
        target = self.role()["Arn"]
        self.grant(allow("lambda:*"))
        mine = self.client("lambda")
        arguments = dict(FunctionName=self.name(), Role=target, Runtime="python3.11", Handler="app.handler", Code={"ZipFile": archive({"app.py": "def handler(e, c): return 1"})})
        with self.denied("iam:PassRole", target):
            mine.create_function(**arguments)
        self.grant(allow("lambda:*"), allow("iam:PassRole", target, Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}))
        with self.denied("iam:PassRole", target):
            mine.create_function(**arguments)
        self.grant(allow("lambda:*"), allow("iam:PassRole", target, Condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}))
        mine.create_function(**arguments)
        self.addCleanup(lam.delete_function, FunctionName=arguments["FunctionName"])
        with self.denied("iam:PassRole", self.role_arn):
            mine.update_function_configuration(FunctionName=arguments["FunctionName"], Role=self.role_arn)

    def test_function_does_exactly_what_its_role_allows(self):
        def call(method, path, service="lambda", **event):
            got = invoke(self.fn, dict(method=method, path=path, service=service, **event))
            self.assertIsNone(got.error, got.raw)
            return got.payload

        other = self.create()
        path = f"/2015-03-31/functions/{other}/invocations"
        status, body = call("POST", path, body="{}")
        self.assertEqual(403, status, body)
        self.assertIn(f"User: {self.me} is not authorized to perform: lambda:InvokeFunction on resource: {function_arn(other)} because", body)
        self.grant(allow("lambda:InvokeFunction", function_arn(other)))
        self.assertEqual(200, call("POST", path, body="{}")[0], "at once, in the same environment")
        self.assertEqual(403, call("GET", f"/2015-03-31/functions/{other}/configuration")[0])
        # Its log is stored whatever the role allows.
        self.assertTrue(logs.filter_log_events(logGroupName="/aws/lambda/" + self.fn)["events"])
        status, body = call("POST", "/", "logs", body="{}", headers={"x-amz-target": "Logs_20140328.DescribeLogGroups", "content-type": "application/x-amz-json-1.1"})
        self.assertEqual(400, status, body)
        self.assertIn("AccessDeniedException", body)
        self.grant(allow("logs:DescribeLogGroups", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:*"))
        status, body = call("POST", "/", "logs", body="{}", headers={"x-amz-target": "Logs_20140328.DescribeLogGroups", "content-type": "application/x-amz-json-1.1"})
        self.assertEqual(200, status, body)

    def test_a_role_made_again_is_another(self):
        self.grant(allow("lambda:ListFunctions"))
        self.client("lambda").list_functions()
        self.remove_role(self.rolename)
        with self.denied("lambda:ListFunctions", "*"):
            self.client("lambda").list_functions()
        self.role(RoleName=self.rolename)
        self.grant(allow("*"))
        with self.refused("UnrecognizedClientException", 403, "The security token included in the request is invalid."):
            self.client("lambda").list_functions()


class Users(Base):
    """Users with access keys, and the sessions that they make."""

    def setUp(self):
        self.user = self.name("user")
        self.arn = iam.create_user(UserName=self.user, Path="/team/")["User"]["Arn"]
        self.addCleanup(self.remove_user)
        key = iam.create_access_key(UserName=self.user)["AccessKey"]
        self.session = boto3.session.Session(key["AccessKeyId"], key["SecretAccessKey"], None, REGION)

    def remove_user(self):
        for p in iam.list_user_policies(UserName=self.user)["PolicyNames"]:
            iam.delete_user_policy(UserName=self.user, PolicyName=p)
        for k in iam.list_access_keys(UserName=self.user)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=self.user, AccessKeyId=k["AccessKeyId"])
        iam.delete_user(UserName=self.user)

    def client(self, service, session=None):
        return (session or self.session).client(service, endpoint_url=ENDPOINT, config=Config(retries={"total_max_attempts": 1}, parameter_validation=False))

    def of(self, answer):
        c = answer["Credentials"]
        return boto3.session.Session(c["AccessKeyId"], c["SecretAccessKey"], c["SessionToken"], REGION)

    def grant(self, *statements):
        iam.put_user_policy(UserName=self.user, PolicyName="p", PolicyDocument=document(*statements))

    def denied(self, action, resource, code="AccessDeniedException", why=None, who=None):
        why = why if why is not None else f" because no identity-based policy allows the {action} action"
        return self.refused(code, 403, f"User: {who or self.arn} is not authorized to perform: {action} on resource: {resource}{why}")

    def test_policies(self):
        mine = self.client("lambda")
        with self.denied("lambda:ListFunctions", "*"):
            mine.list_functions()
        self.grant(allow("lambda:ListFunctions", Condition={"StringEquals": {"aws:username": self.user}}))
        mine.list_functions()
        self.grant(allow("lambda:*"), {"Effect": "Deny", "Action": "lambda:List*", "Resource": "*"})
        with self.denied("lambda:ListFunctions", "*", why=" with an explicit deny in an identity-based policy"):
            mine.list_functions()

    def test_itself(self):
        with self.denied("iam:GetUser", "user " + self.user, "AccessDenied"):
            self.client("iam").get_user(UserName=self.user)
        self.grant(allow("iam:GetUser", f"arn:aws:iam::{ACCOUNT}:user/team/${{aws:username}}"))
        self.assertEqual(self.arn, self.client("iam").get_user(UserName=self.user)["User"]["Arn"])
        self.assertEqual(self.arn, self.client("iam").get_user()["User"]["Arn"])
        with self.denied("iam:GetUser", "user somebody", "AccessDenied"):
            self.client("iam").get_user(UserName="somebody")

    def test_group_and_boundary(self):
        group = self.name("group")
        iam.create_group(GroupName=group)
        self.addCleanup(iam.delete_group, GroupName=group)
        iam.put_group_policy(GroupName=group, PolicyName="p", PolicyDocument=document(allow("lambda:*")))
        self.addCleanup(iam.delete_group_policy, GroupName=group, PolicyName="p")
        mine = self.client("lambda")
        with self.denied("lambda:ListFunctions", "*"):
            mine.list_functions()
        iam.add_user_to_group(GroupName=group, UserName=self.user)
        self.addCleanup(iam.remove_user_from_group, GroupName=group, UserName=self.user)
        mine.list_functions()
        boundary = self.policy(json.loads(document(allow("lambda:ListLayers"))))["Arn"]
        iam.put_user_permissions_boundary(UserName=self.user, PermissionsBoundary=boundary)
        self.addCleanup(iam.delete_user_permissions_boundary, UserName=self.user)
        mine.list_layers()
        with self.denied("lambda:ListFunctions", "*", why=" because no permissions boundary allows the lambda:ListFunctions action"):
            mine.list_functions()

    def test_assume_role(self):
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "x1"}}}]}
        role = self.role(AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName=role["RoleName"], PolicyName="p", PolicyDocument=document(allow("lambda:*")))
        mine = self.client("sts")
        arguments = dict(RoleArn=role["Arn"], RoleSessionName="mine", ExternalId="x1")
        with self.denied("sts:AssumeRole", role["Arn"], "AccessDenied"):
            mine.assume_role(**arguments)
        self.grant(allow("sts:AssumeRole", role["Arn"]))
        with self.denied("sts:AssumeRole", role["Arn"], "AccessDenied", why=""):
            mine.assume_role(**dict(arguments, ExternalId="x2"))
        self.client("lambda", self.of(mine.assume_role(**arguments))).list_functions()
        limited = self.of(mine.assume_role(**dict(arguments, Policy=document(allow("lambda:ListLayers")))))
        self.client("lambda", limited).list_layers()
        with self.denied("lambda:ListFunctions", "*", why=" because no session policy allows the lambda:ListFunctions action",
                         who=f"arn:aws:sts::{ACCOUNT}:assumed-role/{role['RoleName']}/mine"):
            self.client("lambda", limited).list_functions()
        with self.denied("sts:TagSession", role["Arn"], "AccessDenied", why=""):
            mine.assume_role(**dict(arguments, Tags=[{"Key": "team", "Value": "red"}]))

    def test_session_of_a_user(self):
        session = self.of(self.client("sts").get_session_token())
        self.grant(allow("*"))
        self.client("lambda", session).list_functions()
        with self.refused("InvalidClientTokenId", 403, "The security token included in the request is invalid"):
            self.client("iam", session).list_roles()


class Queues(LimitedRole):
    def test_of_dead_letters(self):
        _, arn = self.queue()
        change = lambda: lam.update_function_configuration(FunctionName=self.fn, DeadLetterConfig={"TargetArn": arn})
        with self.invalid("The provided execution role does not have permissions to call SendMessage on SQS"):
            change()
        self.grant(allow("sqs:SendMessage", arn))
        change()

    def queue(self):
        name = self.name("q")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        self.addCleanup(sqs.delete_queue, QueueUrl=url)
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def send(self):
        url, arn = self.queue()
        return url, arn, lambda: self.client("sqs").send_message(QueueUrl=url, MessageBody="m")

    def test_identity(self):
        url, arn, send = self.send()
        with self.denied("sqs:sendmessage", arn, "AccessDenied"):
            send()
        self.grant(allow("sqs:SendMessage", arn))
        send()
        mine = self.client("sqs")
        mine.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "m"}])  # needs no more than one message does
        for call, action in (
            (lambda: mine.receive_message(QueueUrl=url), "ReceiveMessage"), (lambda: mine.delete_message(QueueUrl=url, ReceiptHandle="x"), "DeleteMessage"),
            (lambda: mine.purge_queue(QueueUrl=url), "PurgeQueue"), (lambda: mine.get_queue_attributes(QueueUrl=url), "GetQueueAttributes"),
            (lambda: mine.delete_message_batch(QueueUrl=url, Entries=[{"Id": "1", "ReceiptHandle": "x"}]), "DeleteMessage"),
        ):
            with self.subTest(action), self.refused("AccessDenied", 403, f"^User: .* is not authorized to perform: sqs:{action.lower()} on resource: {arn} "):
                call()

    def test_policy_of_the_queue(self):
        url, arn, send = self.send()
        policy = lambda *statements: sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document(*statements)})
        policy(allow("SQS:SendMessage", arn, Principal={"AWS": self.role_arn}))
        send()
        policy(allow("sqs:*", arn, Principal={"AWS": self.role_arn}, Condition={"StringEquals": {"aws:PrincipalAccount": "999999999999"}}))
        with self.refused("AccessDenied", 403):
            send()
        self.grant(allow("sqs:*"))
        send()
        policy({"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn})
        with self.refused("AccessDenied", 403, "^User: .* with an explicit deny in a resource-based policy$"):
            send()

    def test_tags_decide(self):
        url, arn, send = self.send()
        self.grant(allow("sqs:SendMessage", "*", Condition={"StringEquals": {"aws:ResourceTag/team": "a"}}))
        with self.refused("AccessDenied", 403):
            send()
        sqs.tag_queue(QueueUrl=url, Tags={"team": "a"})
        send()
