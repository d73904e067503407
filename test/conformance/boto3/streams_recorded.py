"""Kinesis: streams, shards, iterators and records as Kinesis was recorded to answer."""

import contextlib
import json
import time

from botocore.exceptions import ClientError

from suite import ACCOUNT, REGION, Case, client

kinesis = client("kinesis")

TOP = 2**128 - 1


class StreamCase(Case):
    def stream(self, shards=1, **arguments):
        """Creates a stream that is deleted after the test, and waits until it is active."""
        name = self.name("stream")
        if shards:
            arguments["ShardCount"] = shards
        kinesis.create_stream(StreamName=name, **arguments)
        self.addCleanup(delete, name)
        self.active(name)
        return name

    def active(self, name):
        deadline = time.monotonic() + 30
        while (got := kinesis.describe_stream(StreamName=name)["StreamDescription"])["StreamStatus"] != "ACTIVE":
            self.assertLess(time.monotonic(), deadline, got)
            time.sleep(0.02)
        return got

    def arn(self, name):
        return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"

    def iterator(self, name, kind="TRIM_HORIZON", shard="shardId-000000000000", **arguments):
        return kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType=kind, **arguments)["ShardIterator"]

    def get(self, iterator):
        """GetRecords, which a shard allows five times a second."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return kinesis.get_records(ShardIterator=iterator)
            except kinesis.exceptions.ProvisionedThroughputExceededException:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)

    def read(self, iterator, n=None, limit=20):
        """What an iterator leads to: at least n records, if given."""
        records, deadline = [], time.monotonic() + limit
        while True:
            got = self.get(iterator)
            records += got["Records"]
            if n is None or len(records) >= n:
                return records
            self.assertLess(time.monotonic(), deadline, f"{len(records)} records of {n}")
            iterator = got["NextShardIterator"]
            time.sleep(0.05)

    def put(self, name, data=b"x", key="1", **arguments):
        return kinesis.put_record(StreamName=name, Data=data, PartitionKey=key, **arguments)

    def argument(self, message):
        return self.refused("InvalidArgumentException", 400, message)

    def not_there(self, message):
        return self.refused("ResourceNotFoundException", 400, message)

    def no_stream(self, name):
        return self.not_there(f"Stream {name} under account {ACCOUNT} not found.")


def delete(name):
    with contextlib.suppress(ClientError):
        kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)


class Streams(StreamCase):
    def test_shards(self):
        name = self.stream(3)
        got = self.active(name)
        self.assertEqual((name, self.arn(name), 24, "NONE", [{"ShardLevelMetrics": []}], False), tuple(got[k] for k in ("StreamName", "StreamARN", "RetentionPeriodHours", "EncryptionType", "EnhancedMonitoring", "HasMoreShards")))
        self.assertAlmostEqual(time.time(), got["StreamCreationTimestamp"].timestamp(), delta=60)
        bounds = ["0", "113427455640312821154458202477256070484", "113427455640312821154458202477256070485", "226854911280625642308916404954512140969", "226854911280625642308916404954512140970", str(TOP)]
        for i, shard in enumerate(got["Shards"]):
            self.assertEqual({"ShardId", "HashKeyRange", "SequenceNumberRange"}, set(shard))
            self.assertEqual((f"shardId-{i:012}", {"StartingHashKey": bounds[2 * i], "EndingHashKey": bounds[2 * i + 1]}), (shard["ShardId"], shard["HashKeyRange"]))
            self.assertEqual({"StartingSequenceNumber"}, set(shard["SequenceNumberRange"]))
            self.assertRegex(shard["SequenceNumberRange"]["StartingSequenceNumber"], r"^\d{56}$")

    def test_on_demand(self):
        """A stream without a number of shards is on demand and has four."""
        name = self.stream(None)
        self.assertEqual(4, len(self.active(name)["Shards"]))
        self.assertEqual({"StreamMode": "ON_DEMAND"}, kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamModeDetails"])

    def test_refused(self):
        name = self.stream()
        with self.refused("ResourceInUseException", 400, f"Stream {name} under account {ACCOUNT} already exists."):
            kinesis.create_stream(StreamName=name, ShardCount=1)
        for arguments, message in (
            ({"StreamName": "", "ShardCount": 1}, "at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1"),
            ({"StreamName": "x" * 129, "ShardCount": 1}, "at 'streamName' failed to satisfy constraint: Member must have length less than or equal to 128"),
            ({"StreamName": "a b", "ShardCount": 1}, "at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"),
            ({"StreamName": "x", "ShardCount": 0}, "Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1"),
            ({"ShardCount": 1}, "Value null at 'streamName' failed to satisfy constraint: Member must not be null"),
        ):
            with self.subTest(message), self.refused("ValidationException", 400):
                kinesis.create_stream(**arguments)
            self.assertIn(message, self.error["Error"]["Message"])

    def test_nobody(self):
        for call in (
            lambda: kinesis.describe_stream(StreamName="nobody"),
            lambda: kinesis.describe_stream(StreamARN=self.arn("nobody")),
            lambda: kinesis.describe_stream_summary(StreamName="nobody"),
            lambda: kinesis.delete_stream(StreamName="nobody"),
            lambda: kinesis.put_record(StreamName="nobody", Data=b"", PartitionKey="a"),
            lambda: kinesis.put_records(StreamName="nobody", Records=[{"Data": b"", "PartitionKey": "a"}]),
            lambda: kinesis.split_shard(StreamName="nobody", ShardToSplit="shardId-000000000000", NewStartingHashKey="2"),
            lambda: kinesis.merge_shards(StreamName="nobody", ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001"),
            lambda: kinesis.increase_stream_retention_period(StreamName="nobody", RetentionPeriodHours=25),
            lambda: kinesis.list_shards(StreamName="nobody"),
            lambda: kinesis.add_tags_to_stream(StreamName="nobody", Tags={"a": "b"}),
            lambda: kinesis.list_tags_for_stream(StreamName="nobody"),
        ):
            with self.no_stream("nobody"):
                call()

    def test_retention(self):
        name = self.stream()
        hours = lambda: kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["RetentionPeriodHours"]
        with self.argument("Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short."):
            kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=23)
        with self.argument(f"Requested retention period (25 hours) for stream {name} can not be longer than existing retention period (24 hours). Use IncreaseRetentionPeriod API."):
            kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=25)
        kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=25)
        self.active(name)
        self.assertEqual(25, hours())
        with self.argument(f"Requested retention period (24 hours) for stream {name} can not be shorter than existing retention period (25 hours). Use DecreaseRetentionPeriod API."):
            kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
        kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
        self.active(name)
        self.assertEqual(24, hours())

    def test_tags(self):
        name = self.stream()
        kinesis.add_tags_to_stream(StreamName=name, Tags={"foo": "bar", "a": "b"})
        self.assertEqual([{"Key": "a", "Value": "b"}, {"Key": "foo", "Value": "bar"}], kinesis.list_tags_for_stream(StreamName=name)["Tags"])
        kinesis.remove_tags_from_stream(StreamName=name, TagKeys=["a", "never"])
        self.assertEqual([{"Key": "foo", "Value": "bar"}], kinesis.list_tags_for_stream(StreamName=name)["Tags"])
        for tags in {"abc;def": "1"}, {"abc\tdef": "1"}, {"abc,def": "1"}, {"a": "abc;def"}, {"a": "abc\ndef"}:
            with self.subTest(tags), self.argument("Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @."):
                kinesis.add_tags_to_stream(StreamName=name, Tags=tags)

    def test_policy(self):
        name = self.stream()
        arn = self.arn(name)
        policy = lambda *actions: {"Version": "2012-10-17", "Statement": [{"Sid": "s", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": actions[0] if len(actions) == 1 else list(actions), "Resource": arn}]}
        get = lambda: json.loads(kinesis.get_resource_policy(ResourceARN=arn)["Policy"])
        self.assertEqual({}, get())
        for wanted in policy("kinesis:PutRecord"), policy("kinesis:PutRecord", "kinesis:GetRecords"):
            kinesis.put_resource_policy(ResourceARN=arn, Policy=json.dumps(wanted))
            self.assertEqual(wanted, get())
        kinesis.delete_resource_policy(ResourceARN=arn)
        self.assertEqual({}, get())


class Records(StreamCase):
    def test_integrity(self):
        name = self.stream()
        data = [b"", b"a" * 1000, b"test", "ünicödé 统一码 💣💻🔥".encode(), bytes(range(256))]
        put = [self.put(name, d) for d in data]
        for p in put:
            self.assertEqual("shardId-000000000000", p["ShardId"])
            self.assertRegex(p["SequenceNumber"], r"^\d{56}$")
        numbers = [p["SequenceNumber"] for p in put]
        self.assertEqual(sorted(set(numbers)), numbers)
        got = self.read(self.iterator(name), len(data))
        self.assertEqual(list(zip(data, numbers)), [(r["Data"], r["SequenceNumber"]) for r in got])
        self.assertEqual({"SequenceNumber", "ApproximateArrivalTimestamp", "Data", "PartitionKey"}, set(got[0]))
        self.assertAlmostEqual(time.time(), got[0]["ApproximateArrivalTimestamp"].timestamp(), delta=60)

    def test_shard_by_key(self):
        """MD5 of the partition key, or the explicit hash key, says which shard takes a record."""
        name = self.stream(3)
        third = 2**128 // 3
        records = [{"PartitionKey": k, "Data": b"x"} for k in "abef"] + [{"PartitionKey": "a", "Data": b"x", "ExplicitHashKey": str(h)} for h in (TOP, third * 2 - 1, third * 2)]
        got = kinesis.put_records(StreamName=name, Records=records)
        self.assertEqual(0, got["FailedRecordCount"])
        self.assertEqual([0, 1, 2, 1, 2, 1, 2], [int(r["ShardId"][-1]) for r in got["Records"]])
        with self.argument(f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {TOP + 1}"):
            kinesis.put_records(StreamName=name, Records=[{"PartitionKey": "a", "Data": b"", "ExplicitHashKey": str(TOP + 1)}])
        with self.argument(f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {TOP + 1}"):
            self.put(name, ExplicitHashKey=str(TOP + 1))

    def test_empty(self):
        got = self.get(self.iterator(self.stream()))
        self.assertEqual(([], 0), (got["Records"], got["MillisBehindLatest"]))
        self.assertTrue(got["NextShardIterator"])


class Iterators(StreamCase):
    def test_kinds(self):
        name = self.stream()
        latest = self.iterator(name, "LATEST")
        numbers = [self.put(name, str(i).encode())["SequenceNumber"] for i in range(4)]
        bodies = lambda iterator, n: [r["Data"].decode() for r in self.read(iterator, n)]
        self.assertEqual(["0", "1", "2", "3"], bodies(self.iterator(name), 4))
        self.assertEqual(["0", "1", "2", "3"], bodies(latest, 4))
        self.assertEqual(["2", "3"], bodies(self.iterator(name, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[2]), 2))
        self.assertEqual(["3"], bodies(self.iterator(name, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[2]), 1))
        start = self.active(name)["Shards"][0]["SequenceNumberRange"]["StartingSequenceNumber"]
        self.assertEqual(["0", "1", "2", "3"], bodies(self.iterator(name, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=start), 4))
        self.assertEqual(["0", "1", "2", "3"], bodies(self.iterator(name, "AT_TIMESTAMP", Timestamp=time.time() - 3600), 4))
        self.assertEqual([], self.read(self.iterator(name, "LATEST")))

    def test_again(self):
        """An iterator may be used more than once, and in quotes."""
        name = self.stream()
        self.put(name, b"a")
        iterator = self.iterator(name)
        for i in iterator, iterator, f'"{iterator}"':
            self.assertEqual([b"a"], [r["Data"] for r in self.read(i, 1)])
        first = self.get(iterator)
        self.assertNotEqual(iterator, first["NextShardIterator"])
        self.assertEqual([], self.get(first["NextShardIterator"])["Records"])

    def test_shard_names(self):
        """Any prefix will do, and zeros do not matter."""
        name = self.stream()
        for shard in "shardId-0", "x-0", "0", "-00000000000000":
            self.assertTrue(self.iterator(name, shard=shard))
        for shard, full in ("shardId-5", "shardId-000000000005"), ("2147483647", "shardId-002147483647"):
            with self.subTest(shard), self.not_there(f"Shard {full} in stream {name} under account {ACCOUNT} does not exist"):
                self.iterator(name, shard=shard)
        for shard in "2147483648", "ABKLFD8", "2.14E4":
            with self.subTest(shard), self.not_there(f"Could not find shard {shard} in stream {name} under account {ACCOUNT}."):
                self.iterator(name, shard=shard)

    def test_refused(self):
        name = self.stream(2)
        both = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified "
        for kind in "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
            with self.subTest(kind), self.argument(both + kind + " and no StartingSequenceNumber."):
                self.iterator(name, kind)
        for kind in "LATEST", "TRIM_HORIZON":
            with self.subTest(kind), self.argument(both + kind + " and also a StartingSequenceNumber."):
                self.iterator(name, kind, StartingSequenceNumber="5")
        with self.argument("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter."):
            self.iterator(name, "AT_TIMESTAMP")
        with self.argument(r"^The timestampInMillis parameter cannot be greater than the currentTimestampInMillis\. timestampInMillis: \d+, currentTimestampInMillis: \d+$"):
            self.iterator(name, "AT_TIMESTAMP", Timestamp=time.time() + 3600)
        other = kinesis.put_record(StreamName=name, Data=b"", PartitionKey="a", ExplicitHashKey=str(TOP))["SequenceNumber"]
        with self.argument("Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with shardId-000000000000"):
            self.iterator(name, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=other)
        with self.argument("Invalid ShardIterator."):
            kinesis.get_records(ShardIterator="nonsense")


class Resharding(StreamCase):
    def test_split_and_merge(self):
        name = self.stream(1)
        self.put(name, b"before")
        kinesis.split_shard(StreamName=name, ShardToSplit="shardId-0", NewStartingHashKey="170141183460469231731687303715884105728")
        parent, low, high = self.active(name)["Shards"]
        self.assertIn("EndingSequenceNumber", parent["SequenceNumberRange"])
        for i, child in enumerate((low, high)):
            self.assertEqual((f"shardId-{i + 1:012}", "shardId-000000000000"), (child["ShardId"], child["ParentShardId"]))
            self.assertNotIn("EndingSequenceNumber", child["SequenceNumberRange"])
        self.assertEqual(("170141183460469231731687303715884105727", "170141183460469231731687303715884105728"), (low["HashKeyRange"]["EndingHashKey"], high["HashKeyRange"]["StartingHashKey"]))
        got = self.get(self.iterator(name))
        self.assertEqual([b"before"], [r["Data"] for r in got["Records"]])
        while "NextShardIterator" in got:
            got = self.get(got["NextShardIterator"])
        self.assertEqual([("shardId-000000000001", ["shardId-000000000000"]), ("shardId-000000000002", ["shardId-000000000000"])], [(c["ShardId"], c["ParentShards"]) for c in got["ChildShards"]])
        kinesis.merge_shards(StreamName=name, ShardToMerge="shardId-1", AdjacentShardToMerge="shardId-2")
        merged = self.active(name)["Shards"][3]
        self.assertEqual(("shardId-000000000003", "shardId-000000000001", "shardId-000000000002", {"StartingHashKey": "0", "EndingHashKey": str(TOP)}),
                         (merged["ShardId"], merged["ParentShardId"], merged["AdjacentParentShardId"], merged["HashKeyRange"]))
        self.assertEqual("shardId-000000000003", self.put(name)["ShardId"])
        self.assertEqual(["shardId-000000000003"], [s["ShardId"] for s in kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"]])

    def test_refused(self):
        name = self.stream(3)
        where = f"in stream {name} under account {ACCOUNT}"
        for shard, key, message in (
            ("shard-0", "1", "NewStartingHashKey 1 used in SplitShard() on shard shardId-000000000000 " + where + " is not both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey 113427455640312821154458202477256070484."),
            ("shard-0", "113427455640312821154458202477256070484", "NewStartingHashKey 113427455640312821154458202477256070484 used in SplitShard() on shard shardId-000000000000 " + where + " is not both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey 113427455640312821154458202477256070484."),
        ):
            with self.subTest(key), self.argument(message):
                kinesis.split_shard(StreamName=name, ShardToSplit=shard, NewStartingHashKey=key)
        with self.not_there(f"Could not find shard shardId-000000000005 {where}."):
            kinesis.split_shard(StreamName=name, ShardToSplit="shardId-5", NewStartingHashKey="2")
        for a, b in (0, 2), (1, 0):
            with self.subTest((a, b)), self.argument(f"Shards shardId-{a:012} and shardId-{b:012} {where} are not an adjacent pair of shards eligible for merging"):
                kinesis.merge_shards(StreamName=name, ShardToMerge=f"shardId-{a}", AdjacentShardToMerge=f"shardId-{b}")
        with self.argument("NextToken and StreamName cannot be provided together."):
            kinesis.list_shards(StreamName=name, NextToken="x")


class Consumers(StreamCase):
    def consumer(self, name):
        arn = kinesis.register_stream_consumer(StreamARN=self.arn(name), ConsumerName="consumer")["Consumer"]["ConsumerARN"]
        deadline = time.monotonic() + 30
        while (got := kinesis.describe_stream_consumer(ConsumerARN=arn)["ConsumerDescription"])["ConsumerStatus"] != "ACTIVE":
            self.assertLess(time.monotonic(), deadline, got)
            time.sleep(0.02)
        return got

    def test_life(self):
        name = self.stream()
        got = self.consumer(name)
        self.assertRegex(got["ConsumerARN"], f"^{self.arn(name)}/consumer/consumer:\\d+$")
        self.assertEqual({"ConsumerARN", "ConsumerCreationTimestamp", "ConsumerName", "ConsumerStatus", "StreamARN"}, set(got))
        (listed,) = kinesis.list_stream_consumers(StreamARN=self.arn(name))["Consumers"]
        self.assertEqual({k: v for k, v in got.items() if k != "StreamARN"}, listed)
        with self.refused("ResourceInUseException", 400):
            kinesis.register_stream_consumer(StreamARN=self.arn(name), ConsumerName="consumer")
        kinesis.deregister_stream_consumer(ConsumerARN=got["ConsumerARN"])
        deadline = time.monotonic() + 30
        while kinesis.list_stream_consumers(StreamARN=self.arn(name))["Consumers"]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_subscribe(self):
        name = self.stream()
        consumer = self.consumer(name)["ConsumerARN"]
        numbers = [self.put(name, f"Hello world_{i}".encode())["SequenceNumber"] for i in range(5)]
        for position, wanted in (
            ({"Type": "TRIM_HORIZON"}, numbers),
            ({"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": numbers[1]}, numbers[1:]),
            ({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": numbers[1]}, numbers[2:]),
            ({"Type": "AT_TIMESTAMP", "Timestamp": time.time() - 3600}, numbers),
        ):
            with self.subTest(position["Type"]):
                for _ in range(200):  # one at a time, and again only after a while
                    try:
                        answer = kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId="shardId-000000000000", StartingPosition=position)
                        break
                    except kinesis.exceptions.ResourceInUseException:
                        time.sleep(0.1)
                records = []
                with contextlib.closing(answer["EventStream"]) as events:
                    for event in events:
                        event = event["SubscribeToShardEvent"]
                        self.assertIn("MillisBehindLatest", event)
                        self.assertRegex(event["ContinuationSequenceNumber"], r"^\d+$")
                        records += event["Records"]
                        if len(records) >= len(wanted):
                            break
                self.assertEqual(wanted, [r["SequenceNumber"] for r in records])
