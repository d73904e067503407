"""The API of event source mappings, in tables: what each kind of source may be told, what answers show, what changes do, and what is refused in which words."""

import contextlib
import json
import time

from botocore.exceptions import ClientError

from event_sources import CODE, MappingCase, kinesis
from queueing import queue_arn, queue_name, sqs
from suite import ACCOUNT, REGION, client, eventually, function_arn, iam, lam, signed

sns = client("sns")

TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/2025-02-22T03:03:25.490"
MSK = f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/c/00000000-0000-0000-0000-000000000000-1"
BROKER = f"arn:aws:mq:{REGION}:{ACCOUNT}:broker:b:b-1"
DOCUMENTS = f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:c"
SECRET = [{"Type": "BASIC_AUTH", "URI": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:s"}]
SERVERS = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:1000"]}}

# What the API needs of sources that are not served, to come as far as being refused for that.
UNSERVED = {
    "Amazon DynamoDB Streams": dict(EventSourceArn=TABLE, StartingPosition="LATEST"),
    "Amazon MSK": dict(EventSourceArn=MSK, Topics=["topic"]),
    "Apache Kafka": dict(SelfManagedEventSource=SERVERS, Topics=["topic"], SourceAccessConfigurations=SECRET),
    "Amazon MQ": dict(EventSourceArn=BROKER, Queues=["queue"], SourceAccessConfigurations=SECRET),
    "Amazon DocumentDB": dict(EventSourceArn=DOCUMENTS, DocumentDBEventSourceConfig={"DatabaseName": "db"}, SourceAccessConfigurations=SECRET),
}

# What answers always have (recorded 2025-11). Streams have more.
ALWAYS = {
    "BatchSize", "EventSourceArn", "EventSourceMappingArn", "FunctionArn", "FunctionResponseTypes", "LastModified", "MaximumBatchingWindowInSeconds", "State", "StateTransitionReason",
    "UUID",
}
OF_STREAMS = ALWAYS | {
    "BisectBatchOnFunctionError", "DestinationConfig", "LastProcessingResult", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts", "ParallelizationFactor", "StartingPosition",
    "TumblingWindowInSeconds",
}

IN_USE = "Cannot update the event source mapping because it is in use."
GONE = "The resource you requested does not exist."
BAD_PATTERN = "Invalid filter pattern definition."
NO_FUNCTION = "Function does not exist"


def filters(*patterns):
    return {"Filters": [{"Pattern": p} for p in patterns]}


def nested(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


class TableCase(MappingCase):
    def setUp(self):
        self.function = self.create()
        self.sources = {}

    def source(self, kind):
        """The ARN of the test's queue, FIFO queue or stream, and what a mapping of it needs."""
        if kind not in self.sources:
            if kind == "stream":
                self.sources[kind] = dict(EventSourceArn=self.stream()[1], StartingPosition="LATEST")
            else:
                self.sources[kind] = dict(EventSourceArn=queue_arn(queue_name(self.fifo() if kind == "fifo" else self.queue())))
        return self.sources[kind]

    def made(self, kind="queue", **arguments):
        """Creates a mapping, disabled and gone again unless it is told otherwise, and returns the answer."""
        got = lam.create_event_source_mapping(**dict(dict(FunctionName=self.function, Enabled=False), **dict(self.source(kind), **arguments)))
        got.pop("ResponseMetadata")
        return got

    @contextlib.contextmanager
    def mapped(self, kind="queue", **arguments):
        got = self.made(kind, **arguments)
        try:
            yield got
        finally:
            self.unmap(got["UUID"])

    def unsupported(self, name):
        return self.invalid(f"Unsupported {name} parameter for given event source mapping type.")


class Parameters(TableCase):
    def test_answers(self):
        for kind, keys, defaults in (
            ("queue", ALWAYS, {"BatchSize": 10, "StateTransitionReason": "USER_INITIATED"}), ("fifo", ALWAYS, {"BatchSize": 10, "StateTransitionReason": "USER_INITIATED"}),
            ("stream", OF_STREAMS, {
                "BatchSize": 100, "StateTransitionReason": "User action", "BisectBatchOnFunctionError": False, "DestinationConfig": {"OnFailure": {}}, "LastProcessingResult": "No records processed",
                "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1, "ParallelizationFactor": 1, "TumblingWindowInSeconds": 0,
            }),
        ):
            with self.subTest(kind), self.mapped(kind) as made:
                self.assertEqual(keys, set(made))
                for k, v in dict(defaults, State="Disabled", MaximumBatchingWindowInSeconds=0, FunctionResponseTypes=[]).items():
                    self.assertEqual(v, made[k], k)
                got = lam.get_event_source_mapping(UUID=made["UUID"])
                got.pop("ResponseMetadata")
                self.assertEqual(made, got)
                (listed,) = lam.list_event_source_mappings(EventSourceArn=made["EventSourceArn"])["EventSourceMappings"]
                self.assertEqual(made, listed)

    def test_bounds(self):
        """Each bound is taken and shown, and the next value is not."""
        all_kinds, queues, streams = ("queue", "fifo", "stream"), ("queue", "fifo"), ("stream",)
        for path, kinds, least, most, beside in (
            ("BatchSize", ("queue",), 1, 10_000, {"MaximumBatchingWindowInSeconds": 1}), ("BatchSize", streams, 1, 10_000, {}), ("MaximumBatchingWindowInSeconds", ("queue", "stream"), 0, 300, {}),
            ("ParallelizationFactor", streams, 1, 10, {}), ("MaximumRetryAttempts", streams, -1, 10_000, {}), ("MaximumRecordAgeInSeconds", streams, -1, 604_800, {}),
            ("TumblingWindowInSeconds", streams, 0, 900, {}), ("ScalingConfig.MaximumConcurrency", queues, 2, 1_000, {}),
            ("ProvisionedPollerConfig.MinimumPollers", queues, 2, 200, {}), ("ProvisionedPollerConfig.MaximumPollers", queues, 2, 2_000, {}),
        ):
            for kind in kinds:
                for value in least, most:
                    with self.subTest(path, kind=kind, value=value), self.mapped(kind, **dict(nested(path, value), **beside)) as got:
                        for name in path.split("."):
                            got = got[name]
                        self.assertEqual(value, got)
            name = ".".join(p[0].lower() + p[1:] for p in path.split("."))
            below = 1 if "Poller" in path else least
            for kind in all_kinds:
                for value, text in (below - 1, f"greater than or equal to {below}"), (most + 1, f"less than or equal to {most}"):
                    with self.subTest(path, kind=kind, value=value):
                        with self.validation(f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must have value {text}"):
                            self.made(kind, **nested(path, value))

    def test_values(self):
        """What is taken as it is."""
        queue, topic = queue_arn(queue_name(self.queue())), sns.create_topic(Name=self.name("t"))["TopicArn"]
        self.addCleanup(lambda: sns.delete_topic(TopicArn=topic))
        everywhere = ("queue", "fifo", "stream")
        for kinds, arguments, shown in (
            (everywhere, {"FunctionResponseTypes": ["ReportBatchItemFailures"]}, None), (everywhere, {"MetricsConfig": {"Metrics": ["EventCount"]}}, None),
            (everywhere, {"MetricsConfig": {"Metrics": ["EventCount", "EventCount"]}}, {"MetricsConfig": {"Metrics": ["EventCount"]}}),
            (everywhere, {"FilterCriteria": filters('{"a":["b"]}', '{ "c" : [ {"exists": true} ] }')}, None),
            (("queue", "fifo"), {"ProvisionedPollerConfig": {"MinimumPollers": 3}}, {"ProvisionedPollerConfig": {"MinimumPollers": 3, "MaximumPollers": 200}}),
            (("queue", "fifo"), {"ProvisionedPollerConfig": {"MaximumPollers": 9}}, {"ProvisionedPollerConfig": {"MinimumPollers": 2, "MaximumPollers": 9}}),
            (("stream",), {"StartingPosition": "TRIM_HORIZON"}, None), (("stream",), {"BisectBatchOnFunctionError": True}, None),
            (("stream",), {"DestinationConfig": {"OnFailure": {"Destination": queue}}}, None), (("stream",), {"DestinationConfig": {"OnFailure": {"Destination": topic}}}, None),
        ):
            for kind in kinds:
                with self.subTest(arguments, kind=kind), self.mapped(kind, **arguments) as got:
                    for k, v in (shown or arguments).items():
                        self.assertEqual(v, got[k], k)
        with self.mapped("stream", StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1_700_000_000) as got:
            self.assertEqual(1_700_000_000, got["StartingPositionTimestamp"].timestamp())
        # What is empty is as if it were not given, and not shown.
        for kind in everywhere:
            with self.mapped(kind) as plain:
                expected = set(plain)
            for arguments in (
                {"FilterCriteria": {}}, {"FilterCriteria": {"Filters": []}}, {"FunctionResponseTypes": []}, {"ScalingConfig": {}}, {"ProvisionedPollerConfig": {}}, {"MetricsConfig": {}},
                {"MetricsConfig": {"Metrics": []}}, {"LoggingConfig": {}}, {"KMSKeyArn": ""}, {"SourceAccessConfigurations": []}, {"DestinationConfig": {}}, {"Tags": {}}, {"Tags": {"a": "b"}},
            ):
                with self.subTest(arguments, kind=kind), self.mapped(kind, **arguments) as got:
                    self.assertEqual(expected, set(got))

    def test_of_other_sources(self):
        """A parameter that the kind of source does not have is refused by its name, at once and in changes."""
        queue = queue_arn(queue_name(self.queue()))
        streams_only = {
            "ParallelizationFactor": 1, "MaximumRetryAttempts": -1, "MaximumRecordAgeInSeconds": -1, "BisectBatchOnFunctionError": False, "TumblingWindowInSeconds": 0,
            "DestinationConfig": {"OnFailure": {"Destination": queue}},
        }
        brokers_only = {
            "SourceAccessConfigurations": SECRET, "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"}, "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"},
            "DocumentDBEventSourceConfig": {"DatabaseName": "d"}, "LoggingConfig": {"SystemLogLevel": "INFO"},
        }
        of_queues = {"ScalingConfig": {"MaximumConcurrency": 2}, "ProvisionedPollerConfig": {"MinimumPollers": 2}}
        for kind, refused in ("queue", {**streams_only, **brokers_only}), ("fifo", {**streams_only, **brokers_only}), ("stream", {**of_queues, **brokers_only}):
            with self.mapped(kind, FunctionName=self.create()) as got:
                for name, value in refused.items():
                    with self.subTest(name, kind=kind):
                        with self.unsupported(name):
                            self.made(kind, **{name: value})
                        with self.unsupported(name):
                            lam.update_event_source_mapping(UUID=got["UUID"], **{name: value})
                with self.unsupported("DestinationConfig"):
                    lam.update_event_source_mapping(UUID=got["UUID"], DestinationConfig={"OnSuccess": {"Destination": queue}})
            for name, value in ("Topics", ["topic"]), ("Queues", ["queue"]), ("DestinationConfig", {"OnSuccess": {"Destination": queue}}):
                with self.subTest(name, kind=kind), self.unsupported(name):
                    self.made(kind, **{name: value})
        # Kafka and brokers quote the names.
        for source, name, value in (
            ("Amazon MSK", "ParallelizationFactor", 1), ("Amazon MSK", "TumblingWindowInSeconds", 0), ("Amazon MSK", "ScalingConfig", {"MaximumConcurrency": 2}), ("Amazon MSK", "Queues", ["q"]),
            ("Apache Kafka", "AmazonManagedKafkaEventSourceConfig", {"ConsumerGroupId": "g"}), ("Amazon MQ", "MaximumRetryAttempts", 1), ("Amazon MQ", "StartingPosition", "LATEST"),
            ("Amazon MQ", "DestinationConfig", {"OnFailure": {"Destination": queue}}), ("Amazon DocumentDB", "FunctionResponseTypes", ["ReportBatchItemFailures"]),
        ):
            with self.subTest(name, source=source), self.unsupported(f"'{name[0].lower()}{name[1:]}'"):
                lam.create_event_source_mapping(FunctionName=self.function, **dict(UNSERVED[source], **{name: value}))

    def test_rules(self):
        """What must go together, or may not."""
        invalid_destination = "The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination=%s)) is invalid."
        fifo, null = self.source("fifo")["EventSourceArn"], "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."
        age = "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)"
        window = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
        for kind, arguments, message in (
            ("queue", {"BatchSize": 11}, window), ("queue", {"BatchSize": 10_000, "MaximumBatchingWindowInSeconds": 0}, window), ("fifo", {"MaximumBatchingWindowInSeconds": 1}, "Batching window is not supported for FIFO queues"),
            ("fifo", {"BatchSize": 11}, "Maximum batch size must be between 1 and 10 inclusive"),
            ("queue", {"StartingPosition": "LATEST"}, "StartingPosition is not valid for SQS event sources."), ("queue", {"StartingPositionTimestamp": 1}, "StartingPosition is not valid for SQS event sources."),
            ("queue", {"ScalingConfig": {"MaximumConcurrency": 2}, "ProvisionedPollerConfig": {"MinimumPollers": 2}}, "ScalingConfig and ProvisionedPollerConfig cannot be used together."),
            ("queue", {"ProvisionedPollerConfig": {"MinimumPollers": 1}}, "MinimumPollers and MaximumPollers must be at least 2 for SQS event sources."),
            ("queue", {"ProvisionedPollerConfig": {"MaximumPollers": 1}}, "MinimumPollers and MaximumPollers must be at least 2 for SQS event sources."),
            ("queue", {"ProvisionedPollerConfig": {"MinimumPollers": 9, "MaximumPollers": 8}}, "MinimumPollers must be less than or equal to MaximumPollers."),
            ("queue", {"ProvisionedPollerConfig": {"PollerGroupName": "g"}}, "Unsupported PollerGroupName parameter for given event source mapping type."),
            ("queue", {"MetricsConfig": {"Metrics": ["KafkaMetrics"]}}, "Unsupported metric KafkaMetrics for given event source mapping type."),
            ("queue", {"KMSKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"}, "KMSKeyArn: customer managed keys are not served by Mayfly yet."),
            ("queue", {"Tags": {"aws:a": "b"}}, 'Tag keys must not begin with aws: "aws:a"'), ("queue", {"Tags": {f"k{i}": "v" for i in range(51)}}, "Number of tags exceeds resource tag limit."),
            ("stream", {"StartingPosition": None}, null), ("stream", {"MaximumRecordAgeInSeconds": 0}, age), ("stream", {"MaximumRecordAgeInSeconds": 59}, age),
            ("stream", {"StartingPositionTimestamp": 1}, "Timestamp only valid with StartingPosition AT_TIMESTAMP"),
            ("stream", {"StartingPosition": "AT_TIMESTAMP"}, "StartingPosition AT_TIMESTAMP requires StartingPositionTimestamp."),
            ("stream", {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": time.time() + 3600}, "StartingPositionTimestamp must not be in the future."),
            ("stream", {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": -1}, "Received Exception while reading from provided stream. class java.lang.Long can not be converted to a Timestamp"),
            ("stream", {"TumblingWindowInSeconds": 1, "ParallelizationFactor": 2}, "TumblingWindowInSeconds requires a ParallelizationFactor of 1."),
            ("stream", {"DestinationConfig": {"OnFailure": {}}}, "The Destination field is required for an OnFailure configuration."),
            *(("stream", {"DestinationConfig": {"OnFailure": {"Destination": to}}}, invalid_destination % to) for to in (
                fifo, function_arn(self.function), self.source("stream")["EventSourceArn"], "kafka://topic", f"arn:aws:sns:{REGION}:{ACCOUNT}:t.fifo", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default",
            )),
        ):
            arguments = {**self.source(kind), **arguments}
            with self.subTest(kind, message=message), self.invalid(message):
                lam.create_event_source_mapping(FunctionName=self.function, **{k: v for k, v in arguments.items() if v is not None})
        self.assertEqual([], lam.list_event_source_mappings(FunctionName=self.function)["EventSourceMappings"])

    def test_filters(self):
        """Which patterns are taken: the others are refused in the same words, whatever is wrong."""
        good = (
            '{"a":["x"],"a":["y"]}', '{"a":[1,true,null,"x",-1.5]}', '{"a":{"b":[{"exists":false}]}}', '{"a":[{"prefix":"x"},{"suffix":"y"},{"equals-ignore-case":"z"},{"wildcard":"a*b"}]}',
            '{"a":[{"anything-but":["x","y"]}]}', '{"a":[{"anything-but":{"prefix":"x"}}]}', '{"a":[{"numeric":[">",0,"<=",5]}]}', '{"a":[{"cidr":"10.0.0.0/8"}]}', '{"$or":[{"a":["b"]},{"c":["d"]}]}',
            '{"a":["%s"]}' % ("x" * 4086),
        )
        bad = (
            "", "null", "simple string", '"quoted"', "5", "[]", "{}", '{"a":[]}', '{"a":"b"}', '{"a":{}}', '{"a":[[]]}', '{"a":[{"no-such":"y"}]}', '{"a":[{"exists":"true"}]}', '{"a":[{"anything-but":[]}]}',
            '{"a":[{"numeric":["~",1]}]}', '{"a":[{"numeric":[">","1"]}]}', '{"a":[{"cidr":"10"}]}', '{"$or":[{"a":["b"]}]}', '{"a":["b"]', '{"a":["b"]} x', "{'a':['b']}",
        )
        for kind, data, plain in ("queue", "body", True), ("stream", "data", False):
            of_data = [('{"%s":{"a":["b"]}}' % data, True), ('{"%s":["plain"]}' % data, plain), ('{"%s":[{"prefix":"x"}]}' % data, plain)]
            for pattern, taken in [(p, True) for p in good] + [(p, False) for p in bad] + of_data:
                with self.subTest(pattern[:60], kind=kind):
                    if taken:
                        with self.mapped(kind, FilterCriteria=filters(pattern)) as got:
                            self.assertEqual(filters(pattern), got["FilterCriteria"])
                    else:
                        with self.invalid(BAD_PATTERN):
                            self.made(kind, FilterCriteria=filters(pattern))
        with self.invalid(BAD_PATTERN):
            self.made(FilterCriteria={"Filters": [{}]})
        with self.invalid(BAD_PATTERN):
            self.made(FilterCriteria=filters(good[0], "bad"))
        with self.mapped(FilterCriteria=filters(*good[:5])):
            pass
        with self.invalid("The number of filters exceeds the limit of 5."):
            self.made(FilterCriteria=filters(*good[:6]))
        with self.validation("^1 validation error detected: Value '.*' at 'filterCriteria.filters.1.member.pattern' failed to satisfy constraint: Member must have length less than or equal to 4096$"):
            self.made(FilterCriteria=filters('{"a":["%s"]}' % ("x" * 4087)))

    def test_unserved(self):
        """Sources that are not served yet are checked as all others, then refused by their names, and leave nothing behind."""
        missing = "Required '%s' parameter is missing."
        kafka = dict(
            StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1, BatchSize=10_000, MaximumBatchingWindowInSeconds=300, BisectBatchOnFunctionError=True, MaximumRetryAttempts=3, MaximumRecordAgeInSeconds=60,
            FunctionResponseTypes=["ReportBatchItemFailures"], DestinationConfig={"OnFailure": {"Destination": "kafka://other"}}, LoggingConfig={"SystemLogLevel": "DEBUG"}, Tags={"a": "b"},
            ProvisionedPollerConfig={"MinimumPollers": 1, "MaximumPollers": 2000, "PollerGroupName": "g"}, MetricsConfig={"Metrics": ["EventCount", "ErrorCount", "KafkaMetrics"]}, FilterCriteria=filters('{"value":["x"]}'),
        )
        registry = {
            "ConsumerGroupId": "g", "SchemaRegistryConfig": {
                "SchemaRegistryURI": "https://registry", "EventRecordFormat": "JSON", "AccessConfigs": SECRET, "SchemaValidationConfigs": [{"Attribute": "KEY"}, {"Attribute": "VALUE"}],
            },
        }
        for source, arguments, message in (
            *((name, {}, None) for name in UNSERVED),
            ("Amazon MSK", dict(kafka, AmazonManagedKafkaEventSourceConfig=registry), None), ("Apache Kafka", dict(kafka, SelfManagedKafkaEventSourceConfig=registry), None),
            ("Amazon DocumentDB", {"StartingPosition": "LATEST", "DocumentDBEventSourceConfig": {"DatabaseName": "d", "CollectionName": "c", "FullDocument": "UpdateLookup"}}, None),
            ("Amazon DynamoDB Streams", {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1}, "Unsupported starting position for arn type: " + TABLE),
            ("Amazon DynamoDB Streams", {"FilterCriteria": filters('{"dynamodb":["plain"]}')}, BAD_PATTERN), ("Amazon DynamoDB Streams", {"FunctionName": "nobody"}, NO_FUNCTION),
            ("Amazon MSK", {"Topics": None}, missing % "topics"), ("Apache Kafka", {"SourceAccessConfigurations": None}, missing % "sourceAccessConfigurations"),
            ("Apache Kafka", {"SelfManagedEventSource": {}}, missing % "selfManagedEventSource"), ("Amazon MQ", {"Queues": None}, missing % "queues"),
            ("Amazon MQ", {"SourceAccessConfigurations": None}, missing % "sourceAccessConfigurations"), ("Amazon DocumentDB", {"DocumentDBEventSourceConfig": None}, missing % "documentDBEventSourceConfig"),
            ("Amazon DocumentDB", {"EventSourceArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:t"}, "Unrecognized event source."), ("Amazon DynamoDB Streams", {"EventSourceArn": TABLE.partition("/stream")[0]}, "Unrecognized event source."),
        ):
            arguments = {k: v for k, v in dict(dict(UNSERVED[source], FunctionName=self.function), **arguments).items() if v is not None}
            with self.subTest(source, message=message), self.invalid(message or f"Event source mappings of {source} are not served by Mayfly yet."):
                lam.create_event_source_mapping(**arguments)
        self.assertEqual([], lam.list_event_source_mappings(FunctionName=self.function)["EventSourceMappings"])


class Changes(TableCase):
    def test_what_changes_do(self):
        """What is absent stays, what is empty goes, and nothing else changes."""
        dead, other = queue_arn(queue_name(self.queue())), self.create()
        lam.publish_version(FunctionName=other)
        lam.create_alias(FunctionName=other, Name="live", FunctionVersion="1")
        pattern = filters('{"a":["b"]}')
        steps = {
            "queue": [
                ({"ScalingConfig": {"MaximumConcurrency": 5}}, None), ({"BatchSize": 3}, None), ({"ScalingConfig": {}, "ProvisionedPollerConfig": {"MinimumPollers": 3, "MaximumPollers": 9}}, {"ScalingConfig": None, "ProvisionedPollerConfig": {"MinimumPollers": 3, "MaximumPollers": 9}}),
                ({"ProvisionedPollerConfig": {"MaximumPollers": 4}}, {"ProvisionedPollerConfig": {"MinimumPollers": 3, "MaximumPollers": 4}}), ({"ProvisionedPollerConfig": {}}, {"ProvisionedPollerConfig": None}),
                ({"BatchSize": 100, "MaximumBatchingWindowInSeconds": 2}, None), ({"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0}, None),
            ],
            "stream": [
                ({"DestinationConfig": {"OnFailure": {"Destination": dead}}}, None), ({"BatchSize": 3}, None), ({"DestinationConfig": {"OnFailure": {"Destination": ""}}}, {"DestinationConfig": {"OnFailure": {}}}),
                ({"DestinationConfig": {"OnFailure": {"Destination": dead}}}, None), ({"DestinationConfig": {}}, {"DestinationConfig": {"OnFailure": {}}}),
                ({"MaximumRetryAttempts": 0, "MaximumRecordAgeInSeconds": 60, "BisectBatchOnFunctionError": True, "ParallelizationFactor": 3}, None),
                ({"MaximumRetryAttempts": -1, "MaximumRecordAgeInSeconds": -1, "BisectBatchOnFunctionError": False, "ParallelizationFactor": 1, "TumblingWindowInSeconds": 9}, None), ({"TumblingWindowInSeconds": 0}, None),
            ],
        }
        both = [
            ({}, None), ({"FilterCriteria": pattern}, None), ({"BatchSize": 5}, None), ({"FilterCriteria": {}}, {"FilterCriteria": None}), ({"FilterCriteria": pattern}, None), ({"FilterCriteria": {"Filters": []}}, {"FilterCriteria": None}),
            ({"FunctionResponseTypes": ["ReportBatchItemFailures"]}, None), ({"FunctionResponseTypes": []}, None), ({"MetricsConfig": {"Metrics": ["EventCount"]}}, None), ({"MetricsConfig": {}}, {"MetricsConfig": None}),
            ({"MetricsConfig": {"Metrics": ["EventCount"]}}, None), ({"MetricsConfig": {"Metrics": []}}, {"MetricsConfig": None}), ({"KMSKeyArn": ""}, {}), ({"LoggingConfig": {}}, {}), ({"MaximumBatchingWindowInSeconds": 5}, None), ({"MaximumBatchingWindowInSeconds": 0}, None),
            ({"FunctionName": other}, {"FunctionArn": function_arn(other)}), ({"FunctionName": function_arn(other, "live")}, {"FunctionArn": function_arn(other, "live")}), ({"FunctionName": self.function}, {"FunctionArn": function_arn(self.function)}),
        ]
        for kind, enabled in ("queue", False), ("stream", True):
            with self.mapped(kind, Enabled=enabled) as made:
                self.settled(made["UUID"])
                for arguments, shown in both + steps[kind]:
                    with self.subTest(arguments, kind=kind, enabled=enabled):
                        before = lam.get_event_source_mapping(UUID=made["UUID"])
                        answer = lam.update_event_source_mapping(UUID=made["UUID"], **arguments)
                        self.assertEqual((202, "Updating"), (answer["ResponseMetadata"]["HTTPStatusCode"], answer["State"]))
                        after = self.settled(made["UUID"])
                        expected = {k: v for k, v in {**before, **(arguments if shown is None else shown)}.items() if v is not None}
                        for got in after, {**answer, "State": after["State"]}:
                            self.assertGreaterEqual(got["LastModified"], before["LastModified"])
                            self.assertEqual({k: v for k, v in expected.items() if k not in ("ResponseMetadata", "LastModified")}, {k: v for k, v in got.items() if k not in ("ResponseMetadata", "LastModified")})
                for arguments, code, message in (
                    ({"FunctionName": "nobody"}, "InvalidParameterValueException", NO_FUNCTION), ({"FunctionName": self.function + ":nobody"}, "InvalidParameterValueException", NO_FUNCTION),
                    ({"FilterCriteria": filters("bad")}, "InvalidParameterValueException", BAD_PATTERN), ({"BatchSize": 0}, "ValidationException", None),
                ):
                    with self.subTest(arguments, kind=kind), self.refused(code, 400, message):
                        lam.update_event_source_mapping(UUID=made["UUID"], **arguments)

    def test_raw(self):
        """Members that an update does not have are ignored, null is absent, and no body is no change."""
        with self.mapped(BatchSize=4, FilterCriteria=filters('{"a":["b"]}')) as made:
            for body in b"", b"{}", b'{"FilterCriteria":null,"BatchSize":null}', json.dumps({"EventSourceArn": queue_arn("other"), "StartingPosition": "LATEST", "Topics": ["t"]}).encode():
                with self.subTest(body):
                    answer = signed("PUT", "/2015-03-31/event-source-mappings/" + made["UUID"], body)
                    self.assertEqual(202, answer.status, answer.body)
                    got = self.settled(made["UUID"])
                    self.assertEqual({k: v for k, v in made.items() if k != "LastModified"}, {k: v for k, v in got.items() if k not in ("LastModified", "ResponseMetadata")})
                    self.assertIsInstance(answer.json["LastModified"], (int, float))

    def test_states(self):
        """While a batch is in the function, a mapping that is switched off or deleted waits for it, and refuses changes."""
        function, queue = self.python("import time\ndef handler(event, context):\n    time.sleep(float(event['Records'][0]['body']))\n", Timeout=30), self.queue()
        arn = queue_arn(queue_name(queue))
        for state, change in ("Disabling", lambda uuid: lam.update_event_source_mapping(UUID=uuid, Enabled=False)), ("Deleting", lambda uuid: lam.delete_event_source_mapping(UUID=uuid)):
            for seconds in 1, 8, 28:  # on a machine that is busy the function may be done before all was asked
                made = self.map(function, arn)
                sqs.send_message(QueueUrl=queue, MessageBody=str(seconds))
                self.assertTrue(eventually(lambda: self.counts(queue)[1] == 1))
                answer = change(made["UUID"])
                self.assertEqual((202, state, set(made)), (answer["ResponseMetadata"]["HTTPStatusCode"], answer["State"], set(answer)))
                try:
                    self.in_use(made, function, state)
                except (AssertionError, ClientError):
                    if any(m["State"] == state for m in lam.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]):
                        raise
                else:
                    break
                finally:
                    for m in lam.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]:
                        self.unmap(m["UUID"])
            else:
                self.fail(f"not {state} while the function runs")
        for call in (lam.get_event_source_mapping, lam.update_event_source_mapping, lam.delete_event_source_mapping):
            with self.not_found(GONE):
                call(UUID=made["UUID"])
        with self.not_found("Event source mapping not found: " + made["EventSourceMappingArn"]):
            lam.list_tags(Resource=made["EventSourceMappingArn"])

    def in_use(self, made, function, state):
        for arguments in {}, {"BatchSize": 1}, {"Enabled": True}, {"MaximumRetryAttempts": 1}, {"FunctionName": "nobody"}:
            with self.refused("ResourceInUseException", 400, IN_USE, Type="User"):
                lam.update_event_source_mapping(UUID=made["UUID"], **arguments)
        with self.refused("ResourceInUseException", 400, IN_USE.replace("update", "delete"), Type="User"):
            lam.delete_event_source_mapping(UUID=made["UUID"])
        with self.refused("ResourceConflictException", 409, f'^An event source mapping with SQS arn \\(" {made["EventSourceArn"]} "\\) and function \\(" {function} "\\) already exists'):
            lam.create_event_source_mapping(FunctionName=function, EventSourceArn=made["EventSourceArn"])
        lam.tag_resource(Resource=made["EventSourceMappingArn"], Tags={"a": "b"})
        self.assertEqual([state], [m["State"] for m in lam.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]])

    def test_timeouts(self):
        """The function must be done before messages appear again. That is looked at when a mapping is made, changed, or switched on: neither a change of the function nor one of the queue is refused."""
        queue, function = self.queue(VisibilityTimeout="30"), self.create(Timeout=30)
        arn, text = queue_arn(queue_name(queue)), "Queue visibility timeout: 30 seconds is less than Function timeout: 31 seconds"

        def timeout(seconds):
            lam.update_function_configuration(FunctionName=function, Timeout=seconds)
            self.wait("function_updated_v2", function)

        uuid = self.map(function, arn)["UUID"]
        timeout(31)
        with self.invalid(text):
            lam.update_event_source_mapping(UUID=uuid, BatchSize=1)
        lam.update_event_source_mapping(UUID=uuid, Enabled=False)
        self.settled(uuid)
        lam.update_event_source_mapping(UUID=uuid, BatchSize=1)
        self.settled(uuid)
        with self.invalid(text):
            lam.update_event_source_mapping(UUID=uuid, Enabled=True)
        timeout(30)
        lam.update_event_source_mapping(UUID=uuid, Enabled=True)
        self.settled(uuid)
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
        with self.invalid("Queue visibility timeout: 1 seconds is less than Function timeout: 30 seconds"):
            lam.create_event_source_mapping(FunctionName=function + ":$LATEST", EventSourceArn=arn)


class Names(TableCase):
    def test_functions(self):
        long = "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 256" % ("a" * 257)
        for name, code, status, message in (
            ("nobody", "InvalidParameterValueException", 400, NO_FUNCTION), (self.function + ":1", "InvalidParameterValueException", 400, NO_FUNCTION), (self.function + ":nobody", "InvalidParameterValueException", 400, NO_FUNCTION),
            (function_arn("nobody"), "InvalidParameterValueException", 400, NO_FUNCTION), (f"arn:aws:lambda:eu-west-9:{ACCOUNT}:function:f", "ResourceNotFoundException", 404, f"Functions from 'eu-west-9' are not reachable in this region ('{REGION}')"),
            (f"arn:aws:lambda:{REGION}:111111111111:function:f", "AccessDeniedException", 403, None), ("a" * 257, "ValidationException", 400, long), ("a b", "ValidationException", 400, None), (queue_arn("q"), "ValidationException", 400, None),
        ):
            with self.subTest(name[:80]), self.refused(code, status, message):
                self.made(FunctionName=name)
        for name in self.function, function_arn(self.function), f"{ACCOUNT}:function:{self.function}", f"function:{self.function}":
            with self.subTest(name), self.mapped(FunctionName=name) as got:
                self.assertEqual(function_arn(self.function), got["FunctionArn"])
                for other in self.function, function_arn(self.function):
                    self.assertEqual([got["UUID"]], [m["UUID"] for m in lam.list_event_source_mappings(FunctionName=other)["EventSourceMappings"]])
                self.assertEqual([], lam.list_event_source_mappings(FunctionName=self.function + ":$LATEST")["EventSourceMappings"])

    def test_sources(self):
        stream = self.source("stream")["EventSourceArn"]
        consumer = kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="c")["Consumer"]["ConsumerARN"]
        self.assertTrue(eventually(lambda: kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE"))
        no_queue = "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist."
        for arn, message in (
            (queue_arn("nobody"), no_queue), (queue_arn("nobody.fifo"), no_queue), (queue_arn("q", "eu-west-9"), f"The event source must be in the region of the function: {queue_arn('q', 'eu-west-9')} is not in {REGION}."),
            (stream + "2", f"Stream not found: {stream}2"), (consumer + "2", f"Stream not found: {consumer}2"), (stream + "/consumer/other:1", f"Stream not found: {stream}/consumer/other:1"),
            (queue_arn("q").replace(ACCOUNT, "111111111111"), "The function execution role does not have permissions to call ReceiveMessage on SQS"),
            *((arn, "Unrecognized event source.") for arn in (f"arn:aws:sns:{REGION}:{ACCOUNT}:t", "arn:aws:s3:::bucket", stream + "/nonsense", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f")),
        ):
            with self.subTest(arn), self.invalid(message):
                lam.create_event_source_mapping(FunctionName=self.function, EventSourceArn=arn, **{"StartingPosition": "LATEST"} if ":kinesis:" in arn else {})
        with self.refused("ValidationException", 400, "^1 validation error detected: Value 'https://sqs/q' at 'eventSourceArn' failed to satisfy constraint: "):
            lam.create_event_source_mapping(FunctionName=self.function, EventSourceArn="https://sqs/q")
        # A stream and its consumer are two sources; one that is switched off counts.
        with self.mapped("stream") as first, self.mapped("stream", EventSourceArn=consumer) as second:
            for kind, arn, uuid in ("stream", stream, first["UUID"]), ("consumer", consumer, second["UUID"]):
                with self.subTest(kind), self.refused("ResourceConflictException", 409, (
                    f'The event source arn (" {arn} ") and function (" {self.function} ") provided mapping already exists. Please update or delete the existing mapping with UUID {uuid}'), Type="User"):
                    self.made("stream", EventSourceArn=arn, StartingPosition="TRIM_HORIZON")
                self.assertEqual([uuid], [m["UUID"] for m in lam.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]])

    def test_uuids(self):
        with self.mapped() as made:
            for uuid in "00000000-0000-4000-8000-000000000000", made["UUID"][:-1], made["EventSourceMappingArn"], "nonsense", "a/b", " ":
                for call in (lam.get_event_source_mapping, lam.update_event_source_mapping, lam.delete_event_source_mapping):
                    with self.subTest(uuid, call=call.__name__), self.not_found(GONE):
                        call(UUID=uuid)

    def test_pages(self):
        """Pages in one order, also by function and by source; 100 mappings at most if not told otherwise."""
        functions = [self.function, self.create()]
        arns = [queue_arn(queue_name(self.queue())) for _ in range(3)]
        uuids = {}
        for f in functions:
            for arn in arns:
                uuids[f, arn] = self.map(f, arn, wait=False, Enabled=False)["UUID"]

        def pages(size, **arguments):
            found = [[m["UUID"] for m in p["EventSourceMappings"]] for p in lam.get_paginator("list_event_source_mappings").paginate(PaginationConfig={"PageSize": size}, **arguments)]
            self.assertTrue(all(len(p) <= size for p in found))
            return sum(found, [])

        for size in 1, 2, 100:
            self.assertEqual({uuids[functions[0], a] for a in arns}, set(pages(size, FunctionName=functions[0])))
            self.assertEqual({uuids[f, arns[0]] for f in functions}, set(pages(size, EventSourceArn=arns[0])))
            self.assertEqual([uuids[functions[1], arns[1]]], pages(size, FunctionName=functions[1], EventSourceArn=arns[1]))
            self.assertEqual([], pages(size, FunctionName="nobody"))
            everything = pages(size)
            self.assertEqual(len(everything), len(set(everything)))
            self.assertLessEqual(set(uuids.values()), set(everything))
        for arguments in {"MaxItems": 0}, {"MaxItems": 10_001}, {"EventSourceArn": "nonsense"}, {"FunctionName": "a b"}:
            with self.subTest(arguments), self.validation(None):
                lam.list_event_source_mappings(**arguments)


class Permissions(TableCase):
    def role(self, *actions):
        name = self.name("role")
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        self.addCleanup(lambda: iam.delete_role(RoleName=name))
        self.addCleanup(lambda: iam.delete_role_policy(RoleName=name, PolicyName="p"))
        self.allow(name, *actions)
        return name, arn

    def allow(self, name, *actions):
        statement = {"Effect": "Allow", "Action": ["logs:*", *actions], "Resource": "*"}
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    def test_of_role(self):
        name, arn = self.role()
        self.function = self.create(Role=arn)
        dead, topic = queue_arn(queue_name(self.queue())), sns.create_topic(Name=self.name("t"))["TopicArn"]
        self.addCleanup(lambda: sns.delete_topic(TopicArn=topic))
        stream = self.source("stream")["EventSourceArn"]
        no_access = f"Cannot access stream {stream}. Please ensure the role can perform the GetRecords, GetShardIterator, DescribeStream, and ListStreams Actions on your stream in IAM."
        queue, destination = "The function execution role does not have permissions to call %s on SQS", "The provided execution role does not have permissions to call %s"
        reads = ["kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:DescribeStream"]
        for kind, actions, to, message in (
            ("queue", [], None, queue % "ReceiveMessage"), ("queue", ["sqs:ReceiveMessage"], None, queue % "DeleteMessage"), ("queue", ["sqs:ReceiveMessage", "sqs:DeleteMessage"], None, queue % "GetQueueAttributes"),
            ("queue", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], None, None), ("stream", reads[1:], None, no_access), ("stream", reads[::2], None, no_access), ("stream", reads[:2], None, no_access), ("stream", reads, None, None),
            ("stream", reads, dead, destination % "SendMessage on SQS"), ("stream", reads, topic, destination % "Publish on SNS"), ("stream", reads + ["sqs:SendMessage"], dead, None), ("stream", reads + ["sns:Publish"], topic, None),
        ):
            self.allow(name, *actions)
            arguments = {"DestinationConfig": {"OnFailure": {"Destination": to}}} if to else {}
            with self.subTest(kind, actions=actions, to=to), self.mapped(kind, **arguments) if message is None else self.invalid(message):
                if message is not None:
                    self.made(kind, **arguments)
        self.allow(name, *reads)
        with self.mapped("stream") as made, self.invalid(destination % "SendMessage on SQS"):
            lam.update_event_source_mapping(UUID=made["UUID"], DestinationConfig={"OnFailure": {"Destination": dead}})

    def test_last_result(self):
        """What came of the last batch, or why there was none, is shown, also of a mapping that is switched off."""
        reads = ["kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:DescribeStream"]
        role, arn = self.role(*reads)
        function, (name, stream) = self.python(CODE, Role=arn), self.stream()
        uuid = self.map(function, stream, StartingPosition="TRIM_HORIZON", MaximumRetryAttempts=0)["UUID"]

        def result():
            return lam.get_event_source_mapping(UUID=uuid)["LastProcessingResult"]

        def becomes(wanted):
            self.assertTrue(eventually(lambda: result().startswith(wanted), 60), f"{result()!r}, not {wanted!r}")

        self.assertEqual("No records processed", result())
        self.put(name, "good")
        becomes("OK")
        self.put(name, "bad")
        becomes("PROBLEM: Function call failed")
        for enabled in False, True:
            lam.update_event_source_mapping(UUID=uuid, Enabled=enabled)
            self.settled(uuid)
            self.assertEqual("PROBLEM: Function call failed", result())
        self.put(name, "good")
        becomes("OK")
        self.allow(role, *reads[1:])
        self.put(name, "good")
        becomes("PROBLEM: User: arn:aws:sts::" + ACCOUNT + ":assumed-role/" + role)
        self.allow(role, *reads)
        becomes("OK")
        lam.delete_function(FunctionName=function)
        self.put(name, "good")
        becomes("PROBLEM: Function not found: " + function_arn(function))
