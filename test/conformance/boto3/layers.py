"""Layers, code signing, tenants and runtime management."""

import contextlib
import hashlib
import base64
import unittest
import urllib.request

from botocore.exceptions import ClientError

from suite import ACCOUNT, REGION, Case, archive, function_arn, invoke, lam, log_events


class Layers(Case):
    def layer(self, files, name=None, **arguments):
        made = lam.publish_layer_version(LayerName=name or self.name("layer"), Content={"ZipFile": archive(files)}, **arguments)
        self.addCleanup(self.gone, made)
        return made

    @staticmethod
    def gone(made):
        with contextlib.suppress(ClientError):
            lam.delete_layer_version(LayerName=made["LayerArn"], VersionNumber=made["Version"])

    def test_life(self):
        name, files = self.name("layer"), {"python/one.py": "ONE = 1\n"}
        made = self.layer(files, name, Description="one", LicenseInfo="MIT", CompatibleRuntimes=["python3.11"], CompatibleArchitectures=["x86_64"])
        self.assertEqual(201, made.pop("ResponseMetadata")["HTTPStatusCode"])
        location = made["Content"].pop("Location")
        zipped = archive(files)
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}"
        self.assertRegex(made.pop("CreatedDate"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$")
        self.assertEqual({
            "Content": {"CodeSha256": base64.b64encode(hashlib.sha256(zipped).digest()).decode(), "CodeSize": len(zipped)},
            "LayerArn": arn, "LayerVersionArn": arn + ":1", "Description": "one", "Version": 1,
            "CompatibleRuntimes": ["python3.11"], "CompatibleArchitectures": ["x86_64"], "LicenseInfo": "MIT",
        }, made)
        with urllib.request.urlopen(location) as answer:
            self.assertEqual(zipped, answer.read())
        self.assertEqual(1, lam.get_layer_version_by_arn(Arn=arn + ":1")["Version"])
        self.assertEqual(2, self.layer({"python/two.py": ""}, name)["Version"])
        versions = lambda **filters: [v["Version"] for p in lam.get_paginator("list_layer_versions").paginate(LayerName=name, PaginationConfig={"PageSize": 1}, **filters) for v in p["LayerVersions"]]
        self.assertEqual([2, 1], versions())
        self.assertEqual([1], versions(CompatibleRuntime="python3.11"))
        latest = lambda **filters: {l["LayerName"]: l["LatestMatchingVersion"]["Version"] for p in lam.get_paginator("list_layers").paginate(**filters) for l in p["Layers"]}.get(name)
        self.assertEqual((2, 1), (latest(), latest(CompatibleArchitecture="x86_64")))
        for _ in range(2):
            self.assertEqual(204, lam.delete_layer_version(LayerName=name, VersionNumber=2)["ResponseMetadata"]["HTTPStatusCode"])
        self.assertEqual(3, self.layer({"python/two.py": ""}, name)["Version"])

    def test_python(self):
        """Modules are found, later layers lie over earlier ones, and what was deleted goes on working."""
        one = self.layer({"python/word.py": "WORD = 'one'\n", "same": "one", "bin/tool": ("#!/bin/sh\necho tool\n", 0o755)})
        two = self.layer({"python/lib/python3.11/site-packages/deep.py": "WORD = 'deep'\n", "same": "two"})
        code = "import deep, subprocess, word\ndef handler(event, context):\n    return [word.WORD, deep.WORD, open('/opt/same').read(), subprocess.check_output('tool').decode()]\n"
        arns = [one["LayerVersionArn"], two["LayerVersionArn"]]
        name = self.python(code, Layers=arns)
        shown = [{"Arn": l["LayerVersionArn"], "CodeSize": l["Content"]["CodeSize"]} for l in (one, two)]
        self.assertEqual(shown, lam.get_function(FunctionName=name)["Configuration"]["Layers"])
        want = ["one", "deep", "two", "tool\n"]
        self.assertEqual(want, invoke(name).payload)
        lam.publish_version(FunctionName=name)
        for l in (one, two):
            self.gone(l)
        lam.update_function_configuration(FunctionName=name, Layers=[], Description="without")
        self.wait("function_updated_v2", name)
        self.assertNotIn("Layers", lam.get_function_configuration(FunctionName=name))
        self.assertEqual("Unhandled", invoke(name).error)
        self.assertEqual(want, invoke(name, Qualifier="1").payload)
        with self.invalid(f"Layer version {arns[0]} does not exist."):
            lam.update_function_configuration(FunctionName=name, Layers=arns)

    def test_node(self):
        l = self.layer({"nodejs/node_modules/word/index.js": "exports.word = 'node'\n", "nodejs/node_modules/word/package.json": '{"main":"index.js"}'})
        name = self.node("const { word } = require('word'); exports.handler = async () => word\n", "index.js", Layers=[l["LayerVersionArn"]])
        self.assertEqual("node", invoke(name).payload)

    def test_extension(self):
        """A shell script in a layer is an extension, as AWS's own examples are."""
        l = self.layer({"extensions/watch": ("""#!/bin/bash
api=http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension
id=$(curl -sD - -o /dev/null -H 'Lambda-Extension-Name: watch' -d '{"events":["INVOKE"]}' $api/register | tr -d '\\r' | sed -n 's/^lambda-extension-identifier: //Ip')
while event=$(curl -sf -H "Lambda-Extension-Identifier: $id" $api/event/next); do echo "watched $event"; done
""", 0o755)})
        name = self.python("def handler(event, context):\n    return 1\n", Layers=[l["LayerVersionArn"]])
        self.assertEqual(1, invoke(name).payload)
        self.assertTrue([m for m in log_events("/aws/lambda/" + name, "watched ") if '"eventType":"INVOKE"' in m])

    def test_refused(self):
        l = self.layer({"a": "a"})
        name, arn = l["LayerArn"].rpartition(":")[2], l["LayerVersionArn"]
        with self.invalid("Layer Version Cannot be less than 1"):
            lam.get_layer_version(LayerName=name, VersionNumber=-1)
        with self.not_found("The resource you requested does not exist."):
            lam.get_layer_version(LayerName=name, VersionNumber=9)
        with self.invalid("Cannot reference more than 5 layers."):
            self.create(Layers=[f"{l['LayerArn']}{i}:1" for i in range(6)])
        with self.invalid(f"Two different versions of the same layer are not allowed to be referenced in the same function. {arn} and {arn} are versions of the same layer."):
            self.create(Layers=[arn, arn])
        with self.validation("^2 validation errors detected: "):
            lam.publish_layer_version(LayerName=name, Content={"ZipFile": b"x"}, CompatibleRuntimes=["no"], CompatibleArchitectures=["no"])

    def test_policy(self):
        l = self.layer({"a": "a"})
        at = {"LayerName": l["LayerArn"].rpartition(":")[2], "VersionNumber": 1}
        with self.not_found("No policy is associated with the given resource."):
            lam.get_layer_version_policy(**at)
        add = lambda **more: lam.add_layer_version_permission(**at, **dict(dict(StatementId="s", Action="lambda:GetLayerVersion", Principal="*"), **more))
        first = add()
        with self.refused("ResourceConflictException", 409, "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement.", Type="User"):
            add()
        with self.refused("PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id", Type="User"):
            add(StatementId="t", RevisionId="x")
        add(StatementId="t", RevisionId=first["RevisionId"], OrganizationId="o-0123456789")
        with self.not_found("Statement u is not found in resource policy."):
            lam.remove_layer_version_permission(**at, StatementId="u")
        lam.remove_layer_version_permission(**at, StatementId="s", RevisionId=lam.get_layer_version_policy(**at)["RevisionId"])


class CodeSigning(Case):
    def config(self, policy):
        made = lam.create_code_signing_config(
            AllowedPublishers={"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/0123456789"]},
            CodeSigningPolicies={"UntrustedArtifactOnDeployment": policy})["CodeSigningConfig"]
        self.assertRegex(made["CodeSigningConfigId"], "^csc-[a-z0-9]{17}$")
        return made["CodeSigningConfigArn"]

    def test_life(self):
        warn, enforce = self.config("Warn"), self.config("Enforce")
        with self.refused("CodeVerificationFailedException", 400, "^Lambda cannot deploy the function", Type="User"):
            self.create(CodeSigningConfigArn=enforce)
        name = self.create(CodeSigningConfigArn=warn)
        self.assertEqual(warn, lam.get_function_code_signing_config(FunctionName=name)["CodeSigningConfigArn"])
        self.assertEqual([function_arn(name)], lam.list_functions_by_code_signing_config(CodeSigningConfigArn=warn)["FunctionArns"])
        with self.refused("ResourceConflictException", 409, Type="User"):
            lam.delete_code_signing_config(CodeSigningConfigArn=warn)
        lam.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=enforce)
        with self.refused("CodeVerificationFailedException", 400, Type="User"):
            lam.update_function_code(FunctionName=name, ZipFile=archive({"bootstrap": "x"}))
        lam.delete_function_code_signing_config(FunctionName=name)
        for c in (warn, enforce):
            lam.delete_code_signing_config(CodeSigningConfigArn=c)
        with self.not_found(f"The Lambda code signing configuration {warn} can not be found."):
            lam.get_code_signing_config(CodeSigningConfigArn=warn)


class Tenants(Case):
    def test_apart(self):
        """Each tenant has environments of its own, and code hears whose they are."""
        code = "seen = []\ndef handler(event, context):\n    seen.append(getattr(context, 'tenant_id', None))\n    return seen\n"
        name = self.python(code, TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
        self.assertEqual("PER_TENANT", lam.get_function_configuration(FunctionName=name)["TenancyConfig"]["TenantIsolationMode"])
        got = [invoke(name, TenantId=t).payload for t in ("blue", "green", "blue")]
        self.assertEqual([["blue"], ["green"], ["blue", "blue"]], got)
        with self.invalid("The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again."):
            invoke(name)


class RuntimeManagement(Case):
    def test_pinned(self):
        name = self.create()
        self.assertEqual("Auto", lam.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"])
        arn = lam.get_function_configuration(FunctionName=name)["RuntimeVersionConfig"]["RuntimeVersionArn"]
        lam.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="Manual", RuntimeVersionArn=arn)
        got = lam.get_runtime_management_config(FunctionName=name)
        self.assertEqual(("Manual", arn, function_arn(name, "$LATEST")), (got["UpdateRuntimeOn"], got["RuntimeVersionArn"], got["FunctionArn"]))


if __name__ == "__main__":
    unittest.main()
