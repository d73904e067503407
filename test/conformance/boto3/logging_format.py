"""Logs in JSON: what the platform writes, what Python and Node write, and levels."""

import json

from suite import Case, invoke, log_events


def records(name, wanted="platform.report"):
    return [json.loads(m) for m in log_events("/aws/lambda/" + name, wanted) if m.startswith("{")]


class Json(Case):
    JSON = {"LogFormat": "JSON"}

    def test_platform(self):
        name = self.create(LoggingConfig=self.JSON)
        got = invoke(name, {"do": "echo", "text": "plain words"})
        self.assertNotIn("START RequestId", got.log)
        found = {r["type"]: r for r in records(name) if "type" in r}
        self.assertLessEqual({"platform.initStart", "platform.start", "platform.runtimeDone", "platform.report"}, set(found))
        report = found["platform.report"]
        self.assertRegex(report["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual((got.id, "success"), (report["record"]["requestId"], report["record"]["status"]))
        metrics = report["record"]["metrics"]
        self.assertEqual({"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"}, set(metrics))
        self.assertEqual(128, metrics["memorySizeMB"])
        self.assertEqual((got.id, "$LATEST"), (found["platform.start"]["record"]["requestId"], found["platform.start"]["record"]["version"]))
        self.assertEqual("on-demand", found["platform.initStart"]["record"]["initializationType"])

    def test_python(self):
        name = self.python("import logging\nlog = logging.getLogger()\ndef handler(event, context):\n    log.info('info %s', 1)\n    log.warning('warned', extra={'own': 1})\n"
                           "    log.debug('quiet')\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        log.exception('caught')\n", LoggingConfig=self.JSON)
        got = invoke(name)
        app = [r for r in records(name) if "level" in r]
        self.assertEqual(["INFO", "WARNING", "ERROR"], [r["level"] for r in app])
        self.assertEqual(("info 1", got.id), (app[0]["message"], app[0]["requestId"]))
        self.assertRegex(app[0]["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual("ZeroDivisionError", app[2]["errorType"])
        self.assertTrue(app[2]["stackTrace"])

    def test_python_error(self):
        name = self.python("def handler(event, context):\n    raise ValueError('x')\n", LoggingConfig=self.JSON)
        got = invoke(name)
        (record,) = [r for r in records(name) if r.get("log_level") == "ERROR"]
        self.assertEqual(("ValueError", "x", got.id), (record["errorType"], record["errorMessage"], record["requestId"]))

    def test_node(self):
        name = self.node("export const handler = async () => { console.log('one', { two: 2 }); console.error(new Error('three')); console.debug('quiet') }", LoggingConfig=self.JSON)
        got = invoke(name)
        app = [r for r in records(name) if "level" in r]
        self.assertEqual(["INFO", "ERROR"], [r["level"] for r in app])
        self.assertEqual(got.id, app[0]["requestId"])
        self.assertRegex(app[0]["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertIn("one", app[0]["message"])
        self.assertEqual(("Error", "three"), (app[1]["message"]["errorType"], app[1]["message"]["errorMessage"]))

    def test_levels(self):
        code = "import logging\nlog = logging.getLogger()\ndef handler(event, context):\n    log.debug('d')\n    log.info('i')\n    log.error('e')\n    raise ValueError('last')\n"
        name = self.python(code, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "ERROR", "SystemLogLevel": "WARN"})
        invoke(name)
        found = records(name, "last")
        self.assertEqual(["e", "last"], [r.get("message") if "message" in r else r.get("errorMessage") for r in found if "level" in r or "log_level" in r])
        self.assertFalse([r for r in found if r.get("type") in ("platform.start", "platform.initStart")], found)
        debug = self.python(code, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "DEBUG"})
        invoke(debug)
        self.assertIn("d", [r.get("message") for r in records(debug)])

    def test_timeout(self):
        name = self.create(LoggingConfig=self.JSON, Timeout=1)
        got = invoke(name, {"do": "hang"})
        self.assertEqual("Sandbox.Timedout", got.payload["errorType"])
        (report,) = [r for r in records(name) if r.get("type") == "platform.report"]
        self.assertEqual("timeout", report["record"]["status"])


class Text(Case):
    def test_python(self):
        name = self.python("import logging\nlog = logging.getLogger()\nlog.setLevel(logging.INFO)\ndef handler(event, context):\n    log.info('said')\n    log.warning('warned')\n")
        got = invoke(name)
        self.assertRegex(got.log, rf"(?m)^\[INFO\]\t\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{got.id}\tsaid$")
        self.assertRegex(got.log, rf"(?m)^\[WARNING\]\t\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{got.id}\twarned$")

    def test_node(self):
        name = self.node("console.log('at init'); export const handler = async () => { console.log('said', { a: 1 }); console.warn('warned') }")
        got = invoke(name)
        self.assertRegex(got.log, rf"(?m)^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{got.id}\tINFO\tsaid {{ a: 1 }}$")
        self.assertRegex(got.log, rf"(?m)^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{got.id}\tWARN\twarned$")
        self.assertTrue([m for m in log_events("/aws/lambda/" + name, "REPORT") if "\tundefined\tINFO\tat init" in m])
