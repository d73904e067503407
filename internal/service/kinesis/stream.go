package kinesis

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/commitlog"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Limits of an account in a region, and what streams have at first. Source: AWS's quotas.
const (
	shardLimit       = 20_000
	onDemandLimit    = 50
	onDemandShards   = 4
	defaultRetention = 24 // hours
	defaultRecord    = 1024
	maxStreamShards  = 10_000
)

func (s *Service) createStream(ctx context.Context, in *kinesisapi.CreateStreamInput) (*kinesisapi.CreateStreamOutput, error) {
	info := call.From(ctx)
	name := ref{info.Account, info.Region, *in.StreamName}
	mode := kinesisapi.StreamModeProvisioned
	switch {
	case in.StreamModeDetails != nil:
		mode = *in.StreamModeDetails.StreamMode
	case in.ShardCount == nil:
		mode = kinesisapi.StreamModeOnDemand
	}
	shards := int(or(in.ShardCount, 1))
	switch {
	case mode == kinesisapi.StreamModeOnDemand && in.ShardCount != nil:
		return nil, kinesisapi.ErrInvalidArgumentException("ShardCount must not be specified for stream %s, which is in On-Demand mode.", name.name)
	case mode == kinesisapi.StreamModeOnDemand:
		shards = max(onDemandShards, int(or(in.WarmThroughputMiBps, 0)))
	case in.WarmThroughputMiBps != nil:
		return nil, kinesisapi.ErrInvalidArgumentException("WarmThroughputMiBps can be specified for streams in On-Demand mode only.")
	case in.ShardCount == nil:
		return nil, kinesisapi.ErrInvalidArgumentException("ShardCount must be specified for stream %s, which is in Provisioned mode.", name.name)
	}
	if err := checkTags(name, in.Tags); err != nil {
		return nil, err
	}
	if shards > shardLimit {
		return nil, errShardLimit(name, 0, shards)
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		old, err := s.load(tx, name)
		if err != nil {
			return err
		}
		if old != nil {
			return kinesisapi.ErrResourceInUseException("Stream %s under account %s already exists.", name.name, name.account)
		}
		use, err := s.usage(tx, name.account, name.region)
		if err != nil {
			return err
		}
		if use.shards+shards > shardLimit {
			return errShardLimit(name, use.shards, shards)
		}
		if mode == kinesisapi.StreamModeOnDemand && use.onDemand >= onDemandLimit {
			return kinesisapi.ErrLimitExceededException("This request would exceed the limit of %d streams in On-Demand mode for the account %s in %s.", onDemandLimit, name.account, name.region)
		}
		now := time.Now()
		st := &stream{
			UID: newUID(), ID: newStreamID(), Status: kinesisapi.StreamStatusCreating, Created: now.UnixMilli(), Mode: mode,
			Retention: defaultRetention, MaxRecord: or(in.MaxRecordSizeInKiB, defaultRecord), Warm: or(in.WarmThroughputMiBps, 0),
			Tags: in.Tags, NextShard: uint32(shards), ref: name,
		}
		for i := range shards {
			sh := &shard{State: shardOpen, First: boundary(i, shards), Last: maxHashKey, Start: commitlog.At(now), Opened: now.UnixMilli(), index: uint32(i)}
			if i < shards-1 {
				sh.Last = boundary(i+1, shards).prev()
			}
			st.shards = append(st.shards, sh)
			s.recordLog(st, sh.index).Begin(tx, sh.Start-1) // although the clock is set back
		}
		streamsGuard(name.account, name.region).Change(tx)
		return st.begin(tx, st.shards...)
	})
}

// accountUsage is what the streams of an account are in a region.
type accountUsage struct{ shards, onDemand int }

// usage counts; a transaction that asks runs again if a stream is added meanwhile.
func (s *Service) usage(r kv.Reader, account, region string) (u accountUsage, err error) {
	if tx, ok := r.(kv.Tx); ok {
		if err := streamsGuard(account, region).Depend(tx); err != nil {
			return u, err
		}
	}
	for e, err := range r.Scan(streamsOf(account, region)) {
		if err != nil {
			return u, err
		}
		name, err := decodeRef(e.Key)
		if err != nil {
			return u, err
		}
		st, err := s.load(r, name)
		if err != nil {
			return u, err
		}
		if st == nil {
			continue
		}
		if st.Mode == kinesisapi.StreamModeOnDemand {
			u.onDemand++
		} else {
			u.shards += st.openCount()
		}
	}
	return u, nil
}

func errShardLimit(r ref, now, more int) error {
	return kinesisapi.ErrLimitExceededException("This request would exceed the shard limit for the account %s in %s. Current shard count for the account: %d. Limit: %d. "+
		"Number of additional shards that would have resulted from this request: %d. Refer to the AWS Service Limits page "+
		"(http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.", r.account, r.region, now, shardLimit, more)
}

func (s *Service) deleteStream(ctx context.Context, in *kinesisapi.DeleteStreamInput) (*kinesisapi.DeleteStreamOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	return nil, s.update(ctx, name, func(tx kv.Tx, st *stream) error {
		if err := st.checkID(in.StreamId); err != nil {
			return err
		}
		if len(st.Consumers) > 0 && !or(in.EnforceConsumerDeletion, false) {
			return kinesisapi.ErrResourceInUseException("Stream %s under account %s has consumers registered: deregister them, or set EnforceConsumerDeletion.", name.name, name.account)
		}
		if st.Status == kinesisapi.StreamStatusDeleting {
			return nil
		}
		st.Status = kinesisapi.StreamStatusDeleting
		return st.begin(tx)
	})
}

func (s *Service) describeStream(ctx context.Context, in *kinesisapi.DescribeStreamInput) (*kinesisapi.DescribeStreamOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := st.checkID(in.StreamId); err != nil {
		return nil, err
	}
	const most = 100 // AWS returns no more, whatever Limit is
	shards := st.shown()
	if in.ExclusiveStartShardId != nil {
		if shards, err = st.after(shards, *in.ExclusiveStartShardId); err != nil {
			return nil, err
		}
	}
	more := false
	if n := min(int(or(in.Limit, most)), most); len(shards) > n {
		shards, more = shards[:n], true
	}
	d := &kinesisapi.StreamDescription{
		StreamName: &name.name, StreamARN: new(name.arn()), StreamStatus: &st.Status,
		StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: &st.Mode}, Shards: []kinesisapi.Shard{}, HasMoreShards: &more,
		RetentionPeriodHours: &st.Retention, StreamCreationTimestamp: new(st.created()), EnhancedMonitoring: st.monitoring(), EncryptionType: st.encryption(),
	}
	if st.KeyID != "" {
		d.KeyId = &st.KeyID
	}
	for _, sh := range shards {
		d.Shards = append(d.Shards, st.describe(sh))
	}
	return &kinesisapi.DescribeStreamOutput{StreamDescription: d}, nil
}

func (st *stream) monitoring() []kinesisapi.EnhancedMetrics {
	return []kinesisapi.EnhancedMetrics{{ShardLevelMetrics: append([]string{}, st.Metrics...)}}
}

func (s *Service) describeStreamSummary(ctx context.Context, in *kinesisapi.DescribeStreamSummaryInput) (*kinesisapi.DescribeStreamSummaryOutput, error) {
	name, err := named(ctx, in.StreamName, in.StreamARN, in.StreamId)
	if err != nil {
		return nil, err
	}
	st, err := s.view(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := st.checkID(in.StreamId); err != nil {
		return nil, err
	}
	d := &kinesisapi.StreamDescriptionSummary{
		StreamName: &name.name, StreamARN: new(name.arn()), StreamId: &st.ID, StreamStatus: &st.Status,
		StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: &st.Mode}, RetentionPeriodHours: &st.Retention, StreamCreationTimestamp: new(st.created()),
		EnhancedMonitoring: st.monitoring(), EncryptionType: st.encryption(), OpenShardCount: new(int32(st.openCount())), ConsumerCount: new(int32(len(st.Consumers))),
		MaxRecordSizeInKiB: &st.MaxRecord,
	}
	if st.KeyID != "" {
		d.KeyId = &st.KeyID
	}
	if st.Warm > 0 {
		d.WarmThroughput = &kinesisapi.WarmThroughputObject{TargetMiBps: &st.Warm, CurrentMiBps: &st.Warm}
	}
	return &kinesisapi.DescribeStreamSummaryOutput{StreamDescriptionSummary: d}, nil
}

func (s *Service) listStreams(ctx context.Context, in *kinesisapi.ListStreamsInput) (*kinesisapi.ListStreamsOutput, error) {
	info := call.From(ctx)
	after := or(in.ExclusiveStartStreamName, "")
	if in.NextToken != nil {
		_, b, _, err := s.unseal(streamsToken, *in.NextToken)
		if err != nil {
			return nil, tokenError(err)
		}
		after = string(b)
	}
	limit := int(or(in.Limit, 100))
	out := &kinesisapi.ListStreamsOutput{StreamNames: []string{}, HasMoreStreams: new(false), StreamSummaries: []kinesisapi.StreamSummary{}}
	rg := streamsOf(info.Account, info.Region)
	if after != "" {
		rg = rg.After(ref{info.Account, info.Region, after}.streamKey())
	}
	err := s.db.View(ctx, func(r kv.Reader) error {
		for rec, err := range kv.ScanJSON[stream](r, rg) {
			if err != nil {
				return err
			}
			if len(out.StreamNames) >= limit {
				out.HasMoreStreams = new(true)
				out.NextToken = new(s.seal(streamsToken, "", []byte(out.StreamNames[limit-1])))
				return nil
			}
			name, err := decodeRef(rec.Key)
			if err != nil {
				return err
			}
			out.StreamNames = append(out.StreamNames, name.name)
			out.StreamSummaries = append(out.StreamSummaries, kinesisapi.StreamSummary{
				StreamName: &name.name, StreamARN: new(name.arn()), StreamStatus: new(rec.Value.Status),
				StreamModeDetails: &kinesisapi.StreamModeDetails{StreamMode: new(rec.Value.Mode)}, StreamCreationTimestamp: new(rec.Value.created()),
			})
		}
		return nil
	})
	return out, err
}

// tokenError is AWS's error for a paging token.
func tokenError(err error) error {
	if err == errExpired {
		return kinesisapi.ErrExpiredNextTokenException("The NextToken has expired: it is valid for %d seconds.", int(tokenLife.Seconds()))
	}
	return kinesisapi.ErrInvalidArgumentException("The NextToken is not valid.")
}
