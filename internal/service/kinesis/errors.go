package kinesis

import (
	"context"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
)

// The texts are AWS's as far as they are known. Sources: answers recorded from the service by kinesalite and moto.

func errNoStream(r ref) *apierr.Error {
	return kinesisapi.ErrResourceNotFoundException("Stream %s under account %s not found.", r.name, r.account)
}

func errNotActive(st *stream) *apierr.Error {
	return kinesisapi.ErrResourceInUseException("Stream %s under account %s not ACTIVE, instead in state %s", st.ref.name, st.ref.account, st.Status)
}

// errNoShard is for operations that change shards, errShardMissing for those that read them.
func errNoShard(r ref, shard string) *apierr.Error {
	return kinesisapi.ErrResourceNotFoundException("Could not find shard %s in stream %s under account %s.", shard, r.name, r.account)
}

func errShardMissing(r ref, shard string) *apierr.Error {
	return kinesisapi.ErrResourceNotFoundException("Shard %s in stream %s under account %s does not exist", shard, r.name, r.account)
}

func errRate(r ref, index uint32) *apierr.Error {
	return kinesisapi.ErrProvisionedThroughputExceededException("%s", rateText(r, index))
}

func rateText(r ref, index uint32) string {
	return "Rate exceeded for shard " + shardID(index) + " in stream " + r.name + " under account " + r.account + "."
}

func errOnDemand(r ref) *apierr.Error {
	return kinesisapi.ErrValidationException("Request is invalid. Stream %s under account %s is in On-Demand mode.", r.name, r.account)
}

func errNoConsumer(consumer, account string) *apierr.Error {
	return kinesisapi.ErrResourceNotFoundException("Consumer %s, account %s not found.", consumer, account)
}

// named returns the stream that an input names, by name or ARN.
func named(ctx context.Context, name, streamARN, id *string) (ref, error) {
	info := call.From(ctx)
	switch {
	case streamARN != nil:
		r, consumer, err := parseARN(*streamARN)
		if err != nil || consumer != "" {
			return ref{}, kinesisapi.ErrInvalidArgumentException("%s is not the ARN of a stream.", *streamARN)
		}
		if name != nil && *name != r.name {
			return ref{}, kinesisapi.ErrInvalidArgumentException("StreamName %s and StreamARN %s do not name the same stream.", *name, *streamARN)
		}
		return r, nil
	case name != nil:
		return ref{info.Account, info.Region, *name}, nil
	case id != nil:
		return ref{}, kinesisapi.ErrInvalidArgumentException("StreamId alone does not name a stream: give StreamARN or StreamName.")
	}
	return ref{}, kinesisapi.ErrInvalidArgumentException("Either StreamARN or StreamName must be provided.")
}

// parseARN takes apart the ARN of a stream, or of a consumer, which is then name:time.
func parseARN(s string) (r ref, consumer string, err error) {
	a, err := arn.Parse(s)
	if err != nil || a.Service != "kinesis" {
		return r, "", arn.ErrInvalid
	}
	name, ok := strings.CutPrefix(a.Resource, "stream/")
	name, consumer, has := strings.Cut(name, "/consumer/")
	if !ok || name == "" || strings.Contains(name, "/") || has && consumer == "" {
		return r, "", arn.ErrInvalid
	}
	return ref{a.Account, a.Region, name}, consumer, nil
}

// checkID refuses an input whose StreamId is another stream's.
func (st *stream) checkID(id *string) error {
	if id != nil && *id != st.ID {
		return kinesisapi.ErrResourceNotFoundException("Stream %s under account %s does not have the id %s.", st.ref.name, st.ref.account, *id)
	}
	return nil
}

// active refuses a stream that is busy.
func (st *stream) active() error {
	if st.Status != kinesisapi.StreamStatusActive {
		return errNotActive(st)
	}
	return nil
}

func or[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}
