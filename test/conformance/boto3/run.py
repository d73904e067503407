"""Runs a suite and prints one line of JSON for every test: its name, how it ended, and why.

    python3 run.py all | throttle | MODULE[.Class[.test]]...
"""

import json
import os
import sys
import time
import unittest

ALL = ["functions", "versions", "layers", "concurrency", "invoke", "events", "event_sources", "loops", "streaming", "function_urls", "failures", "logging_format", "log_groups", "identity", "users", "policies", "permissions", "temporary", "front_door",
       "queues", "fifo", "queue_admin", "queue_errors", "queue_redrive", "queue_wire", "streams", "streams_recorded", "topics", "topics_recorded", "topic_filters", "topics_http", "event_sources_recorded"]


class Printer(unittest.TestResult):
    """Prints results as they come."""

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def say(self, test, outcome, detail=""):
        module, _, rest = test.id().partition(".")
        line = {"test": module + "/" + rest.replace(".", "/"), "outcome": outcome, "detail": detail}
        if os.environ.get("MAYFLY_TIMES") or "-v" in sys.argv:
            line["seconds"] = round(time.monotonic() - self.began, 2)
        print(json.dumps(line), flush=True)

    def addSuccess(self, test):
        self.say(test, "passed")

    def addSkip(self, test, reason):
        self.say(test, "skipped", reason)

    def addFailure(self, test, err):
        self.say(test, "failed", self._exc_info_to_string(err, test))

    def addError(self, test, err):
        if not hasattr(self, "began"):
            self.began = time.monotonic()
        self.say(test, "failed", self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.say(test, "failed", str(subtest) + "\n" + self._exc_info_to_string(err, test))


def main():
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    if names == ["all"]:
        names = ALL
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    unittest.defaultTestLoader.loadTestsFromNames(names).run(Printer())


if __name__ == "__main__":
    main()
