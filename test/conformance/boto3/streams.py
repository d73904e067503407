"""Kinesis: streams, records, shards, consumers, from JSON and from CBOR."""

import contextlib
import json
import struct
import time
from datetime import datetime, timedelta, timezone

import boto3
from botocore.exceptions import ClientError, EventStreamError

from suite import ACCOUNT, REGION, Case, client, iam, signed

kinesis = client("kinesis")

LAST = str(2**128 - 1)


def arn(name):
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"


def shard(n):
    return f"shardId-{n:012}"


def delete(name):
    with contextlib.suppress(ClientError):
        kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)


class StreamCase(Case):
    def stream(self, shards=1, **arguments):
        """A stream that is deleted after the test; on demand if shards is 0."""
        name = self.name("s")
        if shards:
            arguments["ShardCount"] = shards
        else:
            arguments["StreamModeDetails"] = {"StreamMode": "ON_DEMAND"}
        kinesis.create_stream(StreamName=name, **arguments)
        self.addCleanup(delete, name)
        self.active(name)
        return name

    def summary(self, name):
        return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]

    def active(self, name):
        self.await_(lambda: self.summary(name)["StreamStatus"] == "ACTIVE")

    def await_(self, what, seconds=30):
        end = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), end, "it does not come to pass")
            time.sleep(0.02)

    def iterator(self, name, n=0, kind="TRIM_HORIZON", **arguments):
        return kinesis.get_shard_iterator(StreamName=name, ShardId=shard(n), ShardIteratorType=kind, **arguments)["ShardIterator"]

    def read(self, iterator):
        """All records up to the tip, and the last answer. A shard is read five times a second at most."""
        records = []
        while True:
            try:
                answer = kinesis.get_records(ShardIterator=iterator)
            except kinesis.exceptions.ProvisionedThroughputExceededException:
                time.sleep(0.2)
                continue
            records += answer["Records"]
            iterator = answer.get("NextShardIterator")
            if iterator is None or answer["MillisBehindLatest"] == 0:
                return records, answer

    def datas(self, name, n=0, kind="TRIM_HORIZON", **arguments):
        return [r["Data"].decode() for r in self.read(self.iterator(name, n, kind, **arguments))[0]]

    def consumer(self, name):
        c = kinesis.register_stream_consumer(StreamARN=arn(name), ConsumerName=self.name("c"))["Consumer"]
        self.await_(lambda: kinesis.describe_stream_consumer(ConsumerARN=c["ConsumerARN"])["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE")
        return c["ConsumerARN"]


class Streams(StreamCase):
    def test_life(self):
        name = self.stream(2, Tags={"team": "flies"})
        d = kinesis.describe_stream(StreamName=name)["StreamDescription"]
        self.assertEqual((name, arn(name), "ACTIVE", 24, "NONE", False), tuple(d[k] for k in ("StreamName", "StreamARN", "StreamStatus", "RetentionPeriodHours", "EncryptionType", "HasMoreShards")))
        self.assertEqual([{"ShardLevelMetrics": []}], d["EnhancedMonitoring"])
        self.assertEqual({"StreamMode": "PROVISIONED"}, d["StreamModeDetails"])
        self.assertEqual([("0", str(2**127 - 1)), (str(2**127), LAST)], [(s["HashKeyRange"]["StartingHashKey"], s["HashKeyRange"]["EndingHashKey"]) for s in d["Shards"]])
        for s in d["Shards"]:
            self.assertRegex(s["SequenceNumberRange"]["StartingSequenceNumber"], r"^49\d{54}$")
            self.assertNotIn("EndingSequenceNumber", s["SequenceNumberRange"])
        self.assertRegex(self.summary(name)["StreamId"], r"^[a-z0-9]{20}-[a-z0-9]{3}$")
        self.assertEqual([{"Key": "team", "Value": "flies"}], kinesis.list_tags_for_stream(StreamName=name)["Tags"])
        self.assertEqual(kinesis.list_tags_for_resource(ResourceARN=arn(name))["Tags"], kinesis.list_tags_for_stream(StreamName=name)["Tags"])
        with self.refused("ResourceInUseException", 400, f"Stream {name} under account {ACCOUNT} already exists."):
            kinesis.create_stream(StreamName=name, ShardCount=1)
        kinesis.delete_stream(StreamName=name)
        kinesis.get_waiter("stream_not_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        with self.refused("ResourceNotFoundException", 400, f"Stream {name} under account {ACCOUNT} not found."):
            kinesis.describe_stream(StreamName=name)

    def test_listed(self):
        names = sorted(self.stream() for _ in range(3))
        found = [s for page in kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 1}) for s in page["StreamSummaries"]]
        self.assertEqual([(n, arn(n), "ACTIVE") for n in names], [(s["StreamName"], s["StreamARN"], s["StreamStatus"]) for s in found if s["StreamName"] in names])

    def test_bad_input(self):
        name = self.name("s")
        for code, message, arguments in (
            ("ValidationException", "^1 validation error detected: Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1$", {"StreamName": name, "ShardCount": 0}),
            ("ValidationException", "^1 validation error detected: Value 'a b' at 'streamName'", {"StreamName": "a b", "ShardCount": 1}),
            ("ValidationException", "^1 validation error detected: Value null at 'streamName'", {"ShardCount": 1}),
            ("LimitExceededException", "^This request would exceed the shard limit for the account", {"StreamName": name, "ShardCount": 100_000}),
        ):
            with self.refused(code, 400, message):
                kinesis.create_stream(**arguments)
        self.assertEqual(400, signed("POST", "/", b"{", "kinesis", {"X-Amz-Target": "Kinesis_20131202.ListStreams", "Content-Type": "application/x-amz-json-1.1"}).status)
        answer = signed("POST", "/", b"{}", "kinesis", {"X-Amz-Target": "Kinesis_20131202.Nothing", "Content-Type": "application/x-amz-json-1.1"})
        self.assertEqual("UnknownOperationException", answer.json["__type"])

    def test_settings(self):
        name = self.stream()
        kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=8760)
        with self.refused("InvalidArgumentException", 400, f"Requested retention period (24 hours) for stream {name} can not be shorter than existing retention period (8760 hours). Use DecreaseRetentionPeriod API."):
            kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
        kinesis.decrease_stream_retention_period(StreamARN=arn(name), RetentionPeriodHours=24)
        kinesis.start_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId="alias/aws/kinesis")
        self.active(name)
        self.assertEqual(("KMS", "alias/aws/kinesis"), (self.summary(name)["EncryptionType"], self.summary(name)["KeyId"]))
        self.assertEqual("KMS", kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k")["EncryptionType"])
        kinesis.stop_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId="alias/aws/kinesis")
        self.active(name)
        self.assertEqual(["IncomingBytes"], kinesis.enable_enhanced_monitoring(StreamName=name, ShardLevelMetrics=["IncomingBytes"])["DesiredShardLevelMetrics"])
        kinesis.update_max_record_size(StreamARN=arn(name), MaxRecordSizeInKiB=10240)
        self.active(name)
        data = b"x" * (10 * 2**20 - 1)
        kinesis.put_record(StreamName=name, Data=data, PartitionKey="k")
        self.assertEqual([b"x", data], [r["Data"] for r in self.read(self.iterator(name))[0]])

    def test_on_demand(self):
        name = self.stream(0)
        self.assertEqual((4, {"StreamMode": "ON_DEMAND"}), (self.summary(name)["OpenShardCount"], self.summary(name)["StreamModeDetails"]))
        with self.validation(f"Request is invalid. Stream {name} under account {ACCOUNT} is in On-Demand mode."):
            kinesis.update_shard_count(StreamName=name, TargetShardCount=8, ScalingType="UNIFORM_SCALING")
        self.assertEqual(8, kinesis.update_stream_warm_throughput(StreamName=name, WarmThroughputMiBps=8)["WarmThroughput"]["TargetMiBps"])
        self.active(name)
        self.assertEqual(8, self.summary(name)["OpenShardCount"])
        kinesis.update_stream_mode(StreamARN=arn(name), StreamModeDetails={"StreamMode": "PROVISIONED"})
        self.active(name)
        limits = kinesis.describe_limits()
        self.assertGreaterEqual(limits["OpenShardCount"], 8)
        self.assertEqual("DISABLED", kinesis.describe_account_settings()["MinimumThroughputBillingCommitment"]["Status"])


class Records(StreamCase):
    def test_put_and_get(self):
        name = self.stream(2)
        put = kinesis.put_records(StreamName=name, Records=[{"Data": str(i).encode(), "PartitionKey": f"k{i}", "ExplicitHashKey": str(i % 2 * 2**127)} for i in range(20)])
        self.assertEqual(0, put["FailedRecordCount"])
        self.assertEqual([shard(i % 2) for i in range(20)], [r["ShardId"] for r in put["Records"]])
        for n in 0, 1:
            records, last = self.read(self.iterator(name, n))
            self.assertEqual([str(i) for i in range(n, 20, 2)], [r["Data"].decode() for r in records])
            self.assertEqual([r["SequenceNumber"] for r in put["Records"][n::2]], [r["SequenceNumber"] for r in records])
            self.assertEqual(sorted(r["SequenceNumber"] for r in records), [r["SequenceNumber"] for r in records])
            self.assertEqual((0, [f"k{i}" for i in range(n, 20, 2)]), (last["MillisBehindLatest"], [r["PartitionKey"] for r in records]))
            self.assertLess(abs(datetime.now(timezone.utc) - records[0]["ApproximateArrivalTimestamp"]), timedelta(minutes=1))
        fifth = put["Records"][8]["SequenceNumber"]
        time.sleep(1)  # five reads a second
        self.assertEqual(["8", "10"], self.datas(name, 0, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=fifth)[:2])
        self.assertEqual(["10", "12"], self.datas(name, 0, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=fifth)[:2])
        self.assertEqual([], self.datas(name, 0, "LATEST"))
        self.assertEqual(10, len(self.datas(name, 0, "AT_TIMESTAMP", Timestamp=datetime(2020, 1, 1))))

    def test_where_keys_go(self):
        # Of MD5: "1" is c4ca..., "6" is 1679....
        name = self.stream(2)
        self.assertEqual(shard(1), kinesis.put_record(StreamName=name, Data=b"", PartitionKey="1")["ShardId"])
        self.assertEqual(shard(0), kinesis.put_record(StreamName=name, Data=b"", PartitionKey="6")["ShardId"])

    def test_iterators(self):
        name = self.stream()
        for bad in "AAAA", "x", self.iterator(name)[:-8] + "AAAAAAA=":
            with self.refused("InvalidArgumentException", 400, "Invalid ShardIterator."):
                kinesis.get_records(ShardIterator=bad)
        with self.refused("ResourceNotFoundException", 400, f"Shard {shard(5)} in stream {name} under account {ACCOUNT} does not exist"):
            self.iterator(name, 5)
        with self.refused("InvalidArgumentException", 400, "^Must either specify"):
            self.iterator(name, 0, "AT_SEQUENCE_NUMBER")

    def test_throttled(self):
        name = self.stream()
        # More than a second's in one call, however long it takes.
        results = kinesis.put_records(StreamName=name, Records=[{"Data": b"x" * 2199, "PartitionKey": "k"}] * 500)["Records"]
        bad = [r for r in results if "ErrorCode" in r]
        self.assertEqual(500 - 2**20 // 2200, len(bad))
        self.assertEqual({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": f"Rate exceeded for shard {shard(0)} in stream {name} under account {ACCOUNT}."}, bad[0])
        self.assertEqual(500 - len(bad), len(self.datas(name)))


class Shards(StreamCase):
    def test_split_and_merge(self):
        name = self.stream()
        kinesis.put_record(StreamName=name, Data=b"before", PartitionKey="6")
        kinesis.split_shard(StreamName=name, ShardToSplit=shard(0), NewStartingHashKey=str(2**127))
        self.active(name)
        kinesis.put_record(StreamName=name, Data=b"after", PartitionKey="6")
        records, last = self.read(self.iterator(name))
        self.assertEqual([b"before"], [r["Data"] for r in records])
        self.assertNotIn("NextShardIterator", last)
        self.assertEqual([(shard(1), [shard(0)]), (shard(2), [shard(0)])], [(c["ShardId"], c["ParentShards"]) for c in last["ChildShards"]])
        self.assertEqual(["after"], self.datas(name, 1))
        kinesis.merge_shards(StreamName=name, ShardToMerge=shard(1), AdjacentShardToMerge=shard(2))
        self.active(name)
        merged = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"]
        self.assertEqual([(shard(3), shard(1), shard(2), "0", LAST)], [(s["ShardId"], s["ParentShardId"], s["AdjacentParentShardId"], s["HashKeyRange"]["StartingHashKey"], s["HashKeyRange"]["EndingHashKey"]) for s in merged])
        with self.refused("InvalidArgumentException", 400, f"Shard {shard(0)} in stream {name} under account {ACCOUNT} has already been merged or split, and thus is not eligible for merging or splitting."):
            kinesis.split_shard(StreamName=name, ShardToSplit=shard(0), NewStartingHashKey=str(2**127))
        with self.refused("ResourceNotFoundException", 400, f"Could not find shard {shard(9)} in stream {name} under account {ACCOUNT}."):
            kinesis.split_shard(StreamName=name, ShardToSplit=shard(9), NewStartingHashKey=str(2**127))

    def test_scale(self):
        name = self.stream(2)
        answer = kinesis.update_shard_count(StreamName=name, TargetShardCount=3, ScalingType="UNIFORM_SCALING")
        self.assertEqual((name, 2, 3), (answer["StreamName"], answer["CurrentShardCount"], answer["TargetShardCount"]))
        self.active(name)
        ids, page = [], {"StreamName": name}
        while page:  # the SDK's paginator repeats the stream's name, which the service refuses
            answer = kinesis.list_shards(MaxResults=2, **page)
            ids += [s["ShardId"] for s in answer["Shards"]]
            page = "NextToken" in answer and {"NextToken": answer["NextToken"]}
        self.assertEqual([shard(n) for n in range(7)], ids)  # two split into four, of which the middle ones are merged
        self.assertEqual(3, self.summary(name)["OpenShardCount"])
        with self.refused("LimitExceededException", 400, "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: 3, Target shard count: 7"):
            kinesis.update_shard_count(StreamName=name, TargetShardCount=7, ScalingType="UNIFORM_SCALING")


class Consumers(StreamCase):
    def subscribe(self, consumer, kind="TRIM_HORIZON", n=0, **position):
        return kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard(n), StartingPosition=dict(position, Type=kind))["EventStream"]

    def test_pushed(self):
        name = self.stream()
        consumer = self.consumer(name)
        kinesis.put_record(StreamName=name, Data=b"0", PartitionKey="k")
        began = time.monotonic()
        events = self.subscribe(consumer)
        got, latency = [], []
        for event in events:
            event = event["SubscribeToShardEvent"]
            got += [r["Data"] for r in event["Records"]]
            if event["Records"] and len(got) > 1:
                latency.append(time.monotonic() - sent)
            if len(got) == 4:
                break
            self.assertRegex(event["ContinuationSequenceNumber"], r"^49\d{54}$")
            sent = time.monotonic()
            kinesis.put_record(StreamName=name, Data=str(len(got)).encode(), PartitionKey="k")
        events.close()
        self.assertEqual([b"0", b"1", b"2", b"3"], got)
        self.assertLess(min(latency), 2)
        try:
            self.subscribe(consumer).close()
            self.assertGreaterEqual(time.monotonic() - began, 5)
        except kinesis.exceptions.ResourceInUseException as e:
            self.assertIn("Another active subscription exists for this consumer", str(e))
        time.sleep(5)
        again = self.subscribe(consumer, "AFTER_SEQUENCE_NUMBER", SequenceNumber=event["ContinuationSequenceNumber"])
        kinesis.put_record(StreamName=name, Data=b"4", PartitionKey="k")
        for event in again:
            if event["SubscribeToShardEvent"]["Records"]:
                self.assertEqual(b"4", event["SubscribeToShardEvent"]["Records"][0]["Data"])
                break
        again.close()

    def test_end_of_shard(self):
        name = self.stream()
        events = self.subscribe(self.consumer(name))
        kinesis.split_shard(StreamName=name, ShardToSplit=shard(0), NewStartingHashKey=str(2**127))
        last = [e["SubscribeToShardEvent"] for e in events][-1]  # the stream ends by itself
        self.assertEqual([shard(1), shard(2)], [c["ShardId"] for c in last["ChildShards"]])

    def test_taken_over(self):
        name = self.stream()
        consumer = self.consumer(name)
        events = self.subscribe(consumer)
        next(iter(events))
        time.sleep(5)
        self.subscribe(consumer).close()
        with self.assertRaises(EventStreamError) as e:
            for _ in events:
                pass
        self.assertIn("ResourceInUseException", str(e.exception))

    def test_listed(self):
        name = self.stream()
        arns = {self.consumer(name) for _ in range(3)}
        found = [c for page in kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=arn(name), PaginationConfig={"PageSize": 2}) for c in page["Consumers"]]
        self.assertEqual(arns, {c["ConsumerARN"] for c in found})
        with self.refused("ResourceInUseException", 400, "^Stream"):
            kinesis.delete_stream(StreamName=name)
        kinesis.deregister_stream_consumer(ConsumerARN=found[0]["ConsumerARN"])
        self.await_(lambda: len(kinesis.list_stream_consumers(StreamARN=arn(name))["Consumers"]) == 2)


class Access(StreamCase):
    def role(self, *statements):
        """The client of a role that may do what the statements say."""
        name = self.name("role")
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]}
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        self.addCleanup(iam.delete_role, RoleName=name)
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
            self.addCleanup(iam.delete_role_policy, RoleName=name, PolicyName="p")
        user = self.name("user")
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}]}))
        key = iam.create_access_key(UserName=user)["AccessKey"]

        def gone():
            iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
            iam.delete_user_policy(UserName=user, PolicyName="p")
            iam.delete_user(UserName=user)
        self.addCleanup(gone)
        c = boto3.session.Session(key["AccessKeyId"], key["SecretAccessKey"]).client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
        session = boto3.session.Session(c["AccessKeyId"], c["SecretAccessKey"], c["SessionToken"])
        return role, session.client("kinesis")

    def test_policy_of_the_role(self):
        name, other = self.stream(), self.stream()
        _, mine = self.role({"Effect": "Allow", "Action": ["kinesis:PutRecord", "kinesis:GetShardIterator", "kinesis:GetRecords", "kinesis:ListShards"], "Resource": arn(name)})
        mine.put_record(StreamName=name, Data=b"x", PartitionKey="k")
        self.assertEqual(1, len(mine.list_shards(StreamName=name)["Shards"]))
        # An iterator is held to its stream.
        self.assertEqual(1, len(mine.get_records(ShardIterator=self.iterator(name))["Records"]))
        for do in (lambda: mine.put_record(StreamName=other, Data=b"x", PartitionKey="k"), lambda: mine.get_records(ShardIterator=self.iterator(other)), lambda: mine.describe_stream(StreamName=name)):
            with self.refused("AccessDeniedException", 400):
                do()

    def test_policy_of_the_stream(self):
        name = self.stream()
        role, mine = self.role()
        with self.refused("AccessDeniedException", 400):
            mine.put_record(StreamARN=arn(name), Data=b"x", PartitionKey="k")
        self.assertEqual("{}", kinesis.get_resource_policy(ResourceARN=arn(name))["Policy"])
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": role}, "Action": "kinesis:PutRecord", "Resource": arn(name)}]})
        kinesis.put_resource_policy(ResourceARN=arn(name), Policy=policy)
        self.assertEqual(json.loads(policy), json.loads(kinesis.get_resource_policy(ResourceARN=arn(name))["Policy"]))
        mine.put_record(StreamARN=arn(name), Data=b"x", PartitionKey="k")
        kinesis.delete_resource_policy(ResourceARN=arn(name))
        with self.refused("AccessDeniedException", 400):
            mine.put_record(StreamARN=arn(name), Data=b"x", PartitionKey="k")


def cbor(v):
    """Encodes as the SDK for Java does: maps without a length."""
    def head(major, n):
        for limit, info, form in (24, None, None), (1 << 8, 24, ">B"), (1 << 16, 25, ">H"), (1 << 32, 26, ">I"), (1 << 64, 27, ">Q"):
            if n < limit:
                return bytes([major << 5 | (n if info is None else info)]) + (struct.pack(form, n) if form else b"")
    if isinstance(v, dict):
        return b"\xbf" + b"".join(cbor(k) + cbor(x) for k, x in v.items()) + b"\xff"
    if isinstance(v, list):
        return b"\x9f" + b"".join(map(cbor, v)) + b"\xff"
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, datetime):
        return b"\xc1" + head(0, int(v.timestamp() * 1000))
    return head(0, v)


def uncbor(b):
    def item(i):
        major, info = b[i] >> 5, b[i] & 31
        i += 1
        n = info
        if 24 <= info <= 27:
            size = 1 << (info - 24)
            n = int.from_bytes(b[i:i + size], "big")
            raw, i = b[i:i + size], i + size
        if major in (0, 1):
            return (n if major == 0 else -1 - n), i
        if major in (2, 3):
            return (b[i:i + n] if major == 2 else b[i:i + n].decode()), i + n
        if major == 4:
            out = []
            for _ in range(n):
                v, i = item(i)
                out.append(v)
            return out, i
        if major == 5:
            out = {}
            for _ in range(n):
                k, i = item(i)
                out[k], i = item(i)
            return out, i
        if major == 6:
            return item(i)
        return {20: False, 21: True, 22: None}.get(info, raw if info > 23 else None), i
    return item(0)[0]


class CBOR(StreamCase):
    def call(self, operation, **arguments):
        answer = signed("POST", "/", cbor(arguments), "kinesis", {"X-Amz-Target": "Kinesis_20131202." + operation, "Content-Type": "application/x-amz-cbor-1.1"})
        self.assertEqual("application/x-amz-cbor-1.1", answer.headers["Content-Type"])
        return answer.status, uncbor(answer.body) if answer.body else {}

    def test_calls(self):
        name = self.stream()
        before = int(time.time() * 1000)
        status, put = self.call("PutRecord", StreamName=name, Data=b"\x00\xff", PartitionKey="k")
        self.assertEqual((200, shard(0)), (status, put["ShardId"]))
        status, got = self.call("GetShardIterator", StreamName=name, ShardId=shard(0), ShardIteratorType="AT_TIMESTAMP", Timestamp=datetime(2020, 1, 1))
        self.assertEqual(200, status)
        status, got = self.call("GetRecords", ShardIterator=got["ShardIterator"])
        record = got["Records"][0]
        self.assertEqual((200, b"\x00\xff", "k", put["SequenceNumber"]), (status, record["Data"], record["PartitionKey"], record["SequenceNumber"]))
        self.assertLess(abs(record["ApproximateArrivalTimestamp"] - before), 60_000)  # milliseconds
        status, error = self.call("DescribeStream", StreamName="none")
        self.assertEqual((400, "ResourceNotFoundException", f"Stream none under account {ACCOUNT} not found."), (status, error["__type"], error["message"]))
        self.assertEqual(400, self.call("PutRecord", StreamName=5)[0])
