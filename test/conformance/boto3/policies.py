"""IAM: documents that are refused, policies of AWS, simulation, and the account as a whole."""

import json

from identity import ALLOW, BASIC, TRUST, Base
from suite import ACCOUNT, iam

SYNTAX, LEGACY = "Syntax errors in policy.", "The policy failed legacy parsing"


def statement(**elements):
    """An identity policy of one statement; an element that is None is left out."""
    full = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", **elements}
    return json.dumps({"Version": "2012-10-17", "Statement": [{k: v for k, v in full.items() if v is not None}]})


def trust(**elements):
    full = {**TRUST["Statement"][0], **elements}
    return json.dumps({"Version": "2012-10-17", "Statement": [{k: v for k, v in full.items() if v is not None}]})


# Documents of identity policies, and what IAM says of them.
MALFORMED = [
    ("not json", SYNTAX),
    ("{}", SYNTAX),
    ("[]", SYNTAX),
    ('"x"', SYNTAX),
    (json.dumps({**ALLOW, "Version": "2011-01-01"}), SYNTAX),
    (json.dumps({**ALLOW, "Statement": []}), SYNTAX),
    (json.dumps({**ALLOW, "Extra": 1}), SYNTAX),
    (statement()[:-1], SYNTAX),
    (statement() + "{}", SYNTAX),
    ('{"Version":"2012-10-17","Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}', SYNTAX),
    (statement(Effect=None), "Missing required field Effect"),
    (statement(Effect="allow"), "Invalid effect: allow"),
    (statement(Action=None), "Policy statement must contain actions."),
    (statement(Action=[]), "Policy statement must contain actions."),
    (statement(Action="GetObject"), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."),
    (statement(Action="s3:Get:Object"), "Actions/Condition can contain only one colon."),
    (statement(Action="s*:GetObject"), "Vendor s* is not valid"),
    (statement(Action=7), SYNTAX),
    (statement(NotAction="s3:*"), SYNTAX),
    (statement(Resource=None), "Policy statement must contain resources."),
    (statement(Resource=[]), "Policy statement must contain resources."),
    (statement(Resource="bucket"), 'Resource bucket must be in ARN format or "*".'),
    (statement(Resource="arn:nowhere:s3:::b"), 'Partition "nowhere" is not valid for resource "arn:nowhere:s3:::b".'),
    (statement(Resource="arn:aws:s*:::b"), "Resource vendor must be fully qualified and cannot contain regexes."),
    (statement(Resource="arn:aws::::b"), LEGACY),
    (statement(Resource="arn:aws:s3:us-east-1::b"), "Resource arn:aws:s3:us-east-1::b can not contain region information."),
    (statement(Resource="arn:aws:iam:us-east-1:111111111111:role/r"), "IAM resource arn:aws:iam:us-east-1:111111111111:role/r cannot contain region information."),
    (statement(Resource="arn:aws:iam::111111111111:nothing/r"), '^IAM resource path must either be "\\*" or start with user/'),
    (statement(NotResource="*"), SYNTAX),
    (statement(Sid="a b"), "Statement IDs (SID) can only contain letters and digits."),
    (json.dumps({**ALLOW, "Statement": [{**ALLOW["Statement"][0], "Sid": "a"}] * 2}), "Statement IDs (SID) in a single policy must be unique."),
    (statement(Principal="*"), "Policy document should not specify a principal."),
    (statement(Condition={"StringEqual": {"aws:username": "a"}}), SYNTAX),
    (statement(Condition={"aws:username": "a"}), SYNTAX),
    (statement(Condition=[]), SYNTAX),
    (statement(Condition={"StringEquals": {"aws:username": {"a": "b"}}}), SYNTAX),
    (statement(Condition={"DateLessThan": {"aws:CurrentTime": "tomorrow"}}), LEGACY),
    (statement(Condition={"NumericEquals": {"s3:max-keys": "ten"}}), LEGACY),
    (statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}), LEGACY),
    (statement(Condition={"Bool": {"aws:SecureTransport": "yes"}}), LEGACY),
    (statement(Unknown="x"), SYNTAX),
    ('{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}"}}', "Policy document must be version 2012-10-17 or greater."),
]

# Documents of trust policies, and what IAM says of them.
MALFORMED_TRUST = [
    ("not json", "This policy contains invalid Json"),
    (trust(Principal=None), "Missing required field Principal"),
    (trust(Resource="*"), "Has prohibited field Resource"),
    (trust(Action="s3:GetObject"), "AssumeRole policy may only specify STS AssumeRole actions."),
    (trust(Principal="lambda.amazonaws.com"), 'Invalid principal in policy: "STAR":"lambda.amazonaws.com"'),
    (trust(Principal={"AWS": "12345"}), 'Invalid principal in policy: "AWS":"12345"'),
    (trust(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:group/g"}), f'Invalid principal in policy: "AWS":"arn:aws:iam::{ACCOUNT}:group/g"'),
    (trust(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:user/*"}), f'Invalid principal in policy: "AWS":"arn:aws:iam::{ACCOUNT}:user/*"'),
    (trust(Principal={"Service": "lambda"}), 'Invalid principal in policy: "SERVICE":"lambda"'),
    (trust(Principal={"Nobody": "x"}), "Invalid principal in policy"),
]


class Malformed(Base):
    def each(self, documents, *stores):
        for document, message in documents:
            for store in stores:
                with self.subTest(document), self.refused("MalformedPolicyDocument", 400, message):
                    store(document)

    def test_identity(self):
        role, arn = self.role()["RoleName"], self.policy()["Arn"]
        self.each(
            MALFORMED,
            lambda d: iam.create_policy(PolicyName=self.name("policy"), PolicyDocument=d),
            lambda d: iam.create_policy_version(PolicyArn=arn, PolicyDocument=d),
            lambda d: iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=d),
        )
        self.assertEqual([], iam.list_role_policies(RoleName=role)["PolicyNames"])
        self.assertEqual(1, len(iam.list_policy_versions(PolicyArn=arn)["Versions"]))

    def test_trust(self):
        role = self.role()["RoleName"]
        self.each(
            MALFORMED_TRUST,
            lambda d: iam.create_role(RoleName=self.name("role"), AssumeRolePolicyDocument=d),
            lambda d: iam.update_assume_role_policy(RoleName=role, PolicyDocument=d),
        )
        self.assertEqual(TRUST, iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"])

    def test_sizes(self):
        role = self.role()["RoleName"]
        many = lambda n: json.dumps({**ALLOW, "Statement": {**ALLOW["Statement"][0], "Action": ["s3:GetObject"] * n}}, indent=2)
        with self.refused("LimitExceeded", 409, "Cannot exceed quota for PolicySize: 6144"):
            iam.create_policy(PolicyName=self.name("policy"), PolicyDocument=many(410))
        self.policy(json.loads(many(390)))  # white space is not counted
        with self.refused("LimitExceeded", 409, f"Maximum policy size of 10240 bytes exceeded for role {role}"):
            iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=many(700))
        iam.put_role_policy(RoleName=role, PolicyName="half", PolicyDocument=many(400))
        with self.refused("LimitExceeded", 409, f"Maximum policy size of 10240 bytes exceeded for role {role}"):
            iam.put_role_policy(RoleName=role, PolicyName="other", PolicyDocument=many(400))
        iam.put_role_policy(RoleName=role, PolicyName="half", PolicyDocument=many(500))  # in its place
        with self.refused("LimitExceeded", 409, "Cannot exceed quota for ACLSizePerRole: 2048"):
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust(Principal={"Service": [f"s{i}.example.com" for i in range(120)]}))


class OfAWS(Base):
    def test_those_of_serverless_templates(self):
        for path, names in {
            "": """AWSLambda_FullAccess AWSLambda_ReadOnlyAccess AWSLambdaExecute AWSLambdaInvocation-DynamoDB AWSXRayDaemonWriteAccess AWSXrayWriteOnlyAccess
                CloudWatchLambdaInsightsExecutionRolePolicy AdministratorAccess PowerUserAccess ReadOnlyAccess IAMFullAccess IAMReadOnlyAccess AmazonS3FullAccess
                AmazonS3ReadOnlyAccess AmazonSQSFullAccess AmazonSQSReadOnlyAccess AmazonSNSFullAccess AmazonSNSReadOnlyAccess AmazonDynamoDBFullAccess
                AmazonDynamoDBReadOnlyAccess AmazonKinesisFullAccess AmazonKinesisReadOnlyAccess CloudWatchLogsFullAccess CloudWatchLogsReadOnlyAccess
                CloudWatchFullAccess AWSStepFunctionsFullAccess AWSStepFunctionsReadOnlyAccess AWSStepFunctionsConsoleFullAccess AmazonEventBridgeFullAccess
                AmazonEventBridgeReadOnlyAccess AmazonAPIGatewayInvokeFullAccess AmazonAPIGatewayAdministrator SecretsManagerReadWrite AmazonSSMFullAccess
                AmazonSSMReadOnlyAccess AmazonElasticFileSystemFullAccess AmazonElasticFileSystemClientReadWriteAccess AmazonMSKFullAccess""",
            "service-role/": """AWSLambdaBasicExecutionRole AWSLambdaVPCAccessExecutionRole AWSLambdaSQSQueueExecutionRole AWSLambdaKinesisExecutionRole
                AWSLambdaDynamoDBExecutionRole AWSLambdaMSKExecutionRole AWSLambdaENIManagementAccess AWSLambdaRole AmazonAPIGatewayPushToCloudWatchLogs
                AWSCodeDeployRoleForLambda AWSCodeDeployRoleForLambdaLimited""",
        }.items():
            for name in names.split():
                with self.subTest(name):
                    arn = f"arn:aws:iam::aws:policy/{path}{name}"
                    policy = iam.get_policy(PolicyArn=arn)["Policy"]
                    self.assertEqual((name, arn, "/" + path), (policy["PolicyName"], policy["Arn"], policy["Path"]))
                    version = iam.get_policy_version(PolicyArn=arn, VersionId=policy["DefaultVersionId"])["PolicyVersion"]
                    self.assertTrue(version["IsDefaultVersion"] and version["Document"]["Statement"])

    def test_counted(self):
        arn = "arn:aws:iam::aws:policy/AmazonSESReadOnlyAccess"
        role = self.role(PermissionsBoundary=arn)["RoleName"]
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        policy = iam.get_policy(PolicyArn=arn)["Policy"]
        self.assertEqual((1, 1), (policy["AttachmentCount"], policy["PermissionsBoundaryUsageCount"]))
        used = [p["Arn"] for page in iam.get_paginator("list_policies").paginate(Scope="AWS", OnlyAttached=True) for p in page["Policies"]]
        self.assertIn(arn, used)
        self.assertNotIn("arn:aws:iam::aws:policy/AmazonSESFullAccess", used)

    def test_unchangeable(self):
        document = json.dumps(ALLOW)
        for change in (
            lambda: iam.delete_policy(PolicyArn=BASIC),
            lambda: iam.create_policy_version(PolicyArn=BASIC, PolicyDocument=document),
            lambda: iam.set_default_policy_version(PolicyArn=BASIC, VersionId="v1"),
            lambda: iam.tag_policy(PolicyArn=BASIC, Tags=[{"Key": "k", "Value": "v"}]),
        ):
            with self.refused("AccessDenied", 403):
                change()

    def test_scopes(self):
        arn = self.policy(Path="/scope/")["Arn"]
        got = lambda **a: {p["Arn"] for page in iam.get_paginator("list_policies").paginate(PaginationConfig={"PageSize": 50}, **a) for p in page["Policies"]}
        self.assertLessEqual({arn, BASIC}, got())
        self.assertTrue(all(a.startswith("arn:aws:iam::aws:") for a in got(Scope="AWS")))
        self.assertTrue(all(a.startswith(f"arn:aws:iam::{ACCOUNT}:") for a in got(Scope="Local")))
        self.assertEqual({arn}, got(PathPrefix="/scope/"))
        self.assertNotIn(arn, got(OnlyAttached=True))


class Simulation(Base):
    def verdicts(self, answer):
        return {(r["EvalActionName"], r["EvalResourceName"]): r["EvalDecision"] for r in answer["EvaluationResults"]}

    def test_custom(self):
        deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"}]}
        allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*Object", "Resource": "arn:aws:s3:::b/*"}]}
        actions = ["s3:GetObject", "s3:DeleteObject", "s3:ListBucket"]
        answer = iam.simulate_custom_policy(PolicyInputList=[json.dumps(allow), json.dumps(deny)], ActionNames=actions, ResourceArns=["arn:aws:s3:::b/k"])
        self.assertEqual({(a, "arn:aws:s3:::b/k"): d for a, d in zip(actions, ["allowed", "explicitDeny", "implicitDeny"])}, self.verdicts(answer))
        matched = {r["EvalActionName"]: [m["SourcePolicyId"] for m in r["MatchedStatements"]] for r in answer["EvaluationResults"]}
        self.assertEqual({"s3:GetObject": ["PolicyInputList.1"], "s3:DeleteObject": ["PolicyInputList.2"], "s3:ListBucket": []}, matched)
        first = answer["EvaluationResults"][0]
        start, end = (first["MatchedStatements"][0][p] for p in ("StartPosition", "EndPosition"))
        self.assertEqual((1, 1), (start["Line"], end["Line"]))
        text = json.dumps(allow)
        self.assertEqual(json.dumps(allow["Statement"][0]), text[start["Column"] - 1 : end["Column"] - 1])
        self.assertNotIn("OrganizationsDecisionDetail", first)

    def test_context(self):
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"StringEquals": {"aws:username": "alice"}}}]})
        self.assertEqual(["aws:username"], [k.lower() for k in iam.get_context_keys_for_custom_policy(PolicyInputList=[document])["ContextKeyNames"]])
        ask = lambda **a: iam.simulate_custom_policy(PolicyInputList=[document], ActionNames=["s3:GetObject"], **a)["EvaluationResults"][0]
        without = ask()
        self.assertEqual(("implicitDeny", ["aws:username"]), (without["EvalDecision"], [k.lower() for k in without["MissingContextValues"]]))
        entry = {"ContextKeyName": "aws:username", "ContextKeyType": "string", "ContextKeyValues": ["alice"]}
        given = ask(ContextEntries=[entry])
        self.assertEqual(("allowed", []), (given["EvalDecision"], given["MissingContextValues"]))

    def test_principal(self):
        role = self.role(PermissionsBoundary=self.policy()["Arn"])
        iam.put_role_policy(RoleName=role["RoleName"], PolicyName="all", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}))
        answer = iam.simulate_principal_policy(PolicySourceArn=role["Arn"], ActionNames=["s3:GetObject", "s3:PutObject"])
        self.assertEqual(["allowed", "implicitDeny"], [r["EvalDecision"] for r in answer["EvaluationResults"]])
        self.assertEqual([True, False], [r["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"] for r in answer["EvaluationResults"]])
        with self.no_entity("The role with name nobody cannot be found."):
            iam.simulate_principal_policy(PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:role/nobody", ActionNames=["s3:GetObject"])
        with self.refused("InvalidInput", 400):
            iam.simulate_principal_policy(PolicySourceArn="arn:aws:s3:::bucket-of-somebody", ActionNames=["s3:GetObject"])

    def test_resource_policy(self):
        caller = f"arn:aws:iam::{ACCOUNT}:user/someone"
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": caller}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b/*"}]}
        answer = iam.simulate_custom_policy(
            PolicyInputList=[json.dumps(ALLOW)], ActionNames=["s3:PutObject", "s3:DeleteObject"], ResourceArns=["arn:aws:s3:::b/k"],
            ResourcePolicy=json.dumps(policy), CallerArn=caller, ResourceOwner=f"arn:aws:iam::{ACCOUNT}:root")
        self.assertEqual(["allowed", "implicitDeny"], [r["EvalDecision"] for r in answer["EvaluationResults"]])

    def test_pages(self):
        pages = list(iam.get_paginator("simulate_custom_policy").paginate(
            PolicyInputList=[json.dumps(ALLOW)], ActionNames=[f"s3:Get{i}" for i in range(5)], PaginationConfig={"PageSize": 2}))
        self.assertEqual([2, 2, 1], [len(p["EvaluationResults"]) for p in pages])

    def test_malformed(self):
        with self.refused("InvalidInput", 400):
            iam.simulate_custom_policy(PolicyInputList=["not json"], ActionNames=["s3:GetObject"])


class Account(Base):
    def test_alias(self):
        for alias in self.name("alias"), self.name("alias"):
            iam.create_account_alias(AccountAlias=alias)
            self.assertEqual([alias], iam.list_account_aliases()["AccountAliases"])
        iam.delete_account_alias(AccountAlias=alias)
        self.assertEqual([], iam.list_account_aliases()["AccountAliases"])
        with self.no_entity(f"The account alias with name {alias} cannot be found."):
            iam.delete_account_alias(AccountAlias=alias)

    def test_summary(self):
        self.role(), self.policy()
        got = iam.get_account_summary()["SummaryMap"]
        self.assertGreater(got["Roles"], 0)
        self.assertGreater(got["Policies"], 0)
        self.assertEqual((6144, 5, 2048), tuple(got[k] for k in ("PolicySizeQuota", "VersionsPerPolicyQuota", "AssumeRolePolicySizeQuota")))

    def test_authorization_details(self):
        role, policy = self.role(), self.policy()
        for arn in policy["Arn"], BASIC:
            iam.attach_role_policy(RoleName=role["RoleName"], PolicyArn=arn)
        pages = list(iam.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 3}))
        found = next(r for p in pages for r in p["RoleDetailList"] if r["Arn"] == role["Arn"])
        self.assertEqual(TRUST, found["AssumeRolePolicyDocument"])
        self.assertEqual({policy["Arn"], BASIC}, {p["PolicyArn"] for p in found["AttachedManagedPolicies"]})
        policies = {d["Arn"]: d for p in pages for d in p["Policies"]}
        self.assertEqual(ALLOW, policies[policy["Arn"]]["PolicyVersionList"][0]["Document"])
        self.assertIn(BASIC, policies)
        only = iam.get_account_authorization_details(Filter=["Role"])
        self.assertEqual(([], [], []), (only["UserDetailList"], only["GroupDetailList"], only["Policies"]))
