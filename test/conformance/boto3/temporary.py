"""Temporary credentials: assumed roles, what narrows them, and what profiles make of them."""

import json
import os
import subprocess
import tempfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from suite import ACCOUNT, ENDPOINT, REGION, Case, iam, sts


def allow(*actions, **more):
    return json.dumps({"Version": "2012-10-17", "Statement": [dict({"Effect": "Allow", "Action": list(actions)}, **(more or {"Resource": "*"}))]})


class Temporary(Case):
    def setUp(self):
        """A user who may assume a role that may list functions."""
        user, self.role = self.name("user"), self.name("role")
        iam.create_user(UserName=user)
        self.addCleanup(iam.delete_user, UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=allow("sts:*"))
        self.addCleanup(iam.delete_user_policy, UserName=user, PolicyName="p")
        self.key = iam.create_access_key(UserName=user)["AccessKey"]
        self.addCleanup(iam.delete_access_key, UserName=user, AccessKeyId=self.key["AccessKeyId"])
        self.user = f"arn:aws:iam::{ACCOUNT}:user/{user}"
        trust = allow("sts:AssumeRole", "sts:TagSession", Principal={"AWS": self.user})
        self.arn = iam.create_role(RoleName=self.role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        self.addCleanup(iam.delete_role, RoleName=self.role)
        iam.put_role_policy(RoleName=self.role, PolicyName="p", PolicyDocument=allow("lambda:ListFunctions", "sts:AssumeRole"))
        self.addCleanup(iam.delete_role_policy, RoleName=self.role, PolicyName="p")
        self.sts = self.client("sts", AccessKeyId=self.key["AccessKeyId"], SecretAccessKey=self.key["SecretAccessKey"])

    def client(self, service, AccessKeyId, SecretAccessKey, SessionToken=None, Expiration=None):
        return boto3.client(service, region_name=REGION, aws_access_key_id=AccessKeyId, aws_secret_access_key=SecretAccessKey, aws_session_token=SessionToken,
                            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False))

    def assume(self, **arguments):
        return self.sts.assume_role(**dict(dict(RoleArn=self.arn, RoleSessionName="s1"), **arguments))

    def test_session(self):
        answer = self.assume(Tags=[{"Key": "team", "Value": "flies"}])
        self.assertEqual(f"arn:aws:sts::{ACCOUNT}:assumed-role/{self.role}/s1", answer["AssumedRoleUser"]["Arn"])
        self.assertEqual(2, answer["PackedPolicySize"])
        self.client("lambda", **answer["Credentials"]).list_functions()
        with self.refused("AccessDeniedException", 403, "^User: .*assumed-role/.*/s1 is not authorized to perform: lambda:GetAccountSettings"):
            self.client("lambda", **answer["Credentials"]).get_account_settings()
        narrow = self.assume(Policy=allow("lambda:GetFunction"))["Credentials"]
        with self.refused("AccessDeniedException", 403, "^.* because no session policy allows the lambda:ListFunctions action$"):
            self.client("lambda", **narrow).list_functions()

    def test_refusals(self):
        with self.refused("AccessDenied", 403, f"^User: {self.user} is not authorized to perform: sts:AssumeRole on resource: {self.arn}2"):
            self.assume(RoleArn=self.arn + "2")
        with self.refused("AccessDenied", 403):
            sts.assume_role(RoleArn=self.arn, RoleSessionName="s1")
        with self.refused("ValidationError", 400, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."):
            self.assume(DurationSeconds=3601)
        with self.refused("ValidationError", 400, "^1 validation error detected: .*roleSessionName"):
            self.assume(RoleSessionName="x")
        with self.refused("MalformedPolicyDocument", 400):
            self.assume(Policy="{")
        with self.refused("PackedPolicyTooLarge", 400, "^Packed size of session tags consumes [0-9]+% of allotted space.$"):
            self.assume(Tags=[{"Key": f"T{i}", "Value": "a" * 250} for i in range(9)])
        with self.refused("InvalidIdentityToken", 400, "^The ID Token provided is not a valid JWT."):
            self.sts.assume_role_with_web_identity(RoleArn=self.arn, RoleSessionName="s1", WebIdentityToken="nonsense")

    def test_sessions_of_users(self):
        session = self.sts.get_session_token(DurationSeconds=900)["Credentials"]
        self.assertEqual(self.user, self.client("sts", **session).get_caller_identity()["Arn"])
        with self.assertRaises(ClientError) as e:
            self.client("iam", **session).list_users()
        self.assertEqual(403, e.exception.response["ResponseMetadata"]["HTTPStatusCode"])
        guest = self.sts.get_federation_token(Name="guest")
        self.assertEqual(f"arn:aws:sts::{ACCOUNT}:federated-user/guest", self.client("sts", **guest["Credentials"]).get_caller_identity()["Arn"])

    def test_profile(self):
        """A profile with role_arn: boto3 assumes the role by itself."""
        with tempfile.NamedTemporaryFile("w", suffix=".config") as f:
            f.write(f"[profile p]\nrole_arn = {self.arn}\nsource_profile = u\nregion = {REGION}\nendpoint_url = {ENDPOINT}\n"
                    f"[profile u]\naws_access_key_id = {self.key['AccessKeyId']}\naws_secret_access_key = {self.key['SecretAccessKey']}\n")
            f.flush()
            env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") or k == "AWS_ENDPOINT_URL"}
            code = "import boto3; print(boto3.Session(profile_name='p').client('sts').get_caller_identity()['Arn'])"
            out = subprocess.run(["python3", "-c", code], env=dict(env, AWS_CONFIG_FILE=f.name), capture_output=True, text=True, timeout=60)
        self.assertRegex(out.stdout, f"^arn:aws:sts::{ACCOUNT}:assumed-role/{self.role}/botocore-session-", out.stderr)
