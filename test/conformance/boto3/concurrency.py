"""Reserved and provisioned concurrency."""

import base64
import threading
import time

from suite import Case, function_arn, invoke, lam, log_events

CODE = """
import os, time
def handler(event, context):
    print('running')
    time.sleep(event.get('sleep', 0))
    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']
"""

RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"


class Reserved(Case):
    def test_life(self):
        name = self.create()
        self.assertNotIn("ReservedConcurrentExecutions", lam.get_function_concurrency(FunctionName=name))
        self.assertNotIn("Concurrency", lam.get_function(FunctionName=name))
        for n in (5, 7):
            self.assertEqual(n, lam.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=n)["ReservedConcurrentExecutions"])
            self.assertEqual(n, lam.get_function_concurrency(FunctionName=function_arn(name))["ReservedConcurrentExecutions"])
            self.assertEqual({"ReservedConcurrentExecutions": n}, lam.get_function(FunctionName=name)["Concurrency"])
        limits = lam.get_account_settings()["AccountLimit"]
        self.assertLessEqual(limits["UnreservedConcurrentExecutions"], limits["ConcurrentExecutions"] - 7)
        self.assertEqual(204, lam.delete_function_concurrency(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"])
        self.assertNotIn("ReservedConcurrentExecutions", lam.get_function_concurrency(FunctionName=name))

    def test_refused(self):
        name = self.create()
        with self.invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."):
            lam.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=901)
        for call in (
            lambda f: lam.put_function_concurrency(FunctionName=f, ReservedConcurrentExecutions=1),
            lambda f: lam.get_function_concurrency(FunctionName=f),
            lambda f: lam.delete_function_concurrency(FunctionName=f),
        ):
            with self.invalid("^This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "):
                call(function_arn(name, "1"))
            with self.not_found("^Function not found: "):
                call("nobody")

    def test_switched_off(self):
        name = self.create()
        lam.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        with self.refused("TooManyRequestsException", 429, "Rate Exceeded.", Type="User", Reason=RESERVED):
            invoke(name, {})
        lam.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        invoke(name, {})

    def test_cap(self):
        name = self.python(CODE, Timeout=20)
        lam.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        got = []
        busy = threading.Thread(target=lambda: got.append(invoke(name, {"sleep": 3}).payload))
        busy.start()
        while not log_events("/aws/lambda/" + name, "running"):
            pass
        with self.refused("TooManyRequestsException", 429, "Rate Exceeded.", Type="User", Reason=RESERVED):
            invoke(name, {})
        self.assertIn("retry-after", self.error["ResponseMetadata"]["HTTPHeaders"])
        # An event waits for the capacity; that it is throttled uses up none of its retries.
        self.assertEqual(202, lam.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")["StatusCode"])
        busy.join()
        self.assertEqual(["on-demand"], got)
        deadline = time.monotonic() + 30
        while len([m for m in log_events("/aws/lambda/" + name, "REPORT") if m.startswith("REPORT")]) < 2:
            self.assertLess(time.monotonic(), deadline, "the event did not run")


class Provisioned(Case):
    def published(self, code=CODE, **settings):
        name = self.python(code, Timeout=20, **settings)
        self.assertEqual("1", lam.publish_version(FunctionName=name)["Version"])
        return name

    def settle(self, name, qualifier):
        deadline = time.monotonic() + 60
        while True:
            got = lam.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
            if got["Status"] != "IN_PROGRESS":
                return got
            self.assertLess(time.monotonic(), deadline, got)
            time.sleep(0.02)

    def put(self, name, qualifier, n):
        got = lam.put_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=n)
        self.assertEqual((202, "IN_PROGRESS", n), (got["ResponseMetadata"]["HTTPStatusCode"], got["Status"], got["RequestedProvisionedConcurrentExecutions"]))
        return self.settle(name, qualifier)

    def test_version(self):
        name = self.published()
        got = self.put(name, "1", 2)
        self.assertEqual(("READY", 2, 2), (got["Status"], got["AvailableProvisionedConcurrentExecutions"], got["AllocatedProvisionedConcurrentExecutions"]))
        self.assertRegex(got["LastModified"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000$")
        answer = lam.invoke(FunctionName=name, Qualifier="1", LogType="Tail")
        self.assertEqual(b'"provisioned-concurrency"', answer["Payload"].read())
        self.assertNotIn("Init Duration", base64.b64decode(answer["LogResult"]).decode())
        self.assertEqual("on-demand", invoke(name, {}).payload)  # $LATEST has none
        # More than are provisioned spill over.
        got = []
        busy = [threading.Thread(target=lambda: got.append(invoke(name, {"sleep": 2}, Qualifier="1").payload)) for _ in range(3)]
        for t in busy:
            t.start()
        for t in busy:
            t.join()
        self.assertEqual(["on-demand", "provisioned-concurrency", "provisioned-concurrency"], sorted(got))
        listed = lam.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
        self.assertEqual([(function_arn(name, "1"), "READY")], [(c["FunctionArn"], c["Status"]) for c in listed])
        self.assertEqual(204, lam.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")["ResponseMetadata"]["HTTPStatusCode"])
        with self.refused("ProvisionedConcurrencyConfigNotFoundException", 404, "No Provisioned Concurrency Config found for this function", Type="User"):
            lam.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")

    def test_alias_moves(self):
        name = self.published()
        lam.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        self.assertEqual("READY", self.put(name, "live", 1)["Status"])
        self.assertEqual("provisioned-concurrency", invoke(name, {}, Qualifier="live").payload)
        lam.update_function_configuration(FunctionName=name, Description="2")
        lam.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        self.assertEqual("2", lam.publish_version(FunctionName=name)["Version"])
        lam.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
        deadline = time.monotonic() + 30
        while invoke(name, {}, Qualifier="2").payload != "provisioned-concurrency":
            self.assertLess(time.monotonic(), deadline, "the alias' environments did not move")
        lam.delete_alias(FunctionName=name, Name="live")
        self.assertEqual([], lam.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"])

    def test_fails(self):
        name = self.published("raise Exception('never')\n")
        got = self.put(name, "1", 1)
        self.assertEqual(("FAILED", "FUNCTION_ERROR_INIT_FAILURE", 0), (got["Status"], got["StatusReason"], got["AvailableProvisionedConcurrentExecutions"]))

    def test_counts_as_reserved(self):
        name = self.published()
        lam.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        self.assertEqual("READY", self.put(name, "1", 1)["Status"])
        with self.refused("TooManyRequestsException", 429, "Rate Exceeded.", Reason=RESERVED):
            invoke(name, {})
        self.assertEqual("provisioned-concurrency", invoke(name, {}, Qualifier="1").payload)
        with self.invalid(None):
            lam.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=2)

    def test_refused(self):
        name = self.published()
        lam.create_alias(FunctionName=name, Name="live", FunctionVersion="1")

        def put(qualifier, n=1):
            lam.put_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=n)

        with self.invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions."):
            put("$LATEST")
        with self.invalid("The function resource provided must be an alias or a published version."):
            lam.get_provisioned_concurrency_config(FunctionName=name, Qualifier="$LATEST")
        with self.not_found("^Cannot find alias arn: "):
            put("nothing")
        with self.not_found("^Function not found: "):
            put("9")
        with self.refused("ProvisionedConcurrencyConfigNotFoundException", 404):
            lam.get_provisioned_concurrency_config(FunctionName=name, Qualifier="live")
        with self.invalid(r"^Specified ConcurrentExecutions for function is greater than account's unreserved concurrency \[\d+\]\.$"):
            put("live", 1001)
        with self.invalid("Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."):
            put("live", 950)
        self.put(name, "1", 1)
        with self.refused("ResourceConflictException", 409, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version", Type="User"):
            put("live")
        lam.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
        self.put(name, "live", 1)
        with self.refused("ResourceConflictException", 409, "Version is pointed by a Provisioned Concurrency alias", Type="User"):
            put("1")
