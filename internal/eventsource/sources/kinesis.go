package sources

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// maxGet is how many records one GetRecords returns.
const maxGet = 10_000

// stream implements eventsource.Stream.
type stream struct {
	caller   smithy.Caller
	roles    Roles
	function string
	source   string // as the mapping has it: the stream or a consumer
	arn      string // of the stream
	account  string
	region   string
	reading  string // the action that a read needs

	mu        sync.Mutex
	iterators map[string]iterator // by shard
	role      string              // with which one was read last
}

// iterator is where the last read of a shard ended.
type iterator struct {
	at    eventsource.Position
	token string
}

func (s *Sources) openStream(m *eventsource.Mapping, a arn.ARN) *stream {
	name, _, _ := strings.Cut(a.Resource, "/consumer/")
	of := a
	of.Resource = name
	st := &stream{
		caller: s.deps.Caller, roles: s.deps.Roles, function: m.FunctionARN, source: m.SourceARN, arn: of.String(), account: a.Account, region: a.Region,
		reading: "kinesis:GetRecords", iterators: map[string]iterator{},
	}
	if st.source != st.arn {
		st.reading = "kinesis:SubscribeToShard"
	}
	return st
}

// Shards implements eventsource.Stream.
func (s *stream) Shards(ctx context.Context) (all []eventsource.Shard, err error) {
	if _, err := s.roles.May(ctx, s.function, "kinesis:DescribeStream", s.arn); err != nil {
		return nil, err
	}
	return s.LookShards(ctx)
}

// LookShards implements eventsource.Looker.
func (s *stream) LookShards(ctx context.Context) (all []eventsource.Shard, err error) {
	ctx = call.AsService(ctx, "lambda", s.account, s.region)
	in := &kinesisapi.ListShardsInput{StreamARN: &s.arn}
	for {
		out, err := kinesisapi.ListShards.Call(ctx, s.caller, in)
		if err != nil {
			return nil, streamError(err)
		}
		for _, sh := range out.Shards {
			shard := eventsource.Shard{ID: *sh.ShardId}
			if sh.SequenceNumberRange != nil {
				shard.First = *sh.SequenceNumberRange.StartingSequenceNumber
			}
			for _, p := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
				if p != nil {
					shard.Parents = append(shard.Parents, *p)
				}
			}
			all = append(all, shard)
		}
		if out.NextToken == nil {
			return all, nil
		}
		in = &kinesisapi.ListShardsInput{NextToken: out.NextToken}
	}
}

func streamError(err error) error {
	if apierr.Code(err) == "ResourceNotFoundException" {
		return fmt.Errorf("%w: %w", eventsource.ErrGone, err)
	}
	return err
}

// Read implements eventsource.Stream. A read that goes on where the last one of its shard ended needs one operation, others need two.
func (s *stream) Read(ctx context.Context, shard string, from eventsource.Position, most int) (page eventsource.Page, err error) {
	role, err := s.roles.May(ctx, s.function, s.reading, s.source)
	if err != nil {
		return page, err
	}
	s.readWith(role)
	return s.read(ctx, shard, role, from, most)
}

// Look implements eventsource.Looker.
func (s *stream) Look(ctx context.Context, shard string, from eventsource.Position, most int) (eventsource.Page, error) {
	return s.read(ctx, shard, s.lastRole(), from, most)
}

// readWith notes the role with which a shard is read.
func (s *stream) readWith(role string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.role = role
}

// lastRole is the role with which a shard was last read, empty if none was.
func (s *stream) lastRole() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.role
}

func (s *stream) read(ctx context.Context, shard, role string, from eventsource.Position, most int) (page eventsource.Page, err error) {
	ctx = call.AsService(ctx, "lambda", s.account, s.region)
	token := s.resume(shard, from)
	for {
		fresh := token == ""
		if fresh {
			token, err = s.iterate(ctx, shard, from)
			if from.After != "" && apierr.Code(err) == "InvalidArgumentException" { // the number is of another stream
				return page, fmt.Errorf("%w: %w", eventsource.ErrGone, err)
			}
			if err != nil {
				return page, streamError(err)
			}
		}
		out, err := kinesisapi.GetRecords.Call(ctx, s.caller, &kinesisapi.GetRecordsInput{ShardIterator: &token, Limit: new(int32(min(most, maxGet)))})
		if code := apierr.Code(err); !fresh && (code == "ExpiredIteratorException" || code == "ResourceNotFoundException") {
			token = "" // the stream may be another of the same name
			continue
		}
		if err != nil {
			return page, streamError(err)
		}
		form := s.former(shard, role)
		page.Records = make([]eventsource.Record, len(out.Records))
		for i := range out.Records {
			page.Records[i] = form(&out.Records[i])
		}
		page.More = out.NextShardIterator != nil && out.MillisBehindLatest != nil && *out.MillisBehindLatest > 0
		page.End = out.NextShardIterator == nil
		at := from
		if n := len(page.Records); n > 0 {
			at = eventsource.Position{After: page.Records[n-1].ID}
		}
		s.keep(shard, at, out.NextShardIterator)
		return page, nil
	}
}

// Find implements eventsource.Looker.
func (s *stream) Find(ctx context.Context, shard, id string) (page eventsource.Page, err error) {
	role := s.lastRole()
	ctx = call.AsService(ctx, "lambda", s.account, s.region)
	at, err := kinesisapi.GetShardIterator.Call(ctx, s.caller, &kinesisapi.GetShardIteratorInput{
		StreamARN: &s.arn, ShardId: &shard, ShardIteratorType: new("AT_SEQUENCE_NUMBER"), StartingSequenceNumber: &id,
	})
	if apierr.Code(err) == "InvalidArgumentException" { // a number of another shard, or of none
		return page, nil
	}
	if err != nil {
		return page, streamError(err)
	}
	out, err := kinesisapi.GetRecords.Call(ctx, s.caller, &kinesisapi.GetRecordsInput{ShardIterator: at.ShardIterator, Limit: new(int32(1))})
	if err != nil {
		return page, streamError(err)
	}
	for i := range out.Records {
		if *out.Records[i].SequenceNumber == id {
			page.Records = append(page.Records, s.former(shard, role)(&out.Records[i]))
		}
	}
	return page, nil
}

// starting is a position as Kinesis has it.
func starting(from eventsource.Position) (kind, sequence *string, at *time.Time) {
	switch {
	case from.After != "":
		return new(kinesisapi.ShardIteratorTypeAfterSequenceNumber), &from.After, nil
	case from.At.After(time.Now()): // the clock was set back
		return new(kinesisapi.ShardIteratorTypeLatest), nil, nil
	case !from.At.IsZero():
		return new(kinesisapi.ShardIteratorTypeAtTimestamp), nil, &from.At
	}
	return new(kinesisapi.ShardIteratorTypeTrimHorizon), nil, nil
}

func (s *stream) iterate(ctx context.Context, shard string, from eventsource.Position) (string, error) {
	in := &kinesisapi.GetShardIteratorInput{StreamARN: &s.arn, ShardId: &shard}
	in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp = starting(from)
	out, err := kinesisapi.GetShardIterator.Call(ctx, s.caller, in)
	if err != nil {
		return "", err
	}
	return *out.ShardIterator, nil
}

// resume returns the iterator that stands at a position, or "".
func (s *stream) resume(shard string, at eventsource.Position) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.iterators[shard]; i.at == at {
		return i.token
	}
	return ""
}

func (s *stream) keep(shard string, at eventsource.Position, next *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next == nil {
		delete(s.iterators, shard)
		return
	}
	s.iterators[shard] = iterator{at, *next}
}

// former returns what forms the records of a shard as a function gets them. The order of members is AWS's (recorded).
func (s *stream) former(shard, role string) func(*kinesisapi.Record) eventsource.Record {
	end := appendMember([]byte(`,"eventName":"aws:kinesis:record",`), "invokeIdentityArn", role)
	end = appendMember(append(end, ','), "awsRegion", s.region)
	end = append(appendMember(append(end, ','), "eventSourceARN", s.source), '}')
	return func(x *kinesisapi.Record) eventsource.Record {
		r := eventsource.Record{ID: *x.SequenceNumber, Key: *x.PartitionKey, Data: x.Data}
		if x.ApproximateArrivalTimestamp != nil {
			r.Arrival = *x.ApproximateArrivalTimestamp
		}
		b := make([]byte, 0, base64.StdEncoding.EncodedLen(len(x.Data))+len(r.Key)+2*len(r.ID)+len(shard)+len(end)+250)
		b = appendMember(append(b, `{"kinesis":{"kinesisSchemaVersion":"1.0",`...), "partitionKey", r.Key)
		b = append(append(b, `,"sequenceNumber":"`...), r.ID...)
		b = append(b, `","data":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, x.Data), `","approximateArrivalTimestamp":`...)
		b = appendSeconds(b, r.Arrival)
		b = append(append(b, `},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"`...), shard...)
		b = append(append(append(b, ':'), r.ID...), '"')
		r.JSON = append(b, end...)
		return r
	}
}

// appendSeconds appends a time in seconds with up to three places.
func appendSeconds(b []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	return strconv.AppendFloat(b, float64(ms)/1000, 'f', -1, 64)
}
