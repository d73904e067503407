"""IAM and STS: roles, policies, and who is calling."""

import json

from botocore.exceptions import ClientError

from suite import ACCOUNT, Case, client, iam, lam, sts

TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


class Base(Case):
    def role(self, **arguments):
        arguments = {**dict(RoleName=self.name("role"), AssumeRolePolicyDocument=json.dumps(TRUST)), **arguments}
        role = iam.create_role(**arguments)["Role"]
        self.addCleanup(self.remove_role, role["RoleName"])
        return role

    def remove_role(self, name):
        try:
            for p in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=name, PolicyArn=p["PolicyArn"])
            for p in iam.list_role_policies(RoleName=name)["PolicyNames"]:
                iam.delete_role_policy(RoleName=name, PolicyName=p)
            iam.delete_role(RoleName=name)
        except iam.exceptions.NoSuchEntityException:
            pass

    def policy(self, document=ALLOW, **arguments):
        policy = iam.create_policy(**{**dict(PolicyName=self.name("policy"), PolicyDocument=json.dumps(document)), **arguments})["Policy"]
        self.addCleanup(self.remove_policy, policy["Arn"])
        return policy

    def remove_policy(self, arn):
        try:
            holders = iam.list_entities_for_policy(PolicyArn=arn, PolicyUsageFilter="PermissionsPolicy")
            bounded = iam.list_entities_for_policy(PolicyArn=arn, PolicyUsageFilter="PermissionsBoundary")
            for u in holders["PolicyUsers"]:
                iam.detach_user_policy(UserName=u["UserName"], PolicyArn=arn)
            for g in holders["PolicyGroups"]:
                iam.detach_group_policy(GroupName=g["GroupName"], PolicyArn=arn)
            for r in holders["PolicyRoles"]:
                iam.detach_role_policy(RoleName=r["RoleName"], PolicyArn=arn)
            for u in bounded["PolicyUsers"]:
                iam.delete_user_permissions_boundary(UserName=u["UserName"])
            for r in bounded["PolicyRoles"]:
                iam.delete_role_permissions_boundary(RoleName=r["RoleName"])
            for v in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
                if not v["IsDefaultVersion"]:
                    iam.delete_policy_version(PolicyArn=arn, VersionId=v["VersionId"])
            iam.delete_policy(PolicyArn=arn)
        except ClientError:
            pass

    def no_entity(self, message):
        return self.refused("NoSuchEntity", 404, message)


class Roles(Base):
    def test_life(self):
        role = self.role(Path="/a/b/", Description="d", MaxSessionDuration=7200, Tags=[{"Key": "k", "Value": "v"}])
        name = role["RoleName"]
        self.assertEqual(f"arn:aws:iam::{ACCOUNT}:role/a/b/{name}", role["Arn"])
        self.assertRegex(role["RoleId"], r"^AROA[A-Z0-9]{17}$")
        got = iam.get_role(RoleName=name)["Role"]
        self.assertEqual((TRUST, "d", 7200, [{"Key": "k", "Value": "v"}]), tuple(got[k] for k in ("AssumeRolePolicyDocument", "Description", "MaxSessionDuration", "Tags")))
        self.assertEqual({}, got["RoleLastUsed"])
        self.assertEqual(role["CreateDate"], got["CreateDate"])
        iam.update_role(RoleName=name, Description="e", MaxSessionDuration=3600)
        other = {**TRUST, "Statement": [{**TRUST["Statement"][0], "Principal": {"AWS": ACCOUNT}}]}
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(other))
        got = iam.get_role(RoleName=name)["Role"]
        self.assertEqual(("e", 3600, other), (got["Description"], got["MaxSessionDuration"], got["AssumeRolePolicyDocument"]))
        iam.delete_role(RoleName=name)
        with self.no_entity(f"The role with name {name} cannot be found."):
            iam.get_role(RoleName=name)

    def test_waiter(self):
        w = iam.get_waiter("role_exists")
        w.config.delay = 0.02
        w.wait(RoleName=self.role()["RoleName"])

    def test_refused(self):
        name = self.role()["RoleName"]
        create = lambda **a: iam.create_role(**{**dict(RoleName=self.name("role"), AssumeRolePolicyDocument=json.dumps(TRUST)), **a})
        with self.refused("EntityAlreadyExists", 409, f"Role with name {name} already exists."):
            create(RoleName=name)
        with self.refused("EntityAlreadyExists", 409):
            create(RoleName=name.upper())
        for bad in "{}", "not json", json.dumps({**TRUST, "Version": "2011-01-01"}), json.dumps({**TRUST, "Statement": [{"Effect": "Perhaps"}]}):
            with self.subTest(bad), self.refused("MalformedPolicyDocument", 400):
                create(AssumeRolePolicyDocument=bad)
        with self.refused("ValidationError", 400, "^1 validation error detected: Value.* at 'roleName' failed to satisfy constraint"):
            create(RoleName="a b")
        with self.refused("ValidationError", 400, "^1 validation error detected: Value.* at 'maxSessionDuration' failed to satisfy constraint: Member must have value greater than or equal to 3600"):
            create(MaxSessionDuration=60)
        with self.no_entity("The role with name nope cannot be found."):
            iam.delete_role(RoleName="nope")

    def test_paging(self):
        path = f"/{self.name('path')}/"
        names = sorted(self.role(Path=path)["RoleName"] for _ in range(5))
        pages = list(iam.get_paginator("list_roles").paginate(PathPrefix=path, PaginationConfig={"PageSize": 2}))
        self.assertEqual([2, 2, 1], [len(p["Roles"]) for p in pages])
        self.assertEqual(names, [r["RoleName"] for p in pages for r in p["Roles"]])
        self.assertEqual([True, True, False], [p["IsTruncated"] for p in pages])

    def test_tags(self):
        name = self.role()["RoleName"]
        iam.tag_role(RoleName=name, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
        iam.tag_role(RoleName=name, Tags=[{"Key": "a", "Value": "2"}])
        iam.untag_role(RoleName=name, TagKeys=["b"])
        self.assertEqual([{"Key": "a", "Value": "2"}], iam.list_role_tags(RoleName=name)["Tags"])

    def test_boundary(self):
        name = self.role(PermissionsBoundary=BASIC)["RoleName"]
        self.assertEqual({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": BASIC}, iam.get_role(RoleName=name)["Role"]["PermissionsBoundary"])
        iam.delete_role_permissions_boundary(RoleName=name)
        self.assertNotIn("PermissionsBoundary", iam.get_role(RoleName=name)["Role"])

    def test_instance_profiles(self):
        self.assertEqual([], iam.list_instance_profiles_for_role(RoleName=self.role()["RoleName"])["InstanceProfiles"])


class RolePolicies(Base):
    def test_inline(self):
        name = self.role()["RoleName"]
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(ALLOW))
        got = iam.get_role_policy(RoleName=name, PolicyName="p")
        self.assertEqual((name, "p", ALLOW), (got["RoleName"], got["PolicyName"], got["PolicyDocument"]))
        self.assertEqual(["p"], iam.list_role_policies(RoleName=name)["PolicyNames"])
        with self.refused("DeleteConflict", 409, "Cannot delete entity, must delete policies first."):
            iam.delete_role(RoleName=name)
        with self.refused("MalformedPolicyDocument", 400):
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3"}]}')
        iam.delete_role_policy(RoleName=name, PolicyName="p")
        with self.no_entity("The role policy with name p cannot be found."):
            iam.get_role_policy(RoleName=name, PolicyName="p")

    def test_attached(self):
        name, policy = self.role()["RoleName"], self.policy()
        for arn in BASIC, policy["Arn"], BASIC:
            iam.attach_role_policy(RoleName=name, PolicyArn=arn)
        got = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        self.assertEqual({BASIC, policy["Arn"]}, {p["PolicyArn"] for p in got})
        self.assertEqual(2, len(got))
        self.assertEqual(1, iam.get_policy(PolicyArn=policy["Arn"])["Policy"]["AttachmentCount"])
        self.assertEqual([name], [r["RoleName"] for r in iam.list_entities_for_policy(PolicyArn=policy["Arn"])["PolicyRoles"]])
        with self.refused("DeleteConflict", 409, "Cannot delete a policy attached to entities."):
            iam.delete_policy(PolicyArn=policy["Arn"])
        with self.refused("DeleteConflict", 409, "Cannot delete entity, must detach all policies first."):
            iam.delete_role(RoleName=name)
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["Arn"])
        with self.no_entity(f"Policy {policy['Arn']} was not found."):
            iam.detach_role_policy(RoleName=name, PolicyArn=policy["Arn"])
        gone = f"arn:aws:iam::{ACCOUNT}:policy/nope"
        with self.no_entity(f"Policy {gone} does not exist or is not attachable."):
            iam.attach_role_policy(RoleName=name, PolicyArn=gone)


class Policies(Base):
    def test_versions(self):
        policy = self.policy(Description="d")
        arn = policy["Arn"]
        self.assertRegex(policy["PolicyId"], r"^ANPA[A-Z0-9]{17}$")
        self.assertEqual(("v1", 0, True), (policy["DefaultVersionId"], policy["AttachmentCount"], policy["IsAttachable"]))
        self.assertEqual(ALLOW, iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"])
        made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(ALLOW), SetAsDefault=True)["PolicyVersion"]
        self.assertEqual(("v2", True), (made["VersionId"], made["IsDefaultVersion"]))
        with self.refused("DeleteConflict", 409, "Cannot delete the default version of a policy."):
            iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
        with self.refused("DeleteConflict", 409, "^This policy has more than one version."):
            iam.delete_policy(PolicyArn=arn)
        for _ in range(3):
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(ALLOW))
        with self.refused("LimitExceeded", 409, "^A managed policy can have up to 5 versions."):
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(ALLOW))
        iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
        self.assertEqual(["v5", "v4", "v3", "v2", "v1"], [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=arn)["Versions"]])
        pages = iam.get_paginator("list_policy_versions").paginate(PolicyArn=arn, PaginationConfig={"PageSize": 2})
        self.assertEqual([["v5", "v4"], ["v3", "v2"], ["v1"]], [[v["VersionId"] for v in p["Versions"]] for p in pages])
        iam.delete_policy_version(PolicyArn=arn, VersionId="v2")

    def test_refused(self):
        policy = self.policy()
        with self.refused("EntityAlreadyExists", 409, f"A policy called {policy['PolicyName']} already exists. Duplicate names are not allowed."):
            iam.create_policy(PolicyName=policy["PolicyName"], PolicyDocument=json.dumps(ALLOW))
        gone = f"arn:aws:iam::{ACCOUNT}:policy/nope"
        with self.no_entity(f"Policy {gone} was not found."):
            iam.get_policy(PolicyArn=gone)
        with self.refused("AccessDenied", 403):
            iam.delete_policy(PolicyArn=BASIC)

    def test_list(self):
        arn = self.policy()["Arn"]
        scope = lambda s: {p["Arn"] for page in iam.get_paginator("list_policies").paginate(Scope=s) for p in page["Policies"]}
        self.assertIn(arn, scope("Local"))
        self.assertNotIn(arn, scope("AWS"))
        self.assertIn(BASIC, scope("AWS"))

    def test_aws_managed(self):
        policy = iam.get_policy(PolicyArn=BASIC)["Policy"]
        document = iam.get_policy_version(PolicyArn=BASIC, VersionId=policy["DefaultVersionId"])["PolicyVersion"]["Document"]
        self.assertEqual({"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}, set(document["Statement"][0]["Action"]))


class Who(Base):
    def test_root(self):
        got = sts.get_caller_identity()
        self.assertEqual((ACCOUNT, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root"), (got["Account"], got["UserId"], got["Arn"]))

    def test_not_served_is_named(self):
        for call in lambda: sts.decode_authorization_message(EncodedMessage="x"),:
            with self.assertRaises(ClientError) as e:
                call()
            self.assertIn(e.exception.operation_name, e.exception.response["Error"]["Message"])
