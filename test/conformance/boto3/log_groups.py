"""CloudWatch Logs: groups, streams, events, filters, tags and retention."""

import time

from botocore.exceptions import ClientError

from suite import ACCOUNT, REGION, Case, client, logs


def now():
    return int(time.time() * 1000)


def group_arn(name):
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}"


class Base(Case):
    def parameter(self, message=None):
        return self.refused("InvalidParameterException", 400, message)

    def missing(self, what="group"):
        return self.refused("ResourceNotFoundException", 400, f"The specified log {what} does not exist.")

    def filled(self, messages, group=None, stream="s", at=None):
        group = group or self.group()
        try:
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        except logs.exceptions.ResourceAlreadyExistsException:
            pass
        at = at or now() - len(messages)
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": at + i, "message": m} for i, m in enumerate(messages)])
        return group, at

    def found(self, group, **arguments):
        return [e["message"] for p in logs.get_paginator("filter_log_events").paginate(logGroupName=group, **arguments) for e in p["events"]]


class Groups(Base):
    def test_life(self):
        group = self.group(tags={"a": "b"})
        (got,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        self.assertEqual((group, group_arn(group) + ":*", group_arn(group), 0, 0, "STANDARD"),
                         tuple(got[k] for k in ("logGroupName", "arn", "logGroupArn", "storedBytes", "metricFilterCount", "logGroupClass")))
        self.assertAlmostEqual(now(), got["creationTime"], delta=10000)
        self.assertNotIn("retentionInDays", got)
        with self.refused("ResourceAlreadyExistsException", 400, "The specified log group already exists"):
            logs.create_log_group(logGroupName=group)
        logs.delete_log_group(logGroupName=group)
        with self.missing():
            logs.delete_log_group(logGroupName=group)
        self.assertEqual([], logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"])

    def test_names(self):
        for name in "a b", "x" * 513, "a:b":
            with self.subTest(name[:10]), self.parameter("^1 validation error detected: Value '.*' at 'logGroupName' failed to satisfy constraint: Member must "):
                logs.create_log_group(logGroupName=name)

    def test_retention(self):
        group = self.group()
        logs.put_retention_policy(logGroupName=group, retentionInDays=7)
        self.assertEqual(7, logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"])
        logs.delete_retention_policy(logGroupName=group)
        self.assertNotIn("retentionInDays", logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0])
        with self.parameter("^1 validation error detected: Value '8' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: "):
            logs.put_retention_policy(logGroupName=group, retentionInDays=8)
        with self.missing():
            logs.put_retention_policy(logGroupName="/nope", retentionInDays=7)

    def test_paging(self):
        prefix = "/conformance/" + self.name("many")
        names = [f"{prefix}-{i}" for i in range(5)]
        for n in names:
            logs.create_log_group(logGroupName=n)
            self.addCleanup(logs.delete_log_group, logGroupName=n)
        pages = list(logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix, PaginationConfig={"PageSize": 2}))
        self.assertEqual([2, 2, 1], [len(p["logGroups"]) for p in pages])
        self.assertEqual(names, [g["logGroupName"] for p in pages for g in p["logGroups"]])
        self.assertEqual(names, [g["logGroupName"] for g in logs.describe_log_groups(logGroupNamePattern=prefix[-8:])["logGroups"]])
        with self.parameter("The specified nextToken is invalid."):
            logs.describe_log_groups(nextToken="nonsense")

    def test_tags(self):
        group = self.group(tags={"a": "1"})
        arn = group_arn(group)
        logs.tag_resource(resourceArn=arn, tags={"b": "2"})
        self.assertEqual({"a": "1", "b": "2"}, logs.list_tags_for_resource(resourceArn=arn)["tags"])
        self.assertEqual({"a": "1", "b": "2"}, logs.list_tags_log_group(logGroupName=group)["tags"])
        logs.untag_resource(resourceArn=arn, tagKeys=["a", "c"])
        logs.tag_log_group(logGroupName=group, tags={"c": "3"})
        logs.untag_log_group(logGroupName=group, tags=["b"])
        self.assertEqual({"c": "3"}, logs.list_tags_for_resource(resourceArn=arn)["tags"])
        with self.parameter("^1 validation error detected: Value .* at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50"):
            logs.tag_resource(resourceArn=arn, tags={f"k{i}": "v" for i in range(51)})
        with self.missing():
            logs.list_tags_for_resource(resourceArn=group_arn("/nope"))

    def test_regions_are_apart(self):
        group = self.group()
        self.assertEqual([], client("logs", region_name="eu-west-1").describe_log_groups(logGroupNamePrefix=group)["logGroups"])


class Streams(Base):
    def test_life(self):
        group = self.group()
        logs.create_log_stream(logGroupName=group, logStreamName="a/b[1]")
        (got,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
        self.assertEqual(("a/b[1]", f"{group_arn(group)}:log-stream:a/b[1]"), (got["logStreamName"], got["arn"]))
        self.assertNotIn("firstEventTimestamp", got)
        with self.refused("ResourceAlreadyExistsException", 400, "The specified log stream already exists"):
            logs.create_log_stream(logGroupName=group, logStreamName="a/b[1]")
        logs.delete_log_stream(logGroupName=group, logStreamName="a/b[1]")
        with self.missing("stream"):
            logs.delete_log_stream(logGroupName=group, logStreamName="a/b[1]")
        with self.missing():
            logs.create_log_stream(logGroupName="/nope", logStreamName="a")
        for bad in "a:b", "a*b", "":
            with self.subTest(bad), self.parameter("^1 validation error detected: Value '.*' at 'logStreamName' failed to satisfy constraint"):
                logs.create_log_stream(logGroupName=group, logStreamName=bad)

    def test_order(self):
        group, at = self.filled(["x"], stream="b", at=now() - 5000)
        self.filled(["y"], group, "a", at=now() - 9000)
        self.filled(["z"], group, "c", at=now() - 1000)
        names = lambda **a: [s["logStreamName"] for s in logs.describe_log_streams(logGroupName=group, **a)["logStreams"]]
        self.assertEqual(["a", "b", "c"], names())
        self.assertEqual(["c", "b", "a"], names(descending=True))
        self.assertEqual(["c", "b", "a"], names(orderBy="LastEventTime", descending=True))
        self.assertEqual(["b"], names(logStreamNamePrefix="b"))
        with self.parameter("Cannot order by LastEventTime with a logStreamNamePrefix."):
            names(orderBy="LastEventTime", logStreamNamePrefix="b")
        pages = list(logs.get_paginator("describe_log_streams").paginate(logGroupName=group, PaginationConfig={"PageSize": 2}))
        self.assertEqual([2, 1], [len(p["logStreams"]) for p in pages])
        (b,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="b")["logStreams"]
        self.assertEqual((at, at), (b["firstEventTimestamp"], b["lastEventTimestamp"]))


class Events(Base):
    def test_put_and_get(self):
        group, at = self.filled(["one", "two", "three"])
        got = logs.get_log_events(logGroupName=group, logStreamName="s", startFromHead=True)
        self.assertEqual([("one", at), ("two", at + 1), ("three", at + 2)], [(e["message"], e["timestamp"]) for e in got["events"]])
        self.assertAlmostEqual(now(), got["events"][0]["ingestionTime"], delta=10000)
        self.assertTrue(got["nextForwardToken"].startswith("f/") and got["nextBackwardToken"].startswith("b/"))

    def test_tokens(self):
        group, _ = self.filled([str(i) for i in range(10)])
        get = lambda **a: logs.get_log_events(logGroupName=group, logStreamName="s", limit=4, **a)
        words = lambda got: "".join(e["message"] for e in got["events"])
        got, seen = get(startFromHead=True), []
        while got["events"]:
            seen.append(words(got))
            got = get(nextToken=got["nextForwardToken"], startFromHead=True)
        self.assertEqual(["0123", "4567", "89"], seen)
        self.assertEqual(got["nextForwardToken"], get(nextToken=got["nextForwardToken"], startFromHead=True)["nextForwardToken"], "the same token at the end")
        last = get()
        self.assertEqual("6789", words(last))
        self.assertEqual("2345", words(get(nextToken=last["nextBackwardToken"])))
        # What comes later is found with the token of the end.
        self.filled(["new"], group, at=now() + 50)
        self.assertEqual("new", words(get(nextToken=got["nextForwardToken"])))
        with self.parameter("The specified nextToken is invalid."):
            get(nextToken="f/nonsense")

    def test_times(self):
        group, at = self.filled([str(i) for i in range(10)])
        got = logs.get_log_events(logGroupName=group, logStreamName="s", startFromHead=True, startTime=at + 2, endTime=at + 5)
        self.assertEqual("234", "".join(e["message"] for e in got["events"]), "the end does not belong to it")
        self.assertEqual(["2", "3", "4", "5"], self.found(group, startTime=at + 2, endTime=at + 5), "here it does")

    def test_refused(self):
        group, at = self.filled(["x"])
        put = lambda *events, **a: logs.put_log_events(**{**dict(logGroupName=group, logStreamName="s", logEvents=[{"timestamp": t, "message": m} for t, m in events]), **a})
        with self.missing("stream"):
            put((at, "x"), logStreamName="nope")
        with self.missing():
            put((at, "x"), logGroupName="/nope")
        with self.parameter("Log events in a single PutLogEvents request must be in chronological order."):
            put((at, "x"), (at - 1, "y"))
        with self.parameter("The batch of log events in a single PutLogEvents request cannot span more than 24 hours."):
            put((at - 25 * 3600 * 1000, "x"), (at, "y"))
        with self.parameter("^Log event too large: "):
            put((at, "x" * (1 << 20)))
        with self.parameter("^1 validation error detected: Value .* at 'logEvents' failed to satisfy constraint: Member must have length greater than or equal to 1"):
            put()
        with self.parameter():
            put((at, ""))
        got = put((at - 15 * 86400000, "old"))
        self.assertEqual({"tooOldLogEventEndIndex": 1}, got.get("rejectedLogEventsInfo"))
        got = put((at + 3 * 3600 * 1000, "new"))
        self.assertEqual({"tooNewLogEventStartIndex": 0}, got.get("rejectedLogEventsInfo"))
        # Sequence tokens are of the past: any is taken.
        put((now(), "y"), sequenceToken="whatever")

    def test_unicode(self):
        text = "tab\tnew\nline \u00e9\U0001f98b \x1b[31m"
        group, _ = self.filled([text])
        self.assertEqual([text], self.found(group))


class Filter(Base):
    def test_patterns(self):
        messages = ["ERROR disk full", "WARN disk slow", "info all fine", '{"level":"ERROR","ms":150,"user":{"id":"u1"}}', '{"level":"INFO","ms":20}', "127.0.0.1 - bob [date] GET 404 12"]
        group, _ = self.filled(messages)
        for pattern, want in (
            ("", [0, 1, 2, 3, 4, 5]), ("ERROR", [0, 3]), ("disk full", [0]), ('"disk full"', [0]), ("?ERROR ?WARN", [0, 1, 3]), ("disk -slow", [0]), ("error", []),
            ('{ $.level = "ERROR" }', [3]), ("{ $.ms > 100 }", [3]), ("{ $.ms < 100 || $.user.id = u1 }", [3, 4]), ('{ $.level = "*R*" && $.ms = 150 }', [3]),
            ("{ $.user.id = * }", [3]), ("{ $.user NOT EXISTS }", [4]), ("[ip, dash, user=bob, date, verb, status=4*, size]", [5]), ("[..., size>10]", [5]), ("%D..K|disk%", [0, 1]),
        ):
            with self.subTest(pattern):
                self.assertEqual([messages[i] for i in want], self.found(group, filterPattern=pattern), pattern)
        for bad in '{ $.a = ', '"open', "[a, b", "{ a = 1 }":
            with self.subTest(bad), self.parameter():
                logs.filter_log_events(logGroupName=group, filterPattern=bad)

    def test_streams(self):
        group, at = self.filled(["a1", "a2"], stream="a", at=now() - 100)
        self.filled(["b1", "b2"], group, "b", at=at + 1)
        self.assertEqual(["a1", "a2", "b1", "b2"], sorted(self.found(group)))
        got = logs.filter_log_events(logGroupName=group)["events"]
        self.assertEqual(sorted(e["timestamp"] for e in got), [e["timestamp"] for e in got], "interleaved by time")
        self.assertEqual(4, len({e["eventId"] for e in got}))
        self.assertEqual(["b1", "b2"], self.found(group, logStreamNames=["b"]))
        self.assertEqual(["a1", "a2"], self.found(group, logStreamNamePrefix="a"))
        with self.parameter("logStreamNames and logStreamNamePrefix are mutually exclusive parameters."):
            self.found(group, logStreamNames=["b"], logStreamNamePrefix="a")
        with self.missing():
            self.found("/nope")

    def test_paging(self):
        group, _ = self.filled([f"{'even' if i % 2 == 0 else 'odd'} {i}" for i in range(50)])
        seen, token, pages = [], None, 0
        while True:
            got = logs.filter_log_events(logGroupName=group, filterPattern="even", limit=7, **({"nextToken": token} if token else {}))
            seen += [e["message"] for e in got["events"]]
            pages, token = pages + 1, got.get("nextToken")
            if not token:
                break
        self.assertEqual([f"even {i}" for i in range(0, 50, 2)], seen)
        self.assertGreaterEqual(pages, 4)
        with self.parameter():
            logs.filter_log_events(logGroupName=group, nextToken="nonsense")


class NotServed(Base):
    def test_named(self):
        for call in lambda: logs.start_query(logGroupName="g", startTime=0, endTime=1, queryString="fields @message"), lambda: logs.describe_metric_filters():
            with self.assertRaises(ClientError) as e:
                call()
            self.assertIn(e.exception.operation_name, e.exception.response["Error"]["Message"])
