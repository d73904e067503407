"""Versions and aliases."""

from suite import UUID, Case, archive, function_arn, invoke, lam

SAYS = "import os\ndef handler(event, context):\n    return [os.environ.get('WORD'), context.function_version, context.invoked_function_arn]\n"


class Versions(Case):
    def changed(self, name, word):
        lam.update_function_configuration(FunctionName=name, Environment={"Variables": {"WORD": word}})
        self.wait("function_updated_v2", name)

    def test_life(self):
        name = self.python(SAYS, Environment={"Variables": {"WORD": "one"}})
        first = lam.publish_version(FunctionName=name, Description="the first")
        self.assertEqual(201, first["ResponseMetadata"]["HTTPStatusCode"])
        self.assertEqual(("1", function_arn(name, "1"), "the first"), (first["Version"], first["FunctionArn"], first["Description"]))
        self.assertEqual(("Active", "Successful"), (first["State"], first["LastUpdateStatus"]))
        again = lam.publish_version(FunctionName=name)
        self.assertEqual("1", again["Version"], "nothing changed, so there is no new version")
        self.changed(name, "two")
        self.assertEqual("2", lam.publish_version(FunctionName=name)["Version"])
        self.assertEqual(["one", "1", function_arn(name, "1")], invoke(name, Qualifier="1").payload)
        self.assertEqual(["two", "2", function_arn(name, "2")], invoke(name + ":2").payload)
        self.assertEqual(["two", "$LATEST", function_arn(name)], invoke(name).payload)
        self.assertEqual(["two", "$LATEST", function_arn(name, "$LATEST")], invoke(name, Qualifier="$LATEST").payload)
        self.assertEqual(("1", "2", "$LATEST"), tuple(invoke(name, Qualifier=q).version for q in ("1", "2", "$LATEST")))
        listed = [v for p in lam.get_paginator("list_versions_by_function").paginate(FunctionName=name, PaginationConfig={"PageSize": 1}) for v in p["Versions"]]
        self.assertEqual(["$LATEST", "1", "2"], [v["Version"] for v in listed])
        self.wait("published_version_active", name, Qualifier="2")

    def test_refused(self):
        name = self.python(SAYS)
        have = lam.get_function_configuration(FunctionName=name)["CodeSha256"]
        with self.invalid(f"CodeSHA256 (wrong) is different from current CodeSHA256 in $LATEST ({have}). Please try again with the CodeSHA256 in $LATEST."):
            lam.publish_version(FunctionName=name, CodeSha256="wrong")
        with self.refused("PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"):
            lam.publish_version(FunctionName=name, RevisionId="11111111-1111-1111-1111-111111111111")
        with self.not_found("Function not found: " + function_arn("nope")):
            lam.publish_version(FunctionName="nope")
        with self.not_found("Function not found: " + function_arn("nope")):
            lam.list_versions_by_function(FunctionName="nope")
        with self.not_found("Function not found: " + function_arn(name, "7")):
            invoke(name, Qualifier="7")


class Aliases(Case):
    def setUp(self):
        self.fn = self.python(SAYS, Environment={"Variables": {"WORD": "one"}}, Publish=True)
        lam.update_function_configuration(FunctionName=self.fn, Environment={"Variables": {"WORD": "two"}})
        self.wait("function_updated_v2", self.fn)
        lam.publish_version(FunctionName=self.fn)

    def test_life(self):
        made = lam.create_alias(FunctionName=self.fn, Name="live", FunctionVersion="1")
        self.assertEqual(201, made.pop("ResponseMetadata")["HTTPStatusCode"])
        self.assertRegex(made.pop("RevisionId"), UUID)
        arn = function_arn(self.fn, "live")
        self.assertEqual({"AliasArn": arn, "Name": "live", "FunctionVersion": "1", "Description": ""}, made)
        got = invoke(self.fn, Qualifier="live")
        self.assertEqual((["one", "1", arn], "1"), (got.payload, got.version))
        changed = lam.update_alias(FunctionName=self.fn, Name="live", FunctionVersion="2", Description="d")
        self.assertEqual(("2", "d"), (changed["FunctionVersion"], changed["Description"]))
        self.assertEqual(["two", "2", arn], invoke(arn).payload)
        self.assertEqual(arn, lam.get_function_configuration(FunctionName=self.fn, Qualifier="live")["FunctionArn"])
        self.assertEqual(["live"], [a["Name"] for a in lam.list_aliases(FunctionName=self.fn)["Aliases"]])
        self.assertEqual([], lam.list_aliases(FunctionName=self.fn, FunctionVersion="1")["Aliases"])
        with self.refused("ResourceConflictException", 409):
            lam.delete_function(FunctionName=self.fn, Qualifier="2")
        for _ in range(2):
            self.assertEqual(204, lam.delete_alias(FunctionName=self.fn, Name="live")["ResponseMetadata"]["HTTPStatusCode"])
        with self.not_found("Cannot find alias arn: " + arn):
            lam.get_alias(FunctionName=self.fn, Name="live")

    def test_weights(self):
        lam.create_alias(FunctionName=self.fn, Name="split", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
        seen = {invoke(self.fn, Qualifier="split").version for _ in range(40)}
        self.assertEqual({"1", "2"}, seen)
        lam.update_alias(FunctionName=self.fn, Name="split", RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}})
        self.assertEqual({"2"}, {invoke(self.fn, Qualifier="split").version for _ in range(5)})
        got = lam.update_alias(FunctionName=self.fn, Name="split", RoutingConfig={"AdditionalVersionWeights": {}})
        self.assertNotIn("RoutingConfig", got)
        self.assertEqual({"1"}, {invoke(self.fn, Qualifier="split").version for _ in range(5)})

    def test_refused(self):
        create = lambda **more: lam.create_alias(**{**dict(FunctionName=self.fn, Name="x", FunctionVersion="1"), **more})
        with self.invalid("Number of items in AdditionalVersionWeights cannot be greater than 1"):
            create(RoutingConfig={"AdditionalVersionWeights": {"1": 0.1, "2": 0.2}})
        with self.invalid("Invalid function version 1. Function version 1 is already included in routing configuration."):
            create(RoutingConfig={"AdditionalVersionWeights": {"1": 0.1}})
        with self.refused("InvalidParameterValueException", 400, "$LATEST is not supported for an alias pointing to more than 1 version"):
            create(FunctionVersion="$LATEST", RoutingConfig={"AdditionalVersionWeights": {"1": 0.1}})
        with self.validation("^1 validation error detected"):
            create(RoutingConfig={"AdditionalVersionWeights": {"$LATEST": 0.1}})
        with self.validation("^1 validation error detected"):
            create(RoutingConfig={"AdditionalVersionWeights": {"2": 1.1}})
        with self.validation("^1 validation error detected"):
            create(Name="12")
        with self.not_found("Function not found: " + function_arn(self.fn, "10")):
            create(FunctionVersion="10")
        create()
        with self.refused("ResourceConflictException", 409, "Alias already exists: " + function_arn(self.fn, "x")):
            create()
        with self.refused("PreconditionFailedException", 412):
            lam.update_alias(FunctionName=self.fn, Name="x", RevisionId="11111111-1111-1111-1111-111111111111")
        with self.not_found(f"^Cannot find alias arn: {function_arn(self.fn, 'y')}|Alias not found: {function_arn(self.fn, 'y')}$"):
            lam.update_alias(FunctionName=self.fn, Name="y")

    def test_paging(self):
        for i in range(5):
            lam.create_alias(FunctionName=self.fn, Name=f"a{i}", FunctionVersion=str(1 + i % 2))
        pages = list(lam.get_paginator("list_aliases").paginate(FunctionName=self.fn, PaginationConfig={"PageSize": 2}))
        self.assertEqual([2, 2, 1], [len(p["Aliases"]) for p in pages])
        self.assertEqual(["a0", "a2", "a4"], [a["Name"] for a in lam.list_aliases(FunctionName=self.fn, FunctionVersion="1")["Aliases"]])
