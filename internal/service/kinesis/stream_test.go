package kinesis_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func TestStream(t *testing.T) {
	w, end := start(t, false)
	defer end()
	s := new("s")
	fail(w, kinesisapi.DescribeStream, kinesisapi.DescribeStreamInput{StreamName: s}, "ResourceNotFoundException", "Stream s under account 123456789012 not found.")
	fail(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: s, StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: new("PROVISIONED")}}, "InvalidArgumentException", "ShardCount must be specified")
	fail(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: s, ShardCount: new(int32(0))}, "ValidationException", "'shardCount'")
	fail(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: new("a b"), ShardCount: new(int32(1))}, "ValidationException", "'streamName'")
	fail(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: s, ShardCount: new(int32(20_001))}, "LimitExceededException", "Number of additional shards that would have resulted from this request: 20001.")
	fail(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: s, ShardCount: new(int32(1)), StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: new("ON_DEMAND")}}, "InvalidArgumentException", "ShardCount")
	w.create("s", 3)
	fail(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: s, ShardCount: new(int32(1))}, "ResourceInUseException", "Stream s under account 123456789012 already exists.")

	d := do(w, kinesisapi.DescribeStream, kinesisapi.DescribeStreamInput{StreamARN: new(streamARN)}).StreamDescription
	want(t, "description", fmt.Sprint(*d.StreamName, " ", *d.StreamARN, " ", *d.StreamStatus, " ", *d.RetentionPeriodHours, " ", *d.EncryptionType, " ", *d.HasMoreShards, " ", len(d.Shards), " ", *d.StreamModeDetails.StreamMode),
		"s "+streamARN+" ACTIVE 24 NONE false 3 PROVISIONED")
	for i, r := range [][2]string{
		{"0", "113427455640312821154458202477256070484"}, {"113427455640312821154458202477256070485", "226854911280625642308916404954512140969"},
		{"226854911280625642308916404954512140970", "340282366920938463463374607431768211455"},
	} {
		got := d.Shards[i].HashKeyRange
		want(t, "range", fmt.Sprint(*got.StartingHashKey, " ", *got.EndingHashKey), r[0]+" "+r[1])
	}
	d = do(w, kinesisapi.DescribeStream, kinesisapi.DescribeStreamInput{StreamName: s, Limit: new(int32(1)), ExclusiveStartShardId: sh(0)}).StreamDescription
	want(t, "page", fmt.Sprint(*d.HasMoreShards, " ", *d.Shards[0].ShardId, " ", len(d.Shards)), "true shardId-000000000001 1")

	sum := do(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: s}).StreamDescriptionSummary
	want(t, "summary", fmt.Sprint(*sum.OpenShardCount, *sum.ConsumerCount, *sum.MaxRecordSizeInKiB), "3 0 1024")
	do(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: s, StreamId: sum.StreamId})
	fail(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: s, StreamId: new("aaaaaaaaaaaaaaaaaaaa-aaa")}, "ResourceNotFoundException", "id")
	fail(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{}, "InvalidArgumentException", "StreamARN or StreamName")
	fail(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: new("other"), StreamARN: new(streamARN)}, "InvalidArgumentException", "same stream")

	for _, n := range []string{"a", "b", "z"} {
		w.create(n, 1)
	}
	var names []string
	for in := (kinesisapi.ListStreamsInput{Limit: new(int32(2))}); ; {
		out := do(w, kinesisapi.ListStreams, in)
		names = append(names, out.StreamNames...)
		if !*out.HasMoreStreams {
			break
		}
		in.NextToken = out.NextToken
	}
	want(t, "names", names, "[a b s z]")
	out := do(w, kinesisapi.ListStreams, kinesisapi.ListStreamsInput{ExclusiveStartStreamName: new("b")})
	want(t, "names", out.StreamNames, "[s z]")
	want(t, "summary", *out.StreamSummaries[0].StreamARN+*out.StreamSummaries[0].StreamStatus, streamARN+"ACTIVE")
	fail(w, kinesisapi.ListStreams, kinesisapi.ListStreamsInput{NextToken: new("x")}, "InvalidArgumentException", "NextToken")

	lim := do(w, kinesisapi.DescribeLimits, kinesisapi.DescribeLimitsInput{})
	want(t, "limits", fmt.Sprint(*lim.OpenShardCount, *lim.OnDemandStreamCount, *lim.ShardLimit), "6 0 20000")

	// A stream that is deleted leaves nothing, and one of its name has nothing of it.
	w.put("s", "k", "old")
	old := w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(2), ShardIteratorType: new("TRIM_HORIZON")})
	do(w, kinesisapi.DeleteStream, kinesisapi.DeleteStreamInput{StreamName: s})
	w.await(func() bool {
		return len(do(w, kinesisapi.ListStreams, kinesisapi.ListStreamsInput{}).StreamNames) == 3
	})
	fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: old}, "ResourceNotFoundException", "")
	w.create("s", 1)
	fail(w, kinesisapi.GetRecords, kinesisapi.GetRecordsInput{ShardIterator: old}, "ResourceNotFoundException", "does not exist")
	if r, _ := w.read(*sh(0)); len(r) != 0 {
		t.Errorf("records of another stream: %v", datas(r))
	}
	for _, n := range []string{"a", "b", "s", "z"} {
		do(w, kinesisapi.DeleteStream, kinesisapi.DeleteStreamInput{StreamName: &n})
	}
	w.await(func() bool {
		return len(do(w, kinesisapi.ListStreams, kinesisapi.ListStreamsInput{}).StreamNames) == 0
	})
	_ = w.db.View(t.Context(), func(r kv.Reader) error {
		for e := range r.Scan(kv.Prefix()) {
			if kv.Format(e.Key) != `"kinesis.secret"` {
				t.Errorf("left: %s", kv.Format(e.Key))
			}
		}
		return nil
	})
}

func TestSettings(t *testing.T) {
	w, end := start(t, false)
	defer end()
	w.create("s", 1)
	s, arn := new("s"), new(streamARN)
	hours := func(n int32) *int32 { return &n }
	for _, test := range []struct {
		hours      int32
		down       bool
		code, text string
	}{
		{23, false, "InvalidArgumentException", "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short."},
		{8761, false, "InvalidArgumentException", "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long."},
		{48, false, "", ""},
		{30, false, "InvalidArgumentException", "Requested retention period (30 hours) for stream s can not be shorter than existing retention period (48 hours). Use DecreaseRetentionPeriod API."},
		{50, true, "InvalidArgumentException", "Requested retention period (50 hours) for stream s can not be longer than existing retention period (48 hours). Use IncreaseRetentionPeriod API."},
		{25, true, "", ""},
	} {
		switch {
		case test.down && test.code != "":
			fail(w, kinesisapi.DecreaseStreamRetentionPeriod, kinesisapi.DecreaseStreamRetentionPeriodInput{StreamName: s, RetentionPeriodHours: &test.hours}, test.code, test.text)
		case test.down:
			do(w, kinesisapi.DecreaseStreamRetentionPeriod, kinesisapi.DecreaseStreamRetentionPeriodInput{StreamName: s, RetentionPeriodHours: &test.hours})
		case test.code != "":
			fail(w, kinesisapi.IncreaseStreamRetentionPeriod, kinesisapi.IncreaseStreamRetentionPeriodInput{StreamName: s, RetentionPeriodHours: &test.hours}, test.code, test.text)
		default:
			do(w, kinesisapi.IncreaseStreamRetentionPeriod, kinesisapi.IncreaseStreamRetentionPeriodInput{StreamName: s, RetentionPeriodHours: hours(test.hours)})
		}
	}
	summary := func() *kinesisapi.StreamDescriptionSummary {
		return do(w, kinesisapi.DescribeStreamSummary, kinesisapi.DescribeStreamSummaryInput{StreamName: s}).StreamDescriptionSummary
	}
	want(t, "retention", *summary().RetentionPeriodHours, 25)

	m := do(w, kinesisapi.EnableEnhancedMonitoring, kinesisapi.EnableEnhancedMonitoringInput{StreamName: s, ShardLevelMetrics: []string{"OutgoingBytes", "IncomingBytes"}})
	want(t, "enabled", fmt.Sprint(m.CurrentShardLevelMetrics, m.DesiredShardLevelMetrics), "[] [IncomingBytes OutgoingBytes]")
	m = do(w, kinesisapi.EnableEnhancedMonitoring, kinesisapi.EnableEnhancedMonitoringInput{StreamName: s, ShardLevelMetrics: []string{"ALL"}})
	want(t, "all", len(m.DesiredShardLevelMetrics), 7)
	m = do(w, kinesisapi.DisableEnhancedMonitoring, kinesisapi.DisableEnhancedMonitoringInput{StreamARN: arn, ShardLevelMetrics: []string{"IncomingBytes"}})
	want(t, "disabled", len(m.DesiredShardLevelMetrics), 6)

	do(w, kinesisapi.StartStreamEncryption, kinesisapi.StartStreamEncryptionInput{StreamName: s, EncryptionType: new("KMS"), KeyId: new("alias/aws/kinesis")})
	w.active("s")
	want(t, "key", *summary().EncryptionType+*summary().KeyId, "KMSalias/aws/kinesis")
	want(t, "put", *w.put("s", "k", "secret").EncryptionType, "KMS")
	do(w, kinesisapi.StopStreamEncryption, kinesisapi.StopStreamEncryptionInput{StreamName: s, EncryptionType: new("KMS"), KeyId: new("alias/aws/kinesis")})
	w.active("s")
	if w.put("s", "k", "clear").EncryptionType != nil || *summary().EncryptionType != "NONE" {
		t.Error("the encryption did not stop")
	}
	r, _ := w.read(*sh(0))
	want(t, "records", datas(r)+" "+*r[0].EncryptionType, "secret clear KMS")
	if r[1].EncryptionType != nil {
		t.Errorf("encrypted: %s", *r[1].EncryptionType)
	}

	big := make([]byte, 1<<20)
	fail(w, kinesisapi.PutRecord, kinesisapi.PutRecordInput{StreamName: s, PartitionKey: new("k"), Data: big}, "ValidationException", "Value at 'data' failed to satisfy constraint: Member must have length less than or equal to 1048576")
	do(w, kinesisapi.UpdateMaxRecordSize, kinesisapi.UpdateMaxRecordSizeInput{StreamARN: arn, MaxRecordSizeInKiB: new(int32(2048))})
	w.active("s")
	want(t, "size", *summary().MaxRecordSizeInKiB, 2048)

	fail(w, kinesisapi.UpdateStreamWarmThroughput, kinesisapi.UpdateStreamWarmThroughputInput{StreamName: s, WarmThroughputMiBps: new(int32(8))}, "ValidationException", "On-Demand")
	do(w, kinesisapi.UpdateStreamMode, kinesisapi.UpdateStreamModeInput{StreamARN: arn, StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: new("ON_DEMAND")}})
	w.active("s")
	fail(w, kinesisapi.UpdateShardCount, kinesisapi.UpdateShardCountInput{StreamName: s, TargetShardCount: new(int32(2)), ScalingType: new("UNIFORM_SCALING")}, "ValidationException", "Request is invalid. Stream s under account 123456789012 is in On-Demand mode.")
	fail(w, kinesisapi.SplitShard, kinesisapi.SplitShardInput{StreamName: s, ShardToSplit: sh(0), NewStartingHashKey: new("9")}, "ValidationException", "On-Demand mode")
	do(w, kinesisapi.UpdateStreamWarmThroughput, kinesisapi.UpdateStreamWarmThroughputInput{StreamName: s, WarmThroughputMiBps: new(int32(8))})
	w.active("s")
	want(t, "warm", fmt.Sprint(*summary().WarmThroughput.CurrentMiBps, *summary().OpenShardCount), "8 8")
	lim := do(w, kinesisapi.DescribeLimits, kinesisapi.DescribeLimitsInput{})
	want(t, "limits", fmt.Sprint(*lim.OpenShardCount, *lim.OnDemandStreamCount), "0 1")
	do(w, kinesisapi.UpdateStreamMode, kinesisapi.UpdateStreamModeInput{StreamARN: arn, StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: new("PROVISIONED")}})
	w.active("s")
	fail(w, kinesisapi.UpdateStreamMode, kinesisapi.UpdateStreamModeInput{StreamARN: arn, StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: new("ON_DEMAND")}}, "LimitExceededException", "2 times")
}

func TestTagsAndPolicies(t *testing.T) {
	w, end := start(t, false)
	defer end()
	s, arn := new("s"), new(streamARN)
	do(w, kinesisapi.CreateStream, kinesisapi.CreateStreamInput{StreamName: s, ShardCount: new(int32(1)), Tags: map[string]string{"c": "3"}})
	w.active("s")
	do(w, kinesisapi.AddTagsToStream, kinesisapi.AddTagsToStreamInput{StreamName: s, Tags: map[string]string{"a": "1", "b": ""}})
	page := do(w, kinesisapi.ListTagsForStream, kinesisapi.ListTagsForStreamInput{StreamName: s, Limit: new(int32(2))})
	want(t, "tags", fmt.Sprint(*page.HasMoreTags, *page.Tags[0].Key, *page.Tags[1].Key, len(page.Tags)), "trueab2")
	page = do(w, kinesisapi.ListTagsForStream, kinesisapi.ListTagsForStreamInput{StreamName: s, ExclusiveStartTagKey: new("b")})
	want(t, "tags", fmt.Sprint(*page.HasMoreTags, *page.Tags[0].Key, *page.Tags[0].Value, len(page.Tags)), "falsec31")
	do(w, kinesisapi.RemoveTagsFromStream, kinesisapi.RemoveTagsFromStreamInput{StreamName: s, TagKeys: []string{"a", "none"}})
	do(w, kinesisapi.TagResource, kinesisapi.TagResourceInput{ResourceARN: arn, Tags: map[string]string{"d": "4"}})
	do(w, kinesisapi.UntagResource, kinesisapi.UntagResourceInput{ResourceARN: arn, TagKeys: []string{"b"}})
	tags := do(w, kinesisapi.ListTagsForResource, kinesisapi.ListTagsForResourceInput{ResourceARN: arn}).Tags
	want(t, "tags", fmt.Sprint(*tags[0].Key, *tags[1].Key, len(tags)), "cd2")
	fail(w, kinesisapi.AddTagsToStream, kinesisapi.AddTagsToStreamInput{StreamName: s, Tags: map[string]string{"a;": "1"}}, "InvalidArgumentException", "Some tags contain invalid characters.")
	fail(w, kinesisapi.AddTagsToStream, kinesisapi.AddTagsToStreamInput{StreamName: s, Tags: map[string]string{"a": "1%"}}, "InvalidArgumentException", "illegal characters")
	many := map[string]string{}
	for i := range 49 {
		many[fmt.Sprint(i)] = ""
	}
	fail(w, kinesisapi.AddTagsToStream, kinesisapi.AddTagsToStreamInput{StreamName: s, Tags: many}, "InvalidArgumentException", "more than 50 tags")

	c := do(w, kinesisapi.RegisterStreamConsumer, kinesisapi.RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: new("c"), Tags: map[string]string{"x": "y"}}).Consumer
	tags = do(w, kinesisapi.ListTagsForResource, kinesisapi.ListTagsForResourceInput{ResourceARN: c.ConsumerARN}).Tags
	want(t, "consumer's tags", fmt.Sprint(*tags[0].Key, *tags[0].Value, len(tags)), "xy1")

	const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"210987654321"},"Action":"kinesis:PutRecord","Resource":"` + streamARN + `"}]}`
	for _, arn := range []*string{arn, c.ConsumerARN} {
		want(t, "no policy", *do(w, kinesisapi.GetResourcePolicy, kinesisapi.GetResourcePolicyInput{ResourceARN: arn}).Policy, "{}")
		fail(w, kinesisapi.DeleteResourcePolicy, kinesisapi.DeleteResourcePolicyInput{ResourceARN: arn}, "ResourceNotFoundException", "No resource policy found for resource ARN "+*arn+".")
		fail(w, kinesisapi.PutResourcePolicy, kinesisapi.PutResourcePolicyInput{ResourceARN: arn, Policy: new("{")}, "InvalidArgumentException", "policy")
		do(w, kinesisapi.PutResourcePolicy, kinesisapi.PutResourcePolicyInput{ResourceARN: arn, Policy: new(policy)})
		want(t, "policy", *do(w, kinesisapi.GetResourcePolicy, kinesisapi.GetResourcePolicyInput{ResourceARN: arn}).Policy, policy)
		if p, err := w.service.Policy(w.ctx, *arn); err != nil || p == nil {
			t.Errorf("policy for the authorizer: %v, %v", p, err)
		}
		do(w, kinesisapi.DeleteResourcePolicy, kinesisapi.DeleteResourcePolicyInput{ResourceARN: arn})
		if p, err := w.service.Policy(w.ctx, *arn); err != nil || p != nil {
			t.Errorf("policy for the authorizer after its deletion: %v, %v", p, err)
		}
	}
	m, err := w.service.Tags(w.ctx, streamARN)
	want(t, "tags for the authorizer", fmt.Sprint(m, err), "map[c:3 d:4] <nil>")
	for _, none := range []string{"arn:aws:kinesis:eu-west-1:123456789012:stream/none", streamARN + "/consumer/no:1", "x", "*"} {
		p, err := w.service.Policy(w.ctx, none)
		m, err2 := w.service.Tags(w.ctx, none)
		if p != nil || m != nil || err != nil || err2 != nil {
			t.Errorf("%s: %v, %v, %v, %v", none, p, err, m, err2)
		}
	}
}

func TestAccountSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sl := startSleeper(t, false)
		defer func() { sl.end() }()
		w := sl.world
		set := func(status string) kinesisapi.UpdateAccountSettingsInput {
			return kinesisapi.UpdateAccountSettingsInput{MinimumThroughputBillingCommitment: &kinesisapi.MinimumThroughputBillingCommitmentInput{Status: &status}}
		}
		c := do(w, kinesisapi.DescribeAccountSettings, kinesisapi.DescribeAccountSettingsInput{}).MinimumThroughputBillingCommitment
		want(t, "at first", *c.Status, "DISABLED")
		c = do(w, kinesisapi.UpdateAccountSettings, set("ENABLED")).MinimumThroughputBillingCommitment
		want(t, "enabled", fmt.Sprint(*c.Status, c.EarliestAllowedEndAt.Sub(*c.StartedAt)), "ENABLED24h0m0s")
		fail(w, kinesisapi.UpdateAccountSettings, set("DISABLED"), "ValidationException", "before")
		sl.sleep(t, 24*time.Hour)
		w = sl.world
		c = do(w, kinesisapi.UpdateAccountSettings, set("DISABLED")).MinimumThroughputBillingCommitment
		want(t, "disabled", fmt.Sprint(*c.Status, c.EndedAt.Sub(*c.StartedAt)), "DISABLED24h0m0s")
	})
}
