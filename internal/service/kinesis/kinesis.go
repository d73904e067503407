package kinesis

import (
	"context"
	"crypto/cipher"
	"errors"
	"log/slog"
	"sync"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/commitlog"
	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Deps is what the service needs.
type Deps struct {
	DB  kv.DB
	Log *slog.Logger // nil discards

	// Unlimited lifts the limits of throughput: 1,000 records and 1 MiB a second into a shard, 5 reads and 2 MiB a second out of it.
	Unlimited bool
}

// Service serves Kinesis Data Streams. Its methods may be called concurrently.
type Service struct {
	db        kv.DB
	logs      *commitlog.Logs
	log       *slog.Logger
	unlimited bool
	sealer    cipher.AEAD // of iterators and tokens
	documents authorize.Documents

	snapshots snapshots
	limits    limits
	subs      subscriptions
	arrivals  arrivals
	trimNow   chan struct{} // a retention was shortened

	scaleMu  sync.Mutex
	scale    map[ref]struct{} // streams on demand that were throttled
	scaleNow chan struct{}    // there are some
}

// New returns a service on the store.
func New(d Deps) (*Service, error) {
	if d.DB == nil {
		return nil, errors.New("kinesis: no store")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		db: d.DB, logs: commitlog.New(d.DB, logFamily), log: d.Log, unlimited: d.Unlimited,
		trimNow: make(chan struct{}, 1), scale: map[ref]struct{}{}, scaleNow: make(chan struct{}, 1),
	}
	var err error
	s.sealer, err = newSealer(d.DB)
	return s, err
}

// Register makes the service the handler of its operations in m.
func (s *Service) Register(m *smithy.Mux) {
	kinesisapi.CreateStream.Handle(m, s.createStream)
	kinesisapi.DeleteStream.Handle(m, s.deleteStream)
	kinesisapi.DescribeStream.Handle(m, s.describeStream)
	kinesisapi.DescribeStreamSummary.Handle(m, s.describeStreamSummary)
	kinesisapi.ListStreams.Handle(m, s.listStreams)
	kinesisapi.ListShards.Handle(m, s.listShards)

	kinesisapi.PutRecord.Handle(m, s.putRecord)
	kinesisapi.PutRecords.Handle(m, s.putRecords)
	kinesisapi.GetShardIterator.Handle(m, s.getShardIterator)
	kinesisapi.GetRecords.Handle(m, s.getRecords)

	kinesisapi.SplitShard.Handle(m, s.splitShard)
	kinesisapi.MergeShards.Handle(m, s.mergeShards)
	kinesisapi.UpdateShardCount.Handle(m, s.updateShardCount)

	kinesisapi.RegisterStreamConsumer.Handle(m, s.registerStreamConsumer)
	kinesisapi.DeregisterStreamConsumer.Handle(m, s.deregisterStreamConsumer)
	kinesisapi.DescribeStreamConsumer.Handle(m, s.describeStreamConsumer)
	kinesisapi.ListStreamConsumers.Handle(m, s.listStreamConsumers)
	kinesisapi.SubscribeToShard.Handle(m, s.subscribeToShard)

	kinesisapi.IncreaseStreamRetentionPeriod.Handle(m, s.increaseRetention)
	kinesisapi.DecreaseStreamRetentionPeriod.Handle(m, s.decreaseRetention)
	kinesisapi.UpdateStreamMode.Handle(m, s.updateStreamMode)
	kinesisapi.UpdateMaxRecordSize.Handle(m, s.updateMaxRecordSize)
	kinesisapi.UpdateStreamWarmThroughput.Handle(m, s.updateStreamWarmThroughput)
	kinesisapi.StartStreamEncryption.Handle(m, s.startStreamEncryption)
	kinesisapi.StopStreamEncryption.Handle(m, s.stopStreamEncryption)
	kinesisapi.EnableEnhancedMonitoring.Handle(m, s.enableEnhancedMonitoring)
	kinesisapi.DisableEnhancedMonitoring.Handle(m, s.disableEnhancedMonitoring)

	kinesisapi.AddTagsToStream.Handle(m, s.addTagsToStream)
	kinesisapi.RemoveTagsFromStream.Handle(m, s.removeTagsFromStream)
	kinesisapi.ListTagsForStream.Handle(m, s.listTagsForStream)
	kinesisapi.TagResource.Handle(m, s.tagResource)
	kinesisapi.UntagResource.Handle(m, s.untagResource)
	kinesisapi.ListTagsForResource.Handle(m, s.listTagsForResource)
	kinesisapi.PutResourcePolicy.Handle(m, s.putResourcePolicy)
	kinesisapi.GetResourcePolicy.Handle(m, s.getResourcePolicy)
	kinesisapi.DeleteResourcePolicy.Handle(m, s.deleteResourcePolicy)

	kinesisapi.DescribeLimits.Handle(m, s.describeLimits)
	kinesisapi.DescribeAccountSettings.Handle(m, s.describeAccountSettings)
	kinesisapi.UpdateAccountSettings.Handle(m, s.updateAccountSettings)
}

// Run finishes what streams and consumers have begun, and removes what is past its retention, until ctx ends. Its error is ctx's cause
// of ending, or of the store.
func (s *Service) Run(ctx context.Context) error {
	g := group.New(ctx)
	g.Go(s.runTasks)
	g.Go(s.trim)
	g.Go(s.scaleUp)
	g.Wait()
	return context.Cause(ctx)
}
