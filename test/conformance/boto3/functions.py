"""The control plane: functions from their creation to their end."""

import base64
import hashlib
import json
import re
import urllib.request

from suite import ACCOUNT, REGION, ROLE, UUID, Case, archive, client, function_arn, invoke, lam, signed

PY = archive({"app.py": "def handler(event, context):\n    return 'one'\n"})
PY2 = archive({"app.py": "def handler(event, context):\n    return 'two'\n"})
PLAIN = dict(Role=ROLE, Runtime="python3.11", Handler="app.handler", Code={"ZipFile": PY})


def sha(b):
    return base64.b64encode(hashlib.sha256(b).digest()).decode()


class Create(Case):
    def made(self, **arguments):
        arguments = dict(PLAIN, FunctionName=self.name(), **arguments)
        answer = lam.create_function(**arguments)
        self.addCleanup(lam.delete_function, FunctionName=arguments["FunctionName"])
        return answer

    def test_answer(self):
        got = self.made()
        name = got["FunctionName"]
        self.assertEqual(201, got["ResponseMetadata"]["HTTPStatusCode"])
        self.assertRegex(got.pop("RevisionId"), "^" + UUID + "$")
        self.assertRegex(got.pop("LastModified"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$")
        self.assertRegex(got.pop("RuntimeVersionConfig")["RuntimeVersionArn"], rf"^arn:aws:lambda:{REGION}::runtime:[0-9a-f]{{64}}$")
        got.pop("ResponseMetadata")
        self.assertEqual({
            "FunctionName": name, "FunctionArn": function_arn(name), "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
            "CodeSize": len(PY), "CodeSha256": sha(PY), "Description": "", "Timeout": 3, "MemorySize": 128, "Version": "$LATEST",
            "TracingConfig": {"Mode": "PassThrough"}, "PackageType": "Zip", "Architectures": ["x86_64"], "EphemeralStorage": {"Size": 512},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/" + name},
            "State": "Pending", "StateReason": "The function is being created.", "StateReasonCode": "Creating",
        }, got)

    def test_everything_set(self):
        settings = dict(
            Description="x" * 256, Timeout=900, MemorySize=10240, Environment={"Variables": {"A_1": "b", "LANG": "C", "EMPTY": ""}},
            EphemeralStorage={"Size": 10240}, TracingConfig={"Mode": "Active"},
            LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "WARN", "LogGroup": "/own/group"},
        )
        name = self.made(Tags={"k": "v", "empty": ""}, **settings)["FunctionName"]
        self.wait("function_active_v2", name)
        got = lam.get_function(FunctionName=name)
        for key, value in settings.items():
            self.assertEqual(value, got["Configuration"][key], key)
        self.assertEqual({"k": "v", "empty": ""}, got["Tags"])

    def test_becomes_active(self):
        made = self.made()
        name = made["FunctionName"]
        for waiter in "function_exists", "function_active", "function_active_v2", "function_updated", "function_updated_v2":
            self.wait(waiter, name)
        got = lam.get_function_configuration(FunctionName=name)
        self.assertEqual(("Active", "Successful"), (got["State"], got["LastUpdateStatus"]))
        self.assertNotIn("StateReason", got)
        self.assertNotIn("StateReasonCode", got)
        self.assertNotIn("LastUpdateStatusReason", got)
        self.assertNotEqual(made["RevisionId"], got["RevisionId"], "becoming active is a revision")

    def test_publish(self):
        got = self.made(Publish=True)
        self.assertEqual("1", got["Version"])
        self.wait("function_active_v2", got["FunctionName"])
        versions = lam.list_versions_by_function(FunctionName=got["FunctionName"])["Versions"]
        self.assertEqual(["$LATEST", "1"], [v["Version"] for v in versions])

    def test_name_forms(self):
        for form in "{n}", ACCOUNT + ":function:{n}", "function:{n}", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{n}}", f"{REGION}:{ACCOUNT}:function:{{n}}":
            with self.subTest(form):
                name = self.name()
                got = lam.create_function(**PLAIN, FunctionName=form.format(n=name))
                self.addCleanup(lam.delete_function, FunctionName=name)
                self.assertEqual((name, function_arn(name)), (got["FunctionName"], got["FunctionArn"]))

    def test_taken(self):
        name = self.made()["FunctionName"]
        with self.refused("ResourceConflictException", 409, f"Function already exist: {name}", Type="User"):
            lam.create_function(**PLAIN, FunctionName=name)

    def refuse(self, context, **arguments):
        with context:
            lam.create_function(**{**PLAIN, "FunctionName": self.name(), **arguments})

    def test_runtime_unknown(self):
        for runtime in "python2.7", "PYTHON3.11", "x":
            with self.subTest(runtime):
                self.refuse(self.invalid(f"^Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
                                         r"\[.*python3\.13.*\] or be a valid ARN$"), Runtime=runtime)

    def test_runtime_and_handler_wanted(self):
        self.refuse(self.invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages."), Runtime=None)

    def test_names(self):
        self.refuse(self.invalid(f"1 validation error detected: Value '{'a' * 65}' at 'functionName' failed to satisfy constraint: "
                                 "Member must have length less than or equal to 64"), FunctionName="a" * 65)
        self.refuse(self.validation("^1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: "
                                    "Member must satisfy regular expression pattern: "), FunctionName="a b")
        self.refuse(self.refused("ResourceNotFoundException", 404, f"Functions from 'eu-west-9' are not reachable in this region ('{REGION}')"),
                    FunctionName=f"arn:aws:lambda:eu-west-9:{ACCOUNT}:function:x")

    def test_bounds(self):
        for argument, value, text in (
            ("Timeout", 0, "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"),
            ("Timeout", 901, "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"),
            ("MemorySize", 127, "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"),
            ("Description", "x" * 257, f"Value '{'x' * 257}' at 'description' failed to satisfy constraint: Member must have length less than or equal to 256"),
            ("EphemeralStorage", {"Size": 511}, "Value '511' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512"),
            ("Handler", "x" * 129, f"Value '{'x' * 129}' at 'handler' failed to satisfy constraint: Member must have length less than or equal to 128"),
            ("Architectures", ["x86_64", "arm64"], "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"),
            ("TracingConfig", {"Mode": "On"}, "Value 'On' at 'tracingConfig.mode' failed to satisfy constraint: Member must satisfy enum value set: [Active, PassThrough]"),
            ("PackageType", "Tar", "Value 'Tar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Image, Zip]"),
        ):
            with self.subTest(argument, value=str(value)[:20]):
                arguments = {**PLAIN, "FunctionName": self.name(), argument: value}
                with self.refused("ValidationException", 400):
                    lam.create_function(**arguments)
                # The order of an enum's values is not AWS's promise.
                want, got = (re.sub(r"\[(.*)\]$", lambda m: str(sorted(m[1].split(", "))), t) for t in ("1 validation error detected: " + text, self.error["Error"]["Message"]))
                self.assertEqual(want, got)

    def test_several_errors(self):
        self.refuse(self.validation("^2 validation errors detected: Value '.+' at '.+' failed to satisfy constraint: .+; Value '.+' at '.+' failed to satisfy constraint: .+"),
                    Handler="h" * 129, Description="x" * 257)

    def test_memory_by_rule(self):
        self.refuse(self.invalid("'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240"), MemorySize=10241)

    def test_role(self):
        self.refuse(self.validation("^1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: "), Role="r1")
        self.refuse(self.refused("AccessDeniedException", 403, "Cross-account pass role is not allowed."), Role="arn:aws:iam::123456789999:role/x")

    def test_archives(self):
        for what, data in (("text", b"not a zip"), ("cut off", PY[:-30]), ("climbs", archive({"../x": "y"})), ("absolute", archive({"/etc/x": "y"}))):
            with self.subTest(what):
                self.refuse(self.invalid("Could not unzip uploaded file. Please check your file, then try to upload again."), Code={"ZipFile": data})
        self.refuse(self.invalid("Uploaded file must be a non-empty zip"), Code={"ZipFile": archive({})})
        self.refuse(self.invalid("Please provide a source for function code."), Code={})

    def test_archive_bomb(self):
        bomb = archive({f"zeros{i}": b"\0" * (44 << 20) for i in range(6)})
        self.assertLess(len(bomb), 1 << 20)
        self.refuse(self.invalid("Unzipped size must be smaller than 262144000 bytes"), Code={"ZipFile": bomb})

    def test_archive_too_big(self):
        self.refuse(self.refused("RequestEntityTooLargeException", 413, "Zipped size must be smaller than 52428800 bytes"), Code={"ZipFile": b"PK" + b"\0" * 52428799})

    def test_request_too_big(self):
        self.refuse(self.refused("RequestEntityTooLargeException", 413, "Request must be smaller than 70167211 bytes for the CreateFunction operation"),
                    Code={"ZipFile": b"\0" * 52700000})

    def test_environment_limits(self):
        fits = {"VV": "x" * (4096 - len(json.dumps({"VV": ""}, separators=(",", ":"))))}
        self.made(Environment={"Variables": fits})
        fits["VV"] += "x"
        self.refuse(self.invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded "
                                 "the 4KB limit. String measured: " + json.dumps(fits, separators=(",", ":"))), Environment={"Variables": fits})

    def test_environment_reserved(self):
        for key in "AWS_REGION", "_HANDLER", "AWS_LAMBDA_FUNCTION_NAME", "AWS_SESSION_TOKEN", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_RUNTIME_API":
            with self.subTest(key):
                arguments = {**PLAIN, "FunctionName": self.name(), "Environment": {"Variables": {key: "v"}}}
                # A leading underscore is against the pattern of names, which is looked at first.
                with self.validation("^1 validation error detected") if key[0] == "_" else self.invalid(
                        "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys "
                        "that are currently not supported for modification. Reserved keys used in this request: " + key):
                    lam.create_function(**arguments)

    def test_environment_names(self):
        for key in "1A", "A", "A-B", "":
            with self.subTest(key):
                self.refuse(self.validation("1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: "
                                            "[Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]"),
                            Environment={"Variables": {key: "v"}})

    def test_levels_need_json(self):
        self.refuse(self.invalid('LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the LogFormat to "Json" and try again.'),
                    LoggingConfig={"LogFormat": "Text", "ApplicationLogLevel": "INFO"})

    def test_layers(self):
        layer = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l{{}}:1"
        self.refuse(self.invalid("Cannot reference more than 5 layers."), Layers=[layer.format(i) for i in range(6)])
        self.refuse(self.invalid(f"Layer version {layer.format(0)} does not exist."), Layers=[layer.format(0)])
        self.refuse(self.invalid(f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}."),
                    Layers=[layer.format(0).replace(REGION, "eu-west-9")])
        self.refuse(self.validation("^1 validation error detected: Value .* at 'layers' failed to satisfy constraint"), Layers=[layer.format(0)[:-2]])

    def test_tags(self):
        self.refuse(self.invalid("Number of tags exceeds resource tag limit."), Tags={f"k{i}": "v" for i in range(51)})

    def test_not_served_is_named(self):
        for arguments, word in (
            (dict(Code={"S3Bucket": "bucket", "S3Key": "key"}), "S3Bucket"), (dict(PackageType="Image", Code={"ImageUri": "i:1"}), "Image"),
            (dict(DurableConfig={"RetentionPeriodInDays": 1, "ExecutionTimeout": 60}), "DurableConfig"),
        ):
            with self.subTest(word):
                self.refuse(self.invalid(f"^.*{word}.* not served by Mayfly yet"), **arguments)

    def test_malformed_body(self):
        got = signed("POST", "/2015-03-31/functions", b'{"FunctionName":')
        self.assertEqual((400, "SerializationException"), (got.status, got.code))
        got = signed("POST", "/2015-03-31/functions", b'{"FunctionName":7}')
        self.assertEqual((400, "SerializationException"), (got.status, got.code))

    def test_error_body(self):
        got = signed("GET", "/2015-03-31/functions/nope")
        self.assertEqual((404, "ResourceNotFoundException"), (got.status, got.code))
        self.assertEqual({"Type": "User", "Message": f"Function not found: {function_arn('nope')}"}, got.json)
        self.assertEqual("application/json", got.headers["content-type"])


class Read(Case):
    @classmethod
    def setUpClass(cls):
        cls.fn = "read-" + Case().name()
        lam.create_function(**PLAIN, FunctionName=cls.fn, Publish=True)
        Case().wait("function_active_v2", cls.fn)
        cls.addClassCleanup(lam.delete_function, FunctionName=cls.fn)

    def test_get_function(self):
        got = lam.get_function(FunctionName=self.fn)
        self.assertEqual("S3", got["Code"]["RepositoryType"])
        self.assertNotIn("Tags", got)
        self.assertNotIn("Concurrency", got)
        self.assertEqual(function_arn(self.fn), got["Configuration"]["FunctionArn"])

    def test_code_location(self):
        with urllib.request.urlopen(lam.get_function(FunctionName=self.fn)["Code"]["Location"]) as answer:
            self.assertEqual(PY, answer.read())

    def test_code_location_is_signed(self):
        url = lam.get_function(FunctionName=self.fn)["Code"]["Location"]
        for broken in url[:-1] + ("0" if url[-1] != "0" else "1"), url.partition("?")[0], re.sub(r"Expires=\d+", "Expires=604000", url):
            with self.subTest(broken), self.assertRaises(urllib.error.HTTPError) as e:
                urllib.request.urlopen(broken)
            self.assertEqual(403, e.exception.code)

    def test_qualified(self):
        for qualifier, arn in (("1", function_arn(self.fn, "1")), ("$LATEST", function_arn(self.fn, "$LATEST"))):
            with self.subTest(qualifier):
                self.assertEqual(arn, lam.get_function(FunctionName=self.fn, Qualifier=qualifier)["Configuration"]["FunctionArn"])
                self.assertEqual(arn, lam.get_function(FunctionName=f"{self.fn}:{qualifier}")["Configuration"]["FunctionArn"])
                self.assertEqual(arn, lam.get_function_configuration(FunctionName=function_arn(self.fn, qualifier))["FunctionArn"])

    def test_forms(self):
        for form in self.fn, function_arn(self.fn), f"{ACCOUNT}:function:{self.fn}", f"function:{self.fn}", f"{ACCOUNT}:{self.fn}":
            with self.subTest(form):
                self.assertEqual(self.fn, lam.get_function_configuration(FunctionName=form)["FunctionName"])

    def test_missing(self):
        for call in lam.get_function, lam.get_function_configuration:
            with self.not_found("Function not found: " + function_arn("nope")):
                call(FunctionName="nope")
            with self.not_found("Function not found: " + function_arn("nope", "$LATEST")):
                call(FunctionName="nope", Qualifier="$LATEST")
            with self.not_found("Function not found: " + function_arn(self.fn, "9")):
                call(FunctionName=self.fn, Qualifier="9")
            with self.not_found("Function not found: " + function_arn(self.fn, "no-alias")):
                call(FunctionName=self.fn, Qualifier="no-alias")

    def test_qualifiers_differ(self):
        with self.invalid("The derived qualifier from the function name does not match the specified qualifier."):
            lam.get_function(FunctionName=self.fn + ":1", Qualifier="2")

    def test_other_region(self):
        with self.refused("ResourceNotFoundException", 404, f"Functions from 'eu-west-9' are not reachable in this region ('{REGION}')"):
            lam.get_function(FunctionName=function_arn(self.fn).replace(REGION, "eu-west-9"))

    def test_regions_are_apart(self):
        there = client("lambda", region_name="eu-west-1")
        with self.not_found(f"Function not found: arn:aws:lambda:eu-west-1:{ACCOUNT}:function:{self.fn}"):
            there.get_function(FunctionName=self.fn)

    def test_other_account(self):
        with self.refused("AccessDeniedException", 403, "^User: .* is not authorized to perform: lambda:GetFunction on resource: "):
            lam.get_function(FunctionName=f"123456789999:function:{self.fn}")

    def test_what_it_has_not(self):
        self.assertNotIn("ReservedConcurrentExecutions", lam.get_function_concurrency(FunctionName=self.fn))
        self.assertNotIn("CodeSigningConfigArn", lam.get_function_code_signing_config(FunctionName=self.fn))
        self.assertEqual("Terminate", lam.get_function_recursion_config(FunctionName=self.fn)["RecursiveLoop"])
        self.assertEqual("Auto", lam.get_runtime_management_config(FunctionName=self.fn)["UpdateRuntimeOn"])
        with self.not_found("The resource you requested does not exist."):
            lam.get_policy(FunctionName=self.fn)

    def test_account_settings(self):
        got = lam.get_account_settings()
        self.assertEqual((262144000, 52428800), (got["AccountLimit"]["CodeSizeUnzipped"], got["AccountLimit"]["CodeSizeZipped"]))
        elsewhere = client("lambda", region_name="eu-west-3").get_account_settings()["AccountLimit"]  # where no other suite reserves any
        self.assertEqual((1000, 1000), (elsewhere["ConcurrentExecutions"], elsewhere["UnreservedConcurrentExecutions"]))
        self.assertGreaterEqual(got["AccountUsage"]["FunctionCount"], 1)


class List(Case):
    def test_paging(self):
        made = sorted(self.name("list") for _ in range(7))
        for name in made:
            lam.create_function(**PLAIN, FunctionName=name)
            self.addCleanup(lam.delete_function, FunctionName=name)
        seen, pages = [], 0
        for page in lam.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}):
            pages += 1
            self.assertLessEqual(len(page["Functions"]), 3)
            seen += [f["FunctionName"] for f in page["Functions"]]
        self.assertGreaterEqual(pages, 3)
        self.assertEqual(made, [n for n in seen if n in made])
        self.assertEqual(len(seen), len(set(seen)))
        entry = next(f for f in lam.list_functions()["Functions"] if f["FunctionName"] == made[0])
        self.assertNotIn("State", entry, "lists show no states")
        self.assertEqual("$LATEST", entry["Version"])

    def test_all_versions(self):
        name = self.create(Publish=True, Code={"ZipFile": PY}, Runtime="python3.11")
        got = [f for p in lam.get_paginator("list_functions").paginate(FunctionVersion="ALL") for f in p["Functions"] if f["FunctionName"] == name]
        self.assertEqual([function_arn(name, "$LATEST"), function_arn(name, "1")], [f["FunctionArn"] for f in got])

    def test_bad_arguments(self):
        with self.validation("1 validation error detected: Value 'SOME' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"):
            lam.list_functions(FunctionVersion="SOME")
        with self.invalid("^"):
            lam.list_functions(Marker="not a marker")
        with self.validation("^1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"):
            lam.list_functions(MaxItems=0)


class Update(Case):
    def test_code(self):
        name = self.python("def handler(event, context):\n    return 'one'\n")
        self.assertEqual("one", invoke(name).payload)
        before = lam.get_function_configuration(FunctionName=name)
        got = lam.update_function_code(FunctionName=name, ZipFile=PY2)
        self.assertEqual(("Active", "InProgress", "The function is being created.", "Creating"),
                         tuple(got[k] for k in ("State", "LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode")))
        self.assertEqual((sha(PY2), len(PY2)), (got["CodeSha256"], got["CodeSize"]))
        self.assertNotEqual(before["RevisionId"], got["RevisionId"])
        self.wait("function_updated_v2", name)
        self.assertEqual("two", invoke(name).payload)
        self.assertEqual("Successful", lam.get_function_configuration(FunctionName=name)["LastUpdateStatus"])

    def test_code_dry_run(self):
        name = self.python("def handler(event, context):\n    return 'one'\n")
        before = lam.get_function_configuration(FunctionName=name)
        got = lam.update_function_code(FunctionName=name, ZipFile=PY2, DryRun=True)
        self.assertEqual(sha(PY2), got["CodeSha256"])
        after = lam.get_function_configuration(FunctionName=name)
        before.pop("ResponseMetadata"), after.pop("ResponseMetadata")
        self.assertEqual(before, after)
        with self.invalid("Could not unzip uploaded file. Please check your file, then try to upload again."):
            lam.update_function_code(FunctionName=name, ZipFile=b"no", DryRun=True)

    def test_code_publish(self):
        name = self.python("def handler(event, context):\n    return 'one'\n")
        got = lam.update_function_code(FunctionName=name, ZipFile=PY2, Publish=True)
        self.assertEqual(("1", function_arn(name, "1")), (got["Version"], got["FunctionArn"]))
        self.wait("function_updated_v2", name)
        self.assertEqual("two", invoke(name, Qualifier="1").payload)

    def test_code_source(self):
        name = self.python("def handler(event, context): pass\n")
        with self.invalid("Please don't provide ImageUri when updating a function with packageType Zip."):
            lam.update_function_code(FunctionName=name, ImageUri="i:1")
        with self.invalid("Please provide a source for function code."):
            lam.update_function_code(FunctionName=name)

    def test_configuration(self):
        name = self.python("import os\ndef handler(event, context):\n    return [os.environ.get('A1'), context.memory_limit_in_mb]\n", Environment={"Variables": {"A1": "b"}})
        got = lam.update_function_configuration(FunctionName=name, MemorySize=256, Description="d")
        self.assertEqual((256, "d", 3, {"Variables": {"A1": "b"}}), (got["MemorySize"], got["Description"], got["Timeout"], got["Environment"]))
        self.wait("function_updated_v2", name)
        self.assertEqual(["b", "256"], [str(v) for v in invoke(name).payload])
        got = lam.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
        self.wait("function_updated_v2", name)
        self.assertIsNone(invoke(name).payload[0])

    def test_revision(self):
        name = self.python("def handler(event, context): pass\n")
        stale = dict(FunctionName=name, RevisionId="11111111-1111-1111-1111-111111111111")
        text = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        with self.refused("PreconditionFailedException", 412, text, Type="User"):
            lam.update_function_configuration(**stale, Timeout=9)
        with self.refused("PreconditionFailedException", 412, text):
            lam.update_function_code(**stale, ZipFile=PY2)
        revision = lam.get_function_configuration(FunctionName=name)["RevisionId"]
        got = lam.update_function_configuration(FunctionName=name, RevisionId=revision, Timeout=9)
        self.assertEqual(9, got["Timeout"])

    def test_missing(self):
        with self.not_found("Function not found: " + function_arn("nope")):
            lam.update_function_code(FunctionName="nope", ZipFile=PY)
        with self.not_found("Function not found: " + function_arn("nope")):
            lam.update_function_configuration(FunctionName="nope", Timeout=3)

    def test_detaches_vpc(self):
        name = self.python("def handler(event, context): pass\n")
        got = lam.update_function_configuration(FunctionName=name, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})
        self.assertEqual([], got["VpcConfig"]["SubnetIds"])

    def test_language_changes(self):
        name = self.python("def handler(event, context):\n    return 'python'\n")
        self.assertEqual("python", invoke(name).payload)
        lam.update_function_code(FunctionName=name, ZipFile=archive({"app.js": "exports.handler = async () => process.version.slice(0, 1)", "app.py": "def handler(e, c): return 'p'"}))
        self.wait("function_updated_v2", name)
        lam.update_function_configuration(FunctionName=name, Runtime="nodejs22.x")
        self.wait("function_updated_v2", name)
        self.assertEqual("v", invoke(name).payload)


class Delete(Case):
    def test_whole(self):
        name = self.name()
        lam.create_function(**PLAIN, FunctionName=name, Publish=True)
        got = lam.delete_function(FunctionName=name)
        self.assertEqual(204, got["ResponseMetadata"]["HTTPStatusCode"])
        for qualifier in None, "1":
            with self.not_found("Function not found: " + function_arn(name, qualifier)):
                lam.get_function(FunctionName=name + (":1" if qualifier else ""))
        with self.not_found("Function not found: " + function_arn(name)):
            lam.delete_function(FunctionName=name)
        lam.create_function(**PLAIN, FunctionName=name)
        self.assertEqual(["$LATEST"], [v["Version"] for v in lam.list_versions_by_function(FunctionName=name)["Versions"]])
        lam.delete_function(FunctionName=name)

    def test_versions(self):
        name = self.create(Publish=True)
        with self.invalid("$LATEST version cannot be deleted without deleting the function."):
            lam.delete_function(FunctionName=name, Qualifier="$LATEST")
        self.assertEqual(204, lam.delete_function(FunctionName=name, Qualifier="9")["ResponseMetadata"]["HTTPStatusCode"])
        lam.delete_function(FunctionName=name, Qualifier="1")
        self.assertEqual(["$LATEST"], [v["Version"] for v in lam.list_versions_by_function(FunctionName=name)["Versions"]])
        # Its number is not used again.
        lam.update_function_configuration(FunctionName=name, Description="changed")
        self.wait("function_updated_v2", name)
        self.assertEqual("2", lam.publish_version(FunctionName=name)["Version"])


class Tags(Case):
    def test_life(self):
        name = self.create(Tags={"a": "1"})
        arn = function_arn(name)
        got = lam.tag_resource(Resource=arn, Tags={"b": "2", "a": "3"})
        self.assertEqual(204, got["ResponseMetadata"]["HTTPStatusCode"])
        self.assertEqual({"a": "3", "b": "2"}, lam.list_tags(Resource=arn)["Tags"])
        lam.untag_resource(Resource=arn, TagKeys=["a", "not-there"])
        self.assertEqual({"b": "2"}, lam.list_tags(Resource=arn)["Tags"])
        lam.untag_resource(Resource=arn, TagKeys=["b"])
        self.assertEqual({}, lam.list_tags(Resource=arn).get("Tags", {}))

    def test_errors(self):
        name = self.create(Publish=True)
        arn = function_arn(name)
        with self.invalid("Number of tags exceeds resource tag limit."):
            lam.tag_resource(Resource=arn, Tags={f"k{i}": "v" for i in range(51)})
        with self.invalid("An error occurred and the request cannot be processed."):
            lam.tag_resource(Resource=arn, Tags={})
        with self.invalid("Tags on function aliases and versions are not supported. Please specify a function ARN."):
            lam.tag_resource(Resource=arn + ":1", Tags={"a": "b"})
        for call, more in ((lam.tag_resource, {"Tags": {"a": "b"}}), (lam.untag_resource, {"TagKeys": ["a"]}), (lam.list_tags, {})):
            with self.not_found("Function not found: " + function_arn("nope")):
                call(Resource=function_arn("nope"), **more)
        got = signed("DELETE", "/2017-03-31/tags/" + arn.replace(":", "%3A"))
        self.assertEqual((400, "ValidationException"), (got.status, got.code))


class NotServed(Case):
    def test_named(self):
        try:
            lam.list_capacity_providers()
            self.fail("served")
        except lam.exceptions.ClientError as e:
            operation = e.operation_name
            self.assertIn(operation, e.response["Error"]["Message"])
            self.assertIn(e.response["ResponseMetadata"]["HTTPStatusCode"], (400, 404, 501), operation)

    def test_unknown_path(self):
        got = signed("GET", "/2015-03-31/nothing-of-lambda")
        self.assertEqual(404, got.status)
        self.assertIn(got.code, ("UnknownOperationException", "AccessDeniedException", "ResourceNotFoundException"))
