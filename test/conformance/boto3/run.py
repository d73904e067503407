"""Runs a suite and prints one line of JSON for every test: its name, how it ended, and why.

    python3 run.py all | behaviour | throttle | MODULE[.Class[.test]]...

With --at-once=N, N tests run at a time: those that wait more than they work.
"""

import json
import os
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

ALL = ["functions", "versions", "layers", "concurrency", "invoke", "events", "event_sources", "loops", "streaming", "function_urls", "failures", "logging_format", "log_groups", "identity", "users", "policies", "permissions", "temporary", "front_door",
       "queues", "fifo", "queue_admin", "queue_errors", "queue_redrive", "queue_wire", "streams", "streams_recorded", "topics", "topics_recorded", "topic_filters", "topics_http", "event_sources_recorded", "mappings"]

BEHAVIOUR = ["event_source_ages", "event_source_changes", "event_source_behaviour", "event_source_streams", "event_source_windows", "event_source_records"]


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
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

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
    names = {"all": ALL, "behaviour": BEHAVIOUR}.get(" ".join(names), names)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    tests = unittest.defaultTestLoader.loadTestsFromNames(names)
    many = [int(a.partition("=")[2]) for a in sys.argv[1:] if a.startswith("--at-once=")]
    if not many:
        tests.run(Printer())
        return
    with ThreadPoolExecutor(many[0]) as pool:
        list(pool.map(lambda test: test.run(Printer()), each(tests)))


def each(tests):
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


if __name__ == "__main__":
    main()
