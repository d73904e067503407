package kinesis

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// commitment is the account's commitment to a minimum throughput: kept, without a bill.
type commitment struct {
	Enabled bool  `json:"enabled"`
	Started int64 `json:"started,omitempty"` // s
	Ended   int64 `json:"ended,omitempty"`   // s
}

// commitmentLasts is how long a commitment holds at least. Source: AWS's documentation of on-demand advantage mode.
const commitmentLasts = 24 * time.Hour

func (c commitment) describe() *kinesisapi.MinimumThroughputBillingCommitmentOutput {
	out := &kinesisapi.MinimumThroughputBillingCommitmentOutput{Status: new(kinesisapi.MinimumThroughputBillingCommitmentOutputStatusDisabled)}
	if c.Started > 0 {
		out.StartedAt = new(time.Unix(c.Started, 0))
	}
	if c.Enabled {
		out.Status = new(kinesisapi.MinimumThroughputBillingCommitmentOutputStatusEnabled)
		out.EarliestAllowedEndAt = new(time.Unix(c.Started, 0).Add(commitmentLasts))
	} else if c.Ended > 0 {
		out.EndedAt = new(time.Unix(c.Ended, 0))
	}
	return out
}

func (s *Service) describeLimits(ctx context.Context, _ *kinesisapi.DescribeLimitsInput) (*kinesisapi.DescribeLimitsOutput, error) {
	info := call.From(ctx)
	var u accountUsage
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		u, err = s.usage(r, info.Account, info.Region)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &kinesisapi.DescribeLimitsOutput{
		ShardLimit: new(int32(shardLimit)), OpenShardCount: new(int32(u.shards)),
		OnDemandStreamCount: new(int32(u.onDemand)), OnDemandStreamCountLimit: new(int32(onDemandLimit)),
	}, nil
}

func (s *Service) describeAccountSettings(ctx context.Context, _ *kinesisapi.DescribeAccountSettingsInput) (*kinesisapi.DescribeAccountSettingsOutput, error) {
	info := call.From(ctx)
	var c commitment
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		c, _, err = kv.GetJSON[commitment](r, accountKey(info.Account, info.Region))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &kinesisapi.DescribeAccountSettingsOutput{MinimumThroughputBillingCommitment: c.describe()}, nil
}

func (s *Service) updateAccountSettings(ctx context.Context, in *kinesisapi.UpdateAccountSettingsInput) (*kinesisapi.UpdateAccountSettingsOutput, error) {
	info := call.From(ctx)
	enable := *in.MinimumThroughputBillingCommitment.Status == kinesisapi.MinimumThroughputBillingCommitmentInputStatusEnabled
	var c commitment
	err := s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if c, _, err = kv.GetJSON[commitment](tx, accountKey(info.Account, info.Region)); err != nil {
			return err
		}
		now := time.Now()
		switch {
		case enable == c.Enabled:
			return nil
		case enable:
			c = commitment{Enabled: true, Started: now.Unix()}
		case now.Before(time.Unix(c.Started, 0).Add(commitmentLasts)):
			return kinesisapi.ErrValidationException("The minimum throughput billing commitment cannot be disabled before %s.",
				time.Unix(c.Started, 0).Add(commitmentLasts).UTC().Format(time.RFC3339))
		default:
			c.Enabled, c.Ended = false, now.Unix()
		}
		return kv.SetJSON(tx, accountKey(info.Account, info.Region), c)
	})
	if err != nil {
		return nil, err
	}
	return &kinesisapi.UpdateAccountSettingsOutput{MinimumThroughputBillingCommitment: c.describe()}, nil
}
