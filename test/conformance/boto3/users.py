"""IAM: users, groups, access keys, instance profiles, identity providers, service-linked roles."""

import json

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from identity import ALLOW, BASIC, TRUST, Base
from suite import ACCOUNT, ENDPOINT, REGION, eventually, iam

ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


class People(Base):
    def user(self, **arguments):
        user = iam.create_user(**{**dict(UserName=self.name("user")), **arguments})["User"]
        self.addCleanup(self.remove_user, user["UserName"])
        return user

    def remove_user(self, name):
        try:
            for k in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
                iam.delete_access_key(UserName=name, AccessKeyId=k["AccessKeyId"])
            for g in iam.list_groups_for_user(UserName=name)["Groups"]:
                iam.remove_user_from_group(UserName=name, GroupName=g["GroupName"])
            for p in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]:
                iam.detach_user_policy(UserName=name, PolicyArn=p["PolicyArn"])
            for p in iam.list_user_policies(UserName=name)["PolicyNames"]:
                iam.delete_user_policy(UserName=name, PolicyName=p)
            iam.delete_user(UserName=name)
        except iam.exceptions.NoSuchEntityException:
            pass

    def group(self, **arguments):
        group = iam.create_group(**{**dict(GroupName=self.name("group")), **arguments})["Group"]
        self.addCleanup(self.remove_group, group["GroupName"])
        return group

    def remove_group(self, name):
        try:
            for u in iam.get_group(GroupName=name)["Users"]:
                iam.remove_user_from_group(UserName=u["UserName"], GroupName=name)
            for p in iam.list_attached_group_policies(GroupName=name)["AttachedPolicies"]:
                iam.detach_group_policy(GroupName=name, PolicyArn=p["PolicyArn"])
            for p in iam.list_group_policies(GroupName=name)["PolicyNames"]:
                iam.delete_group_policy(GroupName=name, PolicyName=p)
            iam.delete_group(GroupName=name)
        except iam.exceptions.NoSuchEntityException:
            pass

    def as_user(self, key, service):
        return boto3.client(service, aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], endpoint_url=ENDPOINT, region_name=REGION,
                            config=Config(retries={"total_max_attempts": 1}))


class Users(People):
    def test_life(self):
        user = self.user(Path="/people/", Tags=[{"Key": "k", "Value": "v"}], PermissionsBoundary=ADMIN)
        name = user["UserName"]
        self.assertEqual(f"arn:aws:iam::{ACCOUNT}:user/people/{name}", user["Arn"])
        self.assertRegex(user["UserId"], r"^AIDA[A-Z0-9]{17}$")
        got = iam.get_user(UserName=name)["User"]
        self.assertEqual([{"Key": "k", "Value": "v"}], got["Tags"])
        self.assertEqual(ADMIN, got["PermissionsBoundary"]["PermissionsBoundaryArn"])
        iam.delete_user_permissions_boundary(UserName=name)
        self.assertNotIn("PermissionsBoundary", iam.get_user(UserName=name)["User"])
        iam.tag_user(UserName=name, Tags=[{"Key": "K", "Value": "w"}])
        self.assertEqual([{"Key": "K", "Value": "w"}], iam.list_user_tags(UserName=name)["Tags"])
        iam.untag_user(UserName=name, TagKeys=["k"])
        self.assertEqual([], iam.list_user_tags(UserName=name)["Tags"])
        w = iam.get_waiter("user_exists")
        w.config.delay = 0.02
        w.wait(UserName=name)
        with self.refused("EntityAlreadyExists", 409, f"User with name {name.upper()} already exists."):
            iam.create_user(UserName=name.upper())
        iam.delete_user(UserName=name)
        with self.no_entity(f"The user with name {name} cannot be found."):
            iam.get_user(UserName=name)

    def test_rename(self):
        name, group, new = self.user()["UserName"], self.group()["GroupName"], self.name("renamed")
        self.addCleanup(self.remove_user, new)
        iam.add_user_to_group(UserName=name, GroupName=group)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        iam.update_user(UserName=name, NewUserName=new, NewPath="/moved/")
        self.assertEqual(f"arn:aws:iam::{ACCOUNT}:user/moved/{new}", self.as_user(key, "sts").get_caller_identity()["Arn"])
        self.assertEqual([new], [u["UserName"] for u in iam.get_group(GroupName=group)["Users"]])
        with self.no_entity(f"The user with name {name} cannot be found."):
            iam.get_user(UserName=name)

    def test_conflicts(self):
        name, group = self.user()["UserName"], self.group()["GroupName"]
        key = iam.create_access_key(UserName=name)["AccessKey"]["AccessKeyId"]
        iam.add_user_to_group(UserName=name, GroupName=group)
        iam.attach_user_policy(UserName=name, PolicyArn=BASIC)
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(ALLOW))
        steps = [
            ("Cannot delete entity, must delete access keys first.", lambda: iam.delete_access_key(UserName=name, AccessKeyId=key)),
            ("Cannot delete entity, must remove users from group first.", lambda: iam.remove_user_from_group(UserName=name, GroupName=group)),
            ("Cannot delete entity, must detach all policies first.", lambda: iam.detach_user_policy(UserName=name, PolicyArn=BASIC)),
            ("Cannot delete entity, must delete policies first.", lambda: iam.delete_user_policy(UserName=name, PolicyName="p")),
        ]
        for message, remedy in steps:
            with self.refused("DeleteConflict", 409, message):
                iam.delete_user(UserName=name)
            remedy()
        iam.delete_user(UserName=name)

    def test_paging(self):
        path = f"/{self.name('path')}/"
        names = sorted(self.user(Path=path)["UserName"] for _ in range(5))
        pages = list(iam.get_paginator("list_users").paginate(PathPrefix=path, PaginationConfig={"PageSize": 2}))
        self.assertEqual([2, 2, 1], [len(p["Users"]) for p in pages])
        self.assertEqual(names, [u["UserName"] for p in pages for u in p["Users"]])

    def test_limits(self):
        name = self.user()["UserName"]
        for i in range(10):
            iam.attach_user_policy(UserName=name, PolicyArn=self.policy()["Arn"])
        with self.refused("LimitExceeded", 409, "Cannot exceed quota for PoliciesPerUser: 10"):
            iam.attach_user_policy(UserName=name, PolicyArn=BASIC)
        large = {**ALLOW, "Statement": [{**ALLOW["Statement"][0], "Action": ["s3:GetObject"] * 140}]}
        with self.refused("LimitExceeded", 409, f"Maximum policy size of 2048 bytes exceeded for user {name}"):
            iam.put_user_policy(UserName=name, PolicyName="large", PolicyDocument=json.dumps(large))
        for _ in range(2):
            iam.create_access_key(UserName=name)
        with self.refused("LimitExceeded", 409, "Cannot exceed quota for AccessKeysPerUser: 2"):
            iam.create_access_key(UserName=name)
        tags = [{"Key": f"k{i}", "Value": ""} for i in range(50)]
        iam.tag_user(UserName=name, Tags=tags)
        with self.refused("LimitExceeded", 409):
            iam.tag_user(UserName=name, Tags=[{"Key": "one more", "Value": ""}])
        groups = [self.group()["GroupName"] for _ in range(11)]
        for g in groups[:10]:
            iam.add_user_to_group(UserName=name, GroupName=g)
        with self.refused("LimitExceeded", 409, "Cannot exceed quota for GroupsPerUser: 10"):
            iam.add_user_to_group(UserName=name, GroupName=groups[10])

    def test_keys(self):
        name = self.user()["UserName"]
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.assertRegex(key["AccessKeyId"], r"^AKIA[A-Z0-9]{16}$")
        self.assertEqual(40, len(key["SecretAccessKey"]))
        listed = iam.list_access_keys(UserName=name)["AccessKeyMetadata"]
        self.assertEqual([(key["AccessKeyId"], "Active")], [(k["AccessKeyId"], k["Status"]) for k in listed])
        self.assertNotIn("SecretAccessKey", listed[0])
        self.assertNotIn("LastUsedDate", iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"])

        me = self.as_user(key, "sts")
        self.assertEqual(f"arn:aws:iam::{ACCOUNT}:user/{name}", me.get_caller_identity()["Arn"])
        used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
        self.assertEqual(name, used["UserName"])
        self.assertIn("LastUsedDate", used["AccessKeyLastUsed"])

        iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
        with self.refused("InvalidClientTokenId", 403):
            me.get_caller_identity()
        iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Active")
        me.get_caller_identity()
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        with self.refused("InvalidClientTokenId", 403):
            me.get_caller_identity()
        with self.no_entity(f"The Access Key with id {key['AccessKeyId']} cannot be found."):
            iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Active")

    def test_own_keys(self):
        """Operations on keys without a name mean the caller."""
        name = self.user()["UserName"]
        iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/IAMFullAccess")
        me = self.as_user(iam.create_access_key(UserName=name)["AccessKey"], "iam")
        self.assertEqual(name, me.get_user()["User"]["UserName"])
        second = me.create_access_key()["AccessKey"]
        self.assertEqual(name, second["UserName"])
        self.assertEqual(2, len(me.list_access_keys()["AccessKeyMetadata"]))
        me.delete_access_key(AccessKeyId=second["AccessKeyId"])

    def test_effect(self):
        """What a user may do changes with its policies, those of its groups and its boundary, at once."""
        name, group = self.user()["UserName"], self.group()["GroupName"]
        me = self.as_user(iam.create_access_key(UserName=name)["AccessKey"], "iam")

        def may():
            try:
                me.list_roles(MaxItems=1)
                return True
            except ClientError as e:
                self.assertEqual("AccessDenied", e.response["Error"]["Code"])
                return False

        self.assertFalse(may())
        iam.put_group_policy(GroupName=group, PolicyName="list", PolicyDocument=json.dumps({**ALLOW, "Statement": [{"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*"}]}))
        self.assertFalse(may())
        iam.add_user_to_group(UserName=name, GroupName=group)
        self.assertTrue(may())
        iam.put_user_permissions_boundary(UserName=name, PermissionsBoundary=self.policy()["Arn"])
        self.assertFalse(may())
        iam.put_user_permissions_boundary(UserName=name, PermissionsBoundary=ADMIN)
        self.assertTrue(may())
        iam.put_user_policy(UserName=name, PolicyName="not", PolicyDocument=json.dumps({**ALLOW, "Statement": [{"Effect": "Deny", "Action": "iam:List*", "Resource": "*"}]}))
        self.assertFalse(may())
        iam.delete_user_policy(UserName=name, PolicyName="not")
        iam.remove_user_from_group(UserName=name, GroupName=group)
        self.assertFalse(may())
        iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
        self.assertTrue(may())

    def test_recreated_role(self):
        """Who holds a session of a role that was deleted gets nothing from another one of its name."""
        user = self.user()
        iam.put_user_policy(UserName=user["UserName"], PolicyName="assume", PolicyDocument=json.dumps({**ALLOW, "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}))
        me = self.as_user(iam.create_access_key(UserName=user["UserName"])["AccessKey"], "sts")
        name, trust = self.name("role"), {**TRUST, "Statement": [{**TRUST["Statement"][0], "Principal": {"AWS": user["Arn"]}}]}

        def make():
            arn = self.role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Arn"]
            iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
            return arn

        def session(arn):
            c = me.assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
            return boto3.client("iam", aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"],
                                endpoint_url=ENDPOINT, region_name=REGION, config=Config(retries={"total_max_attempts": 1}))

        old = session(make())
        old.list_groups()
        self.remove_role(name)
        with self.refused("AccessDenied", 403):
            old.list_groups()
        new = session(make())
        new.list_groups()
        with self.refused("InvalidClientTokenId", 403, "The security token included in the request is invalid."):
            old.list_groups()

    def test_no_other_credentials(self):
        name = self.user()["UserName"]
        self.assertEqual([], iam.list_mfa_devices(UserName=name)["MFADevices"])
        self.assertEqual([], iam.list_ssh_public_keys(UserName=name)["SSHPublicKeys"])
        self.assertEqual([], iam.list_signing_certificates(UserName=name)["Certificates"])
        self.assertEqual([], iam.list_service_specific_credentials(UserName=name)["ServiceSpecificCredentials"])
        self.assertEqual([], iam.list_virtual_mfa_devices()["VirtualMFADevices"])
        with self.no_entity(f"Login Profile for User {name} cannot be found."):
            iam.delete_login_profile(UserName=name)
        with self.no_entity(f"The Password Policy with domain name {ACCOUNT} cannot be found."):
            iam.get_account_password_policy()


class Groups(People):
    def test_group(self):
        group = self.group(Path="/teams/")
        name = group["GroupName"]
        self.assertEqual(f"arn:aws:iam::{ACCOUNT}:group/teams/{name}", group["Arn"])
        self.assertRegex(group["GroupId"], r"^AGPA[A-Z0-9]{17}$")
        with self.refused("EntityAlreadyExists", 409):
            iam.create_group(GroupName=name.upper())
        users = sorted(self.user()["UserName"] for _ in range(3))
        for u in users + users[:1]:
            iam.add_user_to_group(GroupName=name, UserName=u)
        pages = list(iam.get_paginator("get_group").paginate(GroupName=name, PaginationConfig={"PageSize": 2}))
        self.assertEqual([users[:2], users[2:]], [[u["UserName"] for u in p["Users"]] for p in pages])
        self.assertEqual([name], [g["GroupName"] for g in iam.list_groups_for_user(UserName=users[0])["Groups"]])
        with self.refused("DeleteConflict", 409, "Cannot delete entity, must remove users from group first."):
            iam.delete_group(GroupName=name)
        with self.no_entity("The user with name nobody cannot be found."):
            iam.add_user_to_group(GroupName=name, UserName="nobody")
        with self.no_entity("The group with name nope cannot be found."):
            iam.add_user_to_group(GroupName="nope", UserName=users[0])

    def test_group_policies(self):
        name, arn = self.group()["GroupName"], self.policy()["Arn"]
        iam.attach_group_policy(GroupName=name, PolicyArn=arn)
        iam.put_group_policy(GroupName=name, PolicyName="p", PolicyDocument=json.dumps(ALLOW))
        self.assertEqual(ALLOW, iam.get_group_policy(GroupName=name, PolicyName="p")["PolicyDocument"])
        self.assertEqual([arn], [p["PolicyArn"] for p in iam.list_attached_group_policies(GroupName=name)["AttachedPolicies"]])
        self.assertEqual([name], [g["GroupName"] for g in iam.list_entities_for_policy(PolicyArn=arn, EntityFilter="Group")["PolicyGroups"]])
        iam.detach_group_policy(GroupName=name, PolicyArn=arn)
        iam.delete_group_policy(GroupName=name, PolicyName="p")
        with self.no_entity("The group policy with name p cannot be found."):
            iam.get_group_policy(GroupName=name, PolicyName="p")
        iam.delete_group(GroupName=name)


class InstanceProfiles(Base):
    def test_life(self):
        name, role = self.name("profile"), self.role()["RoleName"]
        made = iam.create_instance_profile(InstanceProfileName=name, Path="/p/", Tags=[{"Key": "k", "Value": "v"}])["InstanceProfile"]
        self.assertEqual((f"arn:aws:iam::{ACCOUNT}:instance-profile/p/{name}", []), (made["Arn"], made["Roles"]))
        self.assertRegex(made["InstanceProfileId"], r"^AIPA[A-Z0-9]{17}$")
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
        self.assertEqual([role], [r["RoleName"] for r in iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]])
        self.assertEqual([name], [p["InstanceProfileName"] for p in iam.list_instance_profiles_for_role(RoleName=role)["InstanceProfiles"]])
        with self.refused("LimitExceeded", 409):
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=self.role()["RoleName"])
        with self.refused("DeleteConflict", 409, "Cannot delete entity, must remove roles from instance profile first."):
            iam.delete_instance_profile(InstanceProfileName=name)
        with self.refused("DeleteConflict", 409, "Cannot delete entity, must remove roles from instance profile first."):
            iam.delete_role(RoleName=role)
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role)
        iam.untag_instance_profile(InstanceProfileName=name, TagKeys=["k"])
        self.assertEqual([], iam.list_instance_profile_tags(InstanceProfileName=name)["Tags"])
        iam.delete_instance_profile(InstanceProfileName=name)
        with self.no_entity(f"Instance Profile {name} cannot be found."):
            iam.get_instance_profile(InstanceProfileName=name)


class Providers(Base):
    def test_open_id_connect(self):
        host, thumb = f"{self.name('issuer')}.example.com/path", "a" * 40
        arn = iam.create_open_id_connect_provider(Url=f"https://{host}", ClientIDList=["one"], ThumbprintList=[thumb], Tags=[{"Key": "k", "Value": "v"}])["OpenIDConnectProviderArn"]
        self.addCleanup(iam.delete_open_id_connect_provider, OpenIDConnectProviderArn=arn)
        self.assertEqual(f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}", arn)
        iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="two")
        iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="one")
        iam.update_open_id_connect_provider_thumbprint(OpenIDConnectProviderArn=arn, ThumbprintList=["b" * 40])
        iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=[{"Key": "l", "Value": "w"}])
        iam.untag_open_id_connect_provider(OpenIDConnectProviderArn=arn, TagKeys=["k"])
        got = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        self.assertEqual((host, ["two"], ["b" * 40], [{"Key": "l", "Value": "w"}]), tuple(got[k] for k in ("Url", "ClientIDList", "ThumbprintList", "Tags")))
        self.assertIn(arn, [p["Arn"] for p in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]])
        with self.refused("EntityAlreadyExists", 409, f"Provider with url https://{host} already exists."):
            iam.create_open_id_connect_provider(Url=f"https://{host}", ThumbprintList=[thumb])
        iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        with self.no_entity(f"OpenIDConnect Provider not found for arn {arn}"):
            iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)

    def test_refused(self):
        for bad in "http://example.com", "ftp://example.com", "https://example.com?q=1":
            with self.subTest(bad), self.refused("InvalidInput", 400):
                iam.create_open_id_connect_provider(Url=bad, ThumbprintList=["a" * 40])


class ServiceLinkedRoles(Base):
    def test_life(self):
        suffix = self.name("s")[-8:]
        role = iam.create_service_linked_role(AWSServiceName="autoscaling.amazonaws.com", CustomSuffix=suffix, Description="d")["Role"]
        name = role["RoleName"]
        self.assertEqual((f"AWSServiceRoleForAutoScaling_{suffix}", "/aws-service-role/autoscaling.amazonaws.com/"), (name, role["Path"]))
        self.assertEqual(["AutoScalingServiceRolePolicy"], [p["PolicyName"] for p in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]])
        with self.refused("UnmodifiableEntity", 400):
            iam.attach_role_policy(RoleName=name, PolicyArn=BASIC)
        with self.refused("UnmodifiableEntity", 400):
            iam.delete_role(RoleName=name)
        with self.refused("UnmodifiableEntity", 400):
            iam.update_role(RoleName=name, MaxSessionDuration=7200)
        iam.update_role(RoleName=name, Description="e")
        iam.tag_role(RoleName=name, Tags=[{"Key": "k", "Value": "v"}])
        got = iam.get_role(RoleName=name)["Role"]
        self.assertEqual(("e", [{"Key": "k", "Value": "v"}]), (got["Description"], got["Tags"]))
        task = iam.delete_service_linked_role(RoleName=name)["DeletionTaskId"]
        eventually(lambda: iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"] == "SUCCEEDED")
        with self.no_entity(f"The role with name {name} cannot be found."):
            iam.get_role(RoleName=name)

    def test_refused(self):
        with self.refused("InvalidInput", 400):
            iam.create_service_linked_role(AWSServiceName="not.a.service")
        with self.refused("PolicyNotAttachable", 400, "Cannot attach a Service Role Policy to a Customer Role."):
            iam.attach_role_policy(RoleName=self.role()["RoleName"], PolicyArn="arn:aws:iam::aws:policy/aws-service-role/AutoScalingServiceRolePolicy")
