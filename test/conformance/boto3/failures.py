"""Every way in which a function fails: what its caller gets and what its log says."""

import concurrent.futures
import json
import re

from suite import Case, archive, eventually, invoke, lam, log_events, logs


class Failures(Case):
    def failed(self, got, **want):
        self.assertEqual((200, "Unhandled", "$LATEST"), (got.status, got.error, got.version), got.raw)
        self.assertIn(f"START RequestId: {got.id} Version: $LATEST", got.lines)
        self.assertIn(f"END RequestId: {got.id}", got.lines)

    def platform(self, got, kind, text, line=True, status="error", error_type=None):
        """A failure that the platform found: payload, line, END and REPORT."""
        self.failed(got)
        self.assertEqual(json.dumps({"errorType": kind, "errorMessage": f"RequestId: {got.id} Error: {text}"}, separators=(",", ":")), got.raw.decode())
        report = got.report()
        self.assertEqual(status, report.get("Status"), got.log)
        self.assertEqual(error_type, report.get("Error Type"), got.log)
        if line:
            at = [i for i, l in enumerate(got.lines) if l == f"RequestId: {got.id} Error: {text}"]
            self.assertEqual(1, len(at), got.log)
            self.assertEqual(kind, got.lines[at[0] + 1])
            self.assertLess(at[0], got.lines.index(f"END RequestId: {got.id}"))

    def exited(self, got, text, error_type="Runtime.ExitError"):
        self.platform(got, "Runtime.ExitError", text, error_type=error_type)

    def timed_out(self, got, seconds):
        text = f"Task timed out after {seconds} seconds"
        self.platform(got, "Sandbox.Timedout", text, line=False, status="timeout")
        self.assertRegex(got.log, rf"(?m)^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {got.id} {re.escape(text)}$")


class Python(Failures):
    def test_exception(self):
        name = self.python("class Own(Exception): pass\n\ndef handler(event, context):\n    print('before')\n    raise Own('it broke')\n")
        got = invoke(name)
        self.failed(got)
        self.assertEqual({"errorMessage": "it broke", "errorType": "Own", "requestId": got.id,
                          "stackTrace": ['  File "/var/task/app.py", line 5, in handler\n    raise Own(\'it broke\')\n']}, got.payload)
        self.assertEqual(["errorMessage", "errorType", "requestId", "stackTrace"], list(got.payload))
        self.assertNotIn("Status", got.report(), "the handler's own errors are no error of the environment")
        self.assertRegex(got.log, r"\[ERROR\] Own: it broke\s+Traceback \(most recent call last\):\s+File \"/var/task/app.py\", line 5, in handler")
        # The environment goes on.
        self.assertNotIn("INIT_START", invoke(name).log)

    def test_error_is_one_event(self):
        name = self.python("def handler(event, context):\n    raise ValueError('x')\n")
        got = invoke(name)
        (event,) = [m for m in log_events("/aws/lambda/" + name, "REPORT") if "[ERROR]" in m]
        self.assertIn("Traceback", event)

    def test_answer_that_is_no_json(self):
        got = invoke(self.python("def handler(event, context):\n    return {1, 2}\n"))
        self.failed(got)
        self.assertEqual("Runtime.MarshalError", got.payload["errorType"])
        self.assertEqual("Unable to marshal response: Object of type set is not JSON serializable", got.payload["errorMessage"])

    def init_failure(self, kind, message, code="", **arguments):
        got = invoke(self.python(code, **arguments))
        self.assertEqual((200, "Unhandled"), (got.status, got.error))
        self.assertEqual((kind, ""), (got.payload["errorType"], got.payload["requestId"]), got.raw)
        self.assertRegex(got.payload["errorMessage"], message)
        phases = [l for l in got.lines if l.startswith("INIT_REPORT")]
        self.assertEqual(["init", "invoke"], [re.search(r"Phase: (\w+)", l)[1] for l in phases], got.log)
        for l in phases:
            self.assertRegex(l, r"^INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: \w+\tStatus: error\tError Type: " + re.escape(kind) + "$")
        self.assertLess(got.lines.index(phases[1]), got.lines.index(f"START RequestId: {got.id} Version: $LATEST"))
        self.assertEqual("error", got.report()["Status"])
        return got

    def test_module_missing(self):
        self.init_failure("Runtime.ImportModuleError", "^Unable to import module 'nope': No module named 'nope'$", Handler="nope.handler")

    def test_import_missing(self):
        self.init_failure("Runtime.ImportModuleError", "^Unable to import module 'app': No module named 'not_there'$", "import not_there\n")

    def test_handler_missing(self):
        self.init_failure("Runtime.HandlerNotFound", "^Handler 'nope' missing on module 'app'$", Handler="app.nope")

    def test_handler_malformed(self):
        self.init_failure("Runtime.MalformedHandlerName", "^Bad handler 'handler'", Handler="handler")

    def test_syntax(self):
        got = self.init_failure("Runtime.UserCodeSyntaxError", r"^Syntax error in module 'app': ", "def handler(:\n")
        self.assertTrue(got.payload["stackTrace"])

    def test_raises_at_import(self):
        name = self.python("raise RuntimeError('at import')\n")
        got = invoke(name)
        self.failed(got)
        self.assertEqual(("RuntimeError", "at import", ""), tuple(got.payload[k] for k in ("errorType", "errorMessage", "requestId")))

    def test_exits(self):
        name = self.python("import os, sys\ndef handler(event, context):\n    os._exit(event['code'])\n")
        self.exited(invoke(name, {"code": 7}), "Runtime exited with error: exit status 7")
        self.exited(invoke(name, {"code": 0}), "Runtime exited without providing a reason")

    def test_out_of_memory(self):
        name = self.python("def handler(event, context):\n    hog = []\n    while event.get('hog'): hog.append(bytearray(b'x' * (4 << 20)))\n    return 'fine'\n", Timeout=30)
        got = invoke(name, {"hog": True})
        self.exited(got, "Runtime exited with error: signal: killed", "Runtime.OutOfMemory")
        self.assertEqual("128 MB", got.report()["Max Memory Used"])
        self.assertEqual("fine", invoke(name, {}).payload)

    def test_timeout_keeps_tmp(self):
        code = """import os, time
n = 0
def handler(event, context):
    global n
    n += 1
    if event.get("hang"):
        open("/tmp/kept", "w").close()
        time.sleep(60)
    return [n, os.path.exists("/tmp/kept")]
"""
        for _ in range(5):  # a slow machine may answer from another environment before this one is reset
            name = self.python(code, Timeout=1)
            self.assertEqual([1, False], invoke(name, {}).payload)
            got = invoke(name, {"hang": True})
            self.timed_out(got, "1.00")
            self.assertEqual("1000", got.report()["Billed Duration"].split()[0])
            self.assertEqual("1000.00", got.report()["Duration"].split()[0])
            after = invoke(name, {}).payload
            if after != [1, False]:
                break
        self.assertEqual([1, True], after, "memory is new, files are kept")
        streams = eventually(lambda: logs.describe_log_streams(logGroupName="/aws/lambda/" + name)["logStreams"])
        self.assertEqual(1, len(streams), "a reset goes on in its environment's log stream")

    def test_background_processes_end(self):
        name = self.python("""import os, subprocess
def handler(event, context):
    if event.get("leave"):
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        os._exit(1)
    found = []
    for p in os.listdir("/proc"):
        try:
            found.append(open(f"/proc/{p}/cmdline").read().split("\\0")[0])
        except OSError:
            pass
    return [f for f in found if "sleep" in f]
""")
        invoke(name, {"leave": True})
        self.assertEqual([], invoke(name, {}).payload)


class Node(Failures):
    def test_error(self):
        name = self.node("class Own extends Error { constructor(m) { super(m); this.name = 'Own' } }\nexport const handler = async () => { throw new Own('it broke') }\n")
        got = invoke(name)
        self.failed(got)
        self.assertEqual(("Own", "it broke"), (got.payload["errorType"], got.payload["errorMessage"]))
        self.assertEqual(["errorType", "errorMessage", "trace"], list(got.payload))
        self.assertEqual("Own: it broke", got.payload["trace"][0])
        self.assertIn("/var/task/index.mjs:2", got.payload["trace"][1])
        self.assertRegex(got.log, rf'{got.id}\tERROR\tInvoke Error \t\{{"errorType":"Own","errorMessage":"it broke"')

    def test_callback_error(self):
        got = invoke(self.node("exports.handler = (e, c, callback) => callback(new TypeError('no'))", "index.js"))
        self.failed(got)
        self.assertEqual(("TypeError", "no"), (got.payload["errorType"], got.payload["errorMessage"]))

    def test_thrown_text(self):
        got = invoke(self.node("export const handler = async () => { throw 'words' }"))
        self.failed(got)
        self.assertEqual({"errorType": "string", "errorMessage": "words", "trace": []}, got.payload)

    def test_uncaught(self):
        name = self.node("export const handler = () => new Promise(() => setTimeout(() => { throw new Error('later') }, 5))")
        got = invoke(name)
        self.failed(got)
        self.assertIn("later", got.raw.decode() + got.log)

    def test_rejection(self):
        name = self.node("export const handler = () => new Promise(() => { Promise.reject(new Error('nobody')) })")
        got = invoke(name)
        self.failed(got)
        self.assertEqual("Runtime.UnhandledPromiseRejection", got.payload["errorType"])

    def init_failure(self, kind, code, file="index.mjs", **arguments):
        got = invoke(self.node(code, file, **arguments))
        self.failed(got)
        self.assertEqual(kind, got.payload["errorType"], got.raw)
        self.assertEqual(2, len([l for l in got.lines if l.startswith("INIT_REPORT") and f"Error Type: {kind}" in l]), got.log)
        return got

    def test_module_missing(self):
        got = self.init_failure("Runtime.ImportModuleError", "", Handler="nope.handler")
        self.assertIn("Cannot find module 'nope'", got.payload["errorMessage"])

    def test_handler_missing(self):
        got = self.init_failure("Runtime.HandlerNotFound", "export const other = 1", Handler="index.handler")
        self.assertEqual("index.handler is undefined or not exported", got.payload["errorMessage"])

    def test_syntax(self):
        self.init_failure("Runtime.UserCodeSyntaxError", "export const handler = async ( => 1")

    def test_handler_malformed(self):
        self.init_failure("Runtime.MalformedHandlerName", "", Handler="handler")

    def test_exits(self):
        self.exited(invoke(self.node("export const handler = async () => process.exit(9)")), "Runtime exited with error: exit status 9")

    def test_out_of_memory(self):
        name = self.node("export const handler = async () => { const hog = []; for (;;) hog.push(Buffer.alloc(4 << 20, 1)) }", Timeout=30)
        self.exited(invoke(name), "Runtime exited with error: signal: killed", "Runtime.OutOfMemory")


class Provided(Failures):
    def test_error(self):
        got = invoke(self.create(), {"do": "error"})
        self.failed(got)
        self.assertEqual(b'{"errorType":"Own.Kind","errorMessage":"as I say","stackTrace":[]}', got.raw)

    def test_exits(self):
        name = self.create()
        self.exited(invoke(name, {"do": "exit", "code": 1}), "Runtime exited with error: exit status 1")
        self.exited(invoke(name, {"do": "exit", "code": 0}), "Runtime exited without providing a reason")
        self.exited(invoke(name, {"do": "kill", "code": 9}), "Runtime exited with error: signal: killed")
        self.assertEqual({"do": "echo"}, invoke(name, {"do": "echo"}).payload)

    def test_timeout(self):
        self.timed_out(invoke(self.create(Timeout=1), {"do": "hang"}), "1.00")

    def test_answer_too_big(self):
        name = self.create(Timeout=30)
        got = invoke(name, {"do": "big", "bytes": (6 << 20) + 101})
        self.failed(got)
        self.assertEqual('{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}', got.raw.decode())
        self.assertIn("status 413", got.log)
        self.assertEqual((6 << 20) + 100, len(invoke(name, {"do": "big", "bytes": (6 << 20) + 100}).raw))

    def init_exit(self, how, text):
        name = self.create(Code={"ZipFile": archive({"bootstrap": (f"#!/bin/sh\necho starting\n{how}\n", 0o755)})})
        got = invoke(name)
        self.exited(got, text)
        phases = [l for l in got.lines if l.startswith("INIT_REPORT")]
        self.assertEqual(2, len(phases), got.log)
        self.assertEqual(2, got.lines.count("starting"), got.log)
        for l in phases:
            self.assertRegex(l, r"\tStatus: error\tError Type: Runtime.ExitError$")

    def test_exits_in_init(self):
        self.init_exit("exit 3", "Runtime exited with error: exit status 3")

    def test_returns_in_init(self):
        self.init_exit("exit 0", "Runtime exited without providing a reason")

    def test_crashes_in_init(self):
        self.init_exit("kill -SEGV $$", "Runtime exited with error: signal: segmentation fault")

    def test_reports_its_init_error(self):
        got = invoke(self.create(Environment={"Variables": {"INIT": "error"}}))
        self.failed(got)
        self.assertEqual({"errorType": "Config.Missing", "errorMessage": "no configuration"}, got.payload)
        self.assertIn("Error Type: Function.ConfigMissing", got.log)

    def test_bootstrap_missing(self):
        got = invoke(self.create(Code={"ZipFile": archive({"other": "x"})}))
        self.platform(got, "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]", error_type="Runtime.InvalidEntrypoint")

    def test_bootstrap_not_executable(self):
        got = invoke(self.create(Code={"ZipFile": archive({"bootstrap": ("#!/bin/sh\n", 0o644)})}))
        self.failed(got)
        self.assertIn(got.payload["errorType"], ("Runtime.InvalidEntrypoint", "Runtime.ExitError"))

    def test_bootstrap_of_another_kind(self):
        got = invoke(self.create(Code={"ZipFile": archive({"bootstrap": (b"\x7fELF nonsense", 0o755)})}))
        self.failed(got)
        self.assertEqual("Runtime.InvalidEntrypoint", got.payload["errorType"], got.raw)


class SlowInit(Failures):
    """What takes ten seconds, all at once."""

    @classmethod
    def setUpClass(cls):
        case = Case()
        cls.addClassCleanup(case.doCleanups)
        slow = case.create(Environment={"Variables": {"INIT": "slow"}}, Timeout=5)
        hangs = case.create(Environment={"Variables": {"INIT": "hang"}}, Timeout=1)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            cls.slow, cls.hangs = pool.map(lambda name: invoke(name, {"n": 1}), (slow, hangs))

    def test_is_tried_again(self):
        got = self.slow
        self.assertEqual((None, {"n": 1}), (got.error, got.payload))
        self.assertRegex(got.log, r"(?m)^INIT_REPORT Init Duration: (9999|10\d\d\d)\.\d\d ms\tPhase: init\tStatus: timeout$")

    def test_hangs(self):
        self.timed_out(self.hangs, "1.00")
        self.assertRegex(self.hangs.log, r"(?m)^INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: timeout$")
