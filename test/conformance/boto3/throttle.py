"""A server that allows two invocations at a time."""

import threading

from suite import Case, invoke, lam, log_events, signed


class Throttle(Case):
    def test_limit(self):
        name = self.python("import time\ndef handler(event, context):\n    print('running')\n    time.sleep(event.get('sleep', 0))\n    return 'done'\n", Timeout=10)
        got = []
        busy = [threading.Thread(target=lambda: got.append(invoke(name, {"sleep": 3}).payload)) for _ in range(2)]
        for t in busy:
            t.start()
        # Both run as soon as both have logged that they do.
        while len([m for m in log_events("/aws/lambda/" + name, "running") if m.startswith("running")]) < 2:
            pass
        with self.refused("TooManyRequestsException", 429, "Rate Exceeded.", Type="User", Reason="ConcurrentInvocationLimitExceeded"):
            invoke(name, {})
        answer = signed("POST", f"/2015-03-31/functions/{name}/invocations", b"{}")
        self.assertEqual((429, "TooManyRequestsException"), (answer.status, answer.code))
        self.assertEqual({"Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}, answer.json)
        for t in busy:
            t.join()
        self.assertEqual(["done", "done"], got)
        self.assertEqual("done", invoke(name, {}).payload)

    def test_account_settings(self):
        self.assertEqual(2, lam.get_account_settings()["AccountLimit"]["ConcurrentExecutions"])
