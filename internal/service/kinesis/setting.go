package kinesis

import (
	"context"
	"slices"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	minRetention      = 24
	maxRetention      = 8760
	maxOnDemandShards = 200 // 200 MiB a second, what an account has at first
	modeChanges       = 2   // in 24 hours
)

// change is update for an operation that names its stream in all ways, on a stream that is ACTIVE. What it changes is there at once.
func (s *Service) change(ctx context.Context, name, streamARN, id *string, f func(tx kv.Tx, st *stream) error) error {
	r, err := named(ctx, name, streamARN, id)
	if err != nil {
		return err
	}
	return s.update(ctx, r, func(tx kv.Tx, st *stream) error {
		if err := st.checkID(id); err != nil {
			return err
		}
		if err := st.active(); err != nil {
			return err
		}
		return f(tx, st)
	})
}

func checkRetention(hours int32) error {
	switch {
	case hours < minRetention:
		return kinesisapi.ErrInvalidArgumentException("Minimum allowed retention period is %d hours. Requested retention period (%d hours) is too short.", minRetention, hours)
	case hours > maxRetention:
		return kinesisapi.ErrInvalidArgumentException("Maximum allowed retention period is %d hours. Requested retention period (%d hours) is too long.", maxRetention, hours)
	}
	return nil
}

func (s *Service) increaseRetention(ctx context.Context, in *kinesisapi.IncreaseStreamRetentionPeriodInput) (*kinesisapi.IncreaseStreamRetentionPeriodOutput, error) {
	hours := *in.RetentionPeriodHours
	if err := checkRetention(hours); err != nil {
		return nil, err
	}
	return nil, s.change(ctx, in.StreamName, in.StreamARN, in.StreamId, func(tx kv.Tx, st *stream) error {
		if hours < st.Retention {
			return kinesisapi.ErrInvalidArgumentException("Requested retention period (%d hours) for stream %s can not be shorter than existing retention period (%d hours). Use DecreaseRetentionPeriod API.", hours, st.ref.name, st.Retention)
		}
		st.Retention = hours
		return st.store(tx)
	})
}

func (s *Service) decreaseRetention(ctx context.Context, in *kinesisapi.DecreaseStreamRetentionPeriodInput) (*kinesisapi.DecreaseStreamRetentionPeriodOutput, error) {
	hours := *in.RetentionPeriodHours
	if err := checkRetention(hours); err != nil {
		return nil, err
	}
	err := s.change(ctx, in.StreamName, in.StreamARN, in.StreamId, func(tx kv.Tx, st *stream) error {
		if hours > st.Retention {
			return kinesisapi.ErrInvalidArgumentException("Requested retention period (%d hours) for stream %s can not be longer than existing retention period (%d hours). Use IncreaseRetentionPeriod API.", hours, st.ref.name, st.Retention)
		}
		st.Retention = hours
		return st.store(tx)
	})
	if err == nil {
		s.trimSoon()
	}
	return nil, err
}

func (s *Service) updateStreamMode(ctx context.Context, in *kinesisapi.UpdateStreamModeInput) (*kinesisapi.UpdateStreamModeOutput, error) {
	mode := *in.StreamModeDetails.StreamMode
	return nil, s.change(ctx, nil, in.StreamARN, in.StreamId, func(tx kv.Tx, st *stream) (err error) {
		if mode != kinesisapi.StreamModeOnDemand && in.WarmThroughputMiBps != nil {
			return kinesisapi.ErrInvalidArgumentException("WarmThroughputMiBps can be specified for streams in On-Demand mode only.")
		}
		if mode == st.Mode {
			return kinesisapi.ErrInvalidArgumentException("Stream %s under account %s is in the mode %s already.", st.ref.name, st.ref.account, mode)
		}
		if st.Moded, err = another(st.Moded, modeChanges); err != nil {
			return err
		}
		use, err := s.usage(tx, st.ref.account, st.ref.region)
		if err != nil {
			return err
		}
		if mode == kinesisapi.StreamModeOnDemand && use.onDemand >= onDemandLimit {
			return kinesisapi.ErrLimitExceededException("This request would exceed the limit of %d streams in On-Demand mode for the account %s in %s.", onDemandLimit, st.ref.account, st.ref.region)
		}
		if mode == kinesisapi.StreamModeProvisioned && use.shards+st.openCount() > shardLimit {
			return errShardLimit(st.ref, use.shards, st.openCount())
		}
		st.Mode, st.Warm = mode, or(in.WarmThroughputMiBps, 0)
		return st.warm(tx)
	})
}

// warm begins an update that ends with as many shards as the throughput that the stream must take at once needs.
func (st *stream) warm(tx kv.Tx) error {
	p := newPlan(st)
	if n := int(st.Warm); n > len(st.open) {
		p.scale(n)
	}
	return p.begin(tx)
}

func (s *Service) updateStreamWarmThroughput(ctx context.Context, in *kinesisapi.UpdateStreamWarmThroughputInput) (*kinesisapi.UpdateStreamWarmThroughputOutput, error) {
	var out *kinesisapi.UpdateStreamWarmThroughputOutput
	err := s.change(ctx, in.StreamName, in.StreamARN, in.StreamId, func(tx kv.Tx, st *stream) error {
		if st.Mode != kinesisapi.StreamModeOnDemand {
			return kinesisapi.ErrValidationException("Request is invalid. Stream %s under account %s is not in On-Demand mode.", st.ref.name, st.ref.account)
		}
		if *in.WarmThroughputMiBps > maxStreamShards {
			return kinesisapi.ErrLimitExceededException("WarmThroughputMiBps cannot be greater than %d.", maxStreamShards)
		}
		out = &kinesisapi.UpdateStreamWarmThroughputOutput{
			StreamName: new(st.ref.name), StreamARN: new(st.ref.arn()),
			WarmThroughput: &kinesisapi.WarmThroughputObject{TargetMiBps: in.WarmThroughputMiBps, CurrentMiBps: new(st.Warm)},
		}
		st.Warm = *in.WarmThroughputMiBps
		return st.warm(tx)
	})
	return out, err
}

func (s *Service) updateMaxRecordSize(ctx context.Context, in *kinesisapi.UpdateMaxRecordSizeInput) (*kinesisapi.UpdateMaxRecordSizeOutput, error) {
	return nil, s.change(ctx, nil, in.StreamARN, in.StreamId, func(tx kv.Tx, st *stream) error {
		st.MaxRecord = *in.MaxRecordSizeInKiB
		st.Status = kinesisapi.StreamStatusUpdating
		return st.begin(tx)
	})
}

func (s *Service) startStreamEncryption(ctx context.Context, in *kinesisapi.StartStreamEncryptionInput) (*kinesisapi.StartStreamEncryptionOutput, error) {
	if *in.EncryptionType != kinesisapi.EncryptionTypeKms {
		return nil, kinesisapi.ErrInvalidArgumentException("EncryptionType must be KMS.")
	}
	return nil, s.change(ctx, in.StreamName, in.StreamARN, in.StreamId, func(tx kv.Tx, st *stream) error {
		st.KeyID = *in.KeyId
		st.Status = kinesisapi.StreamStatusUpdating
		return st.begin(tx)
	})
}

func (s *Service) stopStreamEncryption(ctx context.Context, in *kinesisapi.StopStreamEncryptionInput) (*kinesisapi.StopStreamEncryptionOutput, error) {
	if *in.EncryptionType != kinesisapi.EncryptionTypeKms {
		return nil, kinesisapi.ErrInvalidArgumentException("EncryptionType must be KMS.")
	}
	return nil, s.change(ctx, in.StreamName, in.StreamARN, in.StreamId, func(tx kv.Tx, st *stream) error {
		if st.KeyID != "" && *in.KeyId != st.KeyID {
			return kinesisapi.ErrInvalidArgumentException("Stream %s under account %s is not encrypted with the key %s.", st.ref.name, st.ref.account, *in.KeyId)
		}
		st.KeyID = ""
		st.Status = kinesisapi.StreamStatusUpdating
		return st.begin(tx)
	})
}

// allMetrics are what ALL stands for.
var allMetrics = []string{
	kinesisapi.MetricsNameIncomingBytes, kinesisapi.MetricsNameIncomingRecords, kinesisapi.MetricsNameIteratorAgeMilliseconds,
	kinesisapi.MetricsNameOutgoingBytes, kinesisapi.MetricsNameOutgoingRecords, kinesisapi.MetricsNameReadProvisionedThroughputExceeded,
	kinesisapi.MetricsNameWriteProvisionedThroughputExceeded,
}

// metrics resolves ALL.
func metrics(given []string) []string {
	if slices.Contains(given, kinesisapi.MetricsNameAll) {
		return allMetrics
	}
	return given
}

func (s *Service) enableEnhancedMonitoring(ctx context.Context, in *kinesisapi.EnableEnhancedMonitoringInput) (*kinesisapi.EnableEnhancedMonitoringOutput, error) {
	return s.monitor(ctx, in.StreamName, in.StreamARN, in.StreamId, func(now []string) []string {
		return append(now, metrics(in.ShardLevelMetrics)...)
	})
}

func (s *Service) disableEnhancedMonitoring(ctx context.Context, in *kinesisapi.DisableEnhancedMonitoringInput) (*kinesisapi.DisableEnhancedMonitoringOutput, error) {
	off := metrics(in.ShardLevelMetrics)
	return s.monitor(ctx, in.StreamName, in.StreamARN, in.StreamId, func(now []string) []string {
		return slices.DeleteFunc(now, func(m string) bool { return slices.Contains(off, m) })
	})
}

func (s *Service) monitor(ctx context.Context, name, streamARN, id *string, f func([]string) []string) (out *kinesisapi.EnhancedMonitoringOutput, err error) {
	err = s.change(ctx, name, streamARN, id, func(tx kv.Tx, st *stream) error {
		old := append([]string{}, st.Metrics...)
		st.Metrics = f(st.Metrics)
		slices.Sort(st.Metrics)
		st.Metrics = slices.Compact(st.Metrics)
		out = &kinesisapi.EnhancedMonitoringOutput{
			StreamName: new(st.ref.name), StreamARN: new(st.ref.arn()), CurrentShardLevelMetrics: old, DesiredShardLevelMetrics: append([]string{}, st.Metrics...),
		}
		return st.store(tx)
	})
	return out, err
}
