package logs_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
)

func TestCreateAndDescribeGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		created := now()
		s.group("/aws/lambda/f")
		time.Sleep(time.Second)
		ok(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{
			LogGroupName: new("/aws/lambda/g"), KmsKeyId: new("arn:aws:kms:eu-west-1:123456789012:key/k"), Tags: map[string]string{"a": "b"},
			LogGroupClass: new("INFREQUENT_ACCESS"), DeletionProtectionEnabled: new(true),
		})
		want := []logsapi.LogGroup{{
			LogGroupName: new("/aws/lambda/f"), Arn: new("arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/f:*"),
			LogGroupArn: new("arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/f"), CreationTime: &created,
			MetricFilterCount: new(int32(0)), StoredBytes: new(int64(0)), LogGroupClass: new("STANDARD"), DeletionProtectionEnabled: new(false),
		}, {
			LogGroupName: new("/aws/lambda/g"), Arn: new("arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/g:*"),
			LogGroupArn: new("arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/g"), CreationTime: new(created + 1000),
			MetricFilterCount: new(int32(0)), StoredBytes: new(int64(0)), LogGroupClass: new("INFREQUENT_ACCESS"),
			DeletionProtectionEnabled: new(true), KmsKeyId: new("arn:aws:kms:eu-west-1:123456789012:key/k"),
		}}
		got := ok(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupNamePrefix: new("/aws/")})
		if diff := cmp.Diff(want, got.LogGroups); diff != "" || got.NextToken != nil {
			t.Errorf("by prefix (-want +got):\n%s", diff)
		}
		// A search by pattern shows less.
		for i := range want {
			want[i].StoredBytes, want[i].KmsKeyId, want[i].DeletionProtectionEnabled = nil, nil, nil
		}
		got = ok(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupNamePattern: new("lambda/")})
		if diff := cmp.Diff(want, got.LogGroups); diff != "" {
			t.Errorf("by pattern (-want +got):\n%s", diff)
		}
		if got := ok(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupNamePattern: new("LAMBDA")}); got.LogGroups == nil || len(got.LogGroups) != 0 {
			t.Errorf("a pattern that nothing has: %v", got.LogGroups)
		}
		got = ok(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupClass: new("INFREQUENT_ACCESS")})
		if len(got.LogGroups) != 1 || *got.LogGroups[0].LogGroupName != "/aws/lambda/g" {
			t.Errorf("by class: %v", got.LogGroups)
		}
	})
}

func TestGroupErrors(t *testing.T) {
	s := start(t)
	s.group("g")
	fails(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: new("g")}, exists, "The specified log group already exists")
	fails(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: new("aws/x")}, parameter, "Log groups starting with AWS/ are reserved for AWS.")
	fails(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: new("h"), Tags: map[string]string{"aws:x": ""}}, parameter,
		"aws: prefixed tag key names are not allowed for external use.")
	fails(s, logsapi.DeleteLogGroup, &logsapi.DeleteLogGroupInput{LogGroupName: new("h")}, notFound, noGroup)
	fails(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupNamePrefix: new("a"), LogGroupNamePattern: new("b")}, parameter,
		"LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	fails(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{NextToken: new("?")}, parameter, badToken)
	fails(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupIdentifiers: []string{"g"}, Limit: new(int32(1))}, parameter,
		"logGroupIdentifiers can only be combined with includeLinkedAccounts.")
	fails(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{IncludeLinkedAccounts: new(true), AccountIdentifiers: []string{"000000000000"}}, parameter,
		"Account 000000000000 is not linked to account 123456789012.")
	fails(s, logsapi.ListLogGroups, &logsapi.ListLogGroupsInput{DataSources: []logsapi.DataSourceFilter{{Name: new("x")}}}, parameter,
		"Mayfly does not serve the filter dataSources yet.")
	fails(s, logsapi.ListLogGroups, &logsapi.ListLogGroupsInput{FieldIndexNames: []string{"x"}}, parameter,
		"Mayfly does not serve the filter fieldIndexNames yet.")
}

func TestPageGroups(t *testing.T) {
	s := start(t)
	for _, n := range numbered(60) {
		s.group(n)
	}
	for _, limit := range []int32{1, 7, 30, 50} {
		var names []string
		in := &logsapi.DescribeLogGroupsInput{Limit: &limit, LogGroupNamePrefix: new("n0")}
		for {
			out := ok(s, logsapi.DescribeLogGroups, in)
			if len(out.LogGroups) == 0 || len(out.LogGroups) > int(limit) {
				t.Fatalf("a page of %d groups with limit %d", len(out.LogGroups), limit)
			}
			for _, g := range out.LogGroups {
				names = append(names, *g.LogGroupName)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if !slices.Equal(names, numbered(60)) {
			t.Errorf("limit %d: %q", limit, names)
		}
	}
	if out := ok(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{}); len(out.LogGroups) != 50 || out.NextToken == nil {
		t.Errorf("by default: %d groups", len(out.LogGroups))
	}
	out := ok(s, logsapi.ListLogGroups, &logsapi.ListLogGroupsInput{Limit: new(int32(59))})
	rest := ok(s, logsapi.ListLogGroups, &logsapi.ListLogGroupsInput{NextToken: out.NextToken})
	if len(out.LogGroups) != 59 || len(rest.LogGroups) != 1 || *rest.LogGroups[0].LogGroupName != "n059" || rest.NextToken != nil {
		t.Errorf("ListLogGroups: %d groups, then %v", len(out.LogGroups), rest)
	}
}

func TestListGroups(t *testing.T) {
	s := start(t)
	s.group("/aws/lambda/one")
	ok(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: new("/aws/lambda/two"), Tags: map[string]string{"env": "production"}})
	ok(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: new("discovery"), LogGroupClass: new("DELIVERY"), Tags: map[string]string{"env": "test"}})
	tag := func(values ...string) []logsapi.TagFilter {
		return []logsapi.TagFilter{{Key: new("env"), Values: values}}
	}
	for _, c := range []struct {
		in   logsapi.ListLogGroupsInput
		want string
	}{
		{logsapi.ListLogGroupsInput{}, "/aws/lambda/one /aws/lambda/two discovery"},
		{logsapi.ListLogGroupsInput{LogGroupNamePattern: new("^/aws/|disc")}, "/aws/lambda/one /aws/lambda/two discovery"},
		{logsapi.ListLogGroupsInput{LogGroupNamePattern: new("^lambda")}, ""},
		{logsapi.ListLogGroupsInput{LogGroupNamePattern: new("two|cover")}, "/aws/lambda/two discovery"},
		{logsapi.ListLogGroupsInput{LogGroupClass: new("DELIVERY")}, "discovery"},
		{logsapi.ListLogGroupsInput{LogGroupTags: tag()}, "/aws/lambda/two discovery"},
		{logsapi.ListLogGroupsInput{LogGroupTags: tag("prod*")}, "/aws/lambda/two"},
		{logsapi.ListLogGroupsInput{LogGroupTags: tag("*est", "x")}, "discovery"},
		{logsapi.ListLogGroupsInput{LogGroupTags: tag("*e*")}, "discovery"},
		{logsapi.ListLogGroupsInput{LogGroupTags: tag("!test")}, "/aws/lambda/two"},
		{logsapi.ListLogGroupsInput{LogGroupTags: tag("test")}, "discovery"},
	} {
		var names []string
		for _, g := range ok(s, logsapi.ListLogGroups, &c.in).LogGroups {
			names = append(names, *g.LogGroupName)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestGroupIdentifiers(t *testing.T) {
	s := start(t)
	s.group("a/b")
	s.group("c")
	const prefix = "arn:aws:logs:eu-west-1:123456789012:log-group:"
	out := ok(s, logsapi.DescribeLogGroups, &logsapi.DescribeLogGroupsInput{LogGroupIdentifiers: []string{"c", prefix + "a/b", "c", "missing"}})
	if len(out.LogGroups) != 2 || *out.LogGroups[0].LogGroupName != "a/b" || *out.LogGroups[1].LogGroupName != "c" {
		t.Errorf("DescribeLogGroups by identifiers: %v", out.LogGroups)
	}
	ok(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{LogGroupIdentifier: new(prefix + "a/b")})
	for _, c := range []struct{ arn, code, message string }{
		{"arn:aws:logs:eu-west-1:000000000000:log-group:c", notFound, noGroup},
		{"arn:aws:logs:us-east-1:123456789012:log-group:c", notFound, noGroup},
		{prefix + "c:log-stream:s", parameter, "The ARN " + prefix + "c:log-stream:s is not the ARN of a log group."},
		{"arn:aws:s3:::b", parameter, "The ARN arn:aws:s3:::b is not the ARN of a log group."},
	} {
		fails(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{LogGroupIdentifier: &c.arn}, c.code, c.message)
	}
	fails(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{LogGroupName: new("c"), LogGroupIdentifier: new("c")}, "ValidationException",
		"LogGroup name and LogGroup ARN are mutually exclusive parameters.")
	fails(s, logsapi.DescribeLogStreams, &logsapi.DescribeLogStreamsInput{}, "ValidationException", "LogGroup name or LogGroup ARN must be specified.")
}

func TestDeletionProtection(t *testing.T) {
	s := start(t)
	s.group("g")
	s.stream("g", "s")
	const message = "The log group g has deletion protection enabled. Disable it before deleting."
	ok(s, logsapi.PutLogGroupDeletionProtection, &logsapi.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: new("g"), DeletionProtectionEnabled: new(true)})
	fails(s, logsapi.DeleteLogGroup, &logsapi.DeleteLogGroupInput{LogGroupName: new("g")}, "ValidationException", message)
	fails(s, logsapi.DeleteLogStream, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("s")}, "ValidationException", message)
	ok(s, logsapi.PutLogGroupDeletionProtection, &logsapi.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: new("g"), DeletionProtectionEnabled: new(false)})
	ok(s, logsapi.DeleteLogStream, &logsapi.DeleteLogStreamInput{LogGroupName: new("g"), LogStreamName: new("s")})
	ok(s, logsapi.DeleteLogGroup, &logsapi.DeleteLogGroupInput{LogGroupName: new("g")})
	fails(s, logsapi.PutLogGroupDeletionProtection, &logsapi.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: new("g"), DeletionProtectionEnabled: new(true)}, notFound, noGroup)
}

func TestKMSKey(t *testing.T) {
	s := start(t)
	s.group("g")
	key := func() string {
		if k := s.describe("g").KmsKeyId; k != nil {
			return *k
		}
		return ""
	}
	ok(s, logsapi.AssociateKmsKey, &logsapi.AssociateKmsKeyInput{LogGroupName: new("g"), KmsKeyId: new("k1")})
	if key() != "k1" {
		t.Errorf("key %q, want k1", key())
	}
	arn := new("arn:aws:logs:eu-west-1:123456789012:log-group:g")
	ok(s, logsapi.AssociateKmsKey, &logsapi.AssociateKmsKeyInput{ResourceIdentifier: arn, KmsKeyId: new("k2")})
	if key() != "k2" {
		t.Errorf("key %q, want k2", key())
	}
	ok(s, logsapi.DisassociateKmsKey, &logsapi.DisassociateKmsKeyInput{ResourceIdentifier: arn})
	if key() != "" {
		t.Errorf("key %q, want none", key())
	}
	const one = "Exactly one of logGroupName and resourceIdentifier must be specified."
	fails(s, logsapi.DisassociateKmsKey, &logsapi.DisassociateKmsKeyInput{}, parameter, one)
	fails(s, logsapi.DisassociateKmsKey, &logsapi.DisassociateKmsKeyInput{LogGroupName: new("g"), ResourceIdentifier: arn}, parameter, one)
	fails(s, logsapi.DisassociateKmsKey, &logsapi.DisassociateKmsKeyInput{ResourceIdentifier: new("arn:aws:logs:eu-west-1:123456789012:query-result:*")}, parameter,
		"Mayfly does not serve keys for query results yet.")
	fails(s, logsapi.AssociateKmsKey, &logsapi.AssociateKmsKeyInput{LogGroupName: new("x"), KmsKeyId: new("k1")}, notFound, noGroup)
}

func TestRetentionPolicy(t *testing.T) {
	s := start(t)
	s.group("g")
	ok(s, logsapi.PutRetentionPolicy, &logsapi.PutRetentionPolicyInput{LogGroupName: new("g"), RetentionInDays: new(int32(30))})
	if r := s.describe("g").RetentionInDays; r == nil || *r != 30 {
		t.Errorf("retention %v, want 30", r)
	}
	fails(s, logsapi.PutRetentionPolicy, &logsapi.PutRetentionPolicyInput{LogGroupName: new("g"), RetentionInDays: new(int32(2))}, parameter,
		"1 validation error detected: Value '2' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: "+
			"[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]")
	ok(s, logsapi.DeleteRetentionPolicy, &logsapi.DeleteRetentionPolicyInput{LogGroupName: new("g")})
	if r := s.describe("g").RetentionInDays; r != nil {
		t.Errorf("retention %d after its deletion", *r)
	}
	fails(s, logsapi.PutRetentionPolicy, &logsapi.PutRetentionPolicyInput{LogGroupName: new("x"), RetentionInDays: new(int32(1))}, notFound, noGroup)
	fails(s, logsapi.DeleteRetentionPolicy, &logsapi.DeleteRetentionPolicyInput{LogGroupName: new("x")}, notFound, noGroup)

	ok(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: new("d"), LogGroupClass: new("DELIVERY")})
	if r := s.describe("d").RetentionInDays; r == nil || *r != 2 {
		t.Errorf("retention of class DELIVERY is %v, want 2", r)
	}
	fails(s, logsapi.PutRetentionPolicy, &logsapi.PutRetentionPolicyInput{LogGroupName: new("d"), RetentionInDays: new(int32(1))}, parameter,
		"The retention of a log group of class DELIVERY cannot be changed.")
}

func TestTags(t *testing.T) {
	s := start(t)
	ok(s, logsapi.CreateLogGroup, &logsapi.CreateLogGroupInput{LogGroupName: new("g"), Tags: map[string]string{"a": "1"}})
	arn := new("arn:aws:logs:eu-west-1:123456789012:log-group:g")
	expect := func(want map[string]string) {
		t.Helper()
		if got := ok(s, logsapi.ListTagsForResource, &logsapi.ListTagsForResourceInput{ResourceArn: arn}).Tags; !cmp.Equal(got, want) {
			t.Errorf("ListTagsForResource = %v, want %v", got, want)
		}
		if got := ok(s, logsapi.ListTagsLogGroup, &logsapi.ListTagsLogGroupInput{LogGroupName: new("g")}).Tags; !cmp.Equal(got, want) {
			t.Errorf("ListTagsLogGroup = %v, want %v", got, want)
		}
	}
	expect(map[string]string{"a": "1"})
	ok(s, logsapi.TagResource, &logsapi.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"a": "2", "b": ""}})
	expect(map[string]string{"a": "2", "b": ""})
	ok(s, logsapi.TagLogGroup, &logsapi.TagLogGroupInput{LogGroupName: new("g"), Tags: map[string]string{"c": "3"}})
	ok(s, logsapi.UntagResource, &logsapi.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"a", "x"}})
	expect(map[string]string{"b": "", "c": "3"})
	ok(s, logsapi.UntagLogGroup, &logsapi.UntagLogGroupInput{LogGroupName: new("g"), Tags: []string{"b", "c"}})
	expect(map[string]string{})

	full := map[string]string{}
	for _, n := range numbered(50) {
		full[n] = "x"
	}
	ok(s, logsapi.TagResource, &logsapi.TagResourceInput{ResourceArn: arn, Tags: full})
	fails(s, logsapi.TagResource, &logsapi.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"a": "1"}}, "TooManyTagsException",
		"A resource can have no more than 50 tags.")
	fails(s, logsapi.TagLogGroup, &logsapi.TagLogGroupInput{LogGroupName: new("g"), Tags: map[string]string{"a": "1"}}, parameter,
		"A resource can have no more than 50 tags.")
	expect(full)

	fails(s, logsapi.TagLogGroup, &logsapi.TagLogGroupInput{LogGroupName: new("g"), Tags: map[string]string{"AWS:a": "1"}}, parameter,
		"aws: prefixed tag key names are not allowed for external use.")
	missing := new("arn:aws:logs:eu-west-1:123456789012:log-group:x")
	fails(s, logsapi.TagResource, &logsapi.TagResourceInput{ResourceArn: missing, Tags: map[string]string{"a": "1"}}, notFound, noGroup)
	fails(s, logsapi.UntagResource, &logsapi.UntagResourceInput{ResourceArn: missing, TagKeys: []string{"a"}}, notFound, noGroup)
	fails(s, logsapi.ListTagsForResource, &logsapi.ListTagsForResourceInput{ResourceArn: missing}, notFound, noGroup)
	fails(s, logsapi.ListTagsLogGroup, &logsapi.ListTagsLogGroupInput{LogGroupName: new("x")}, notFound, noGroup)
	fails(s, logsapi.UntagLogGroup, &logsapi.UntagLogGroupInput{LogGroupName: new("x"), Tags: []string{"a"}}, notFound, noGroup)
	fails(s, logsapi.ListTagsForResource, &logsapi.ListTagsForResourceInput{ResourceArn: new("g")}, parameter, "g is not an ARN.")
}
