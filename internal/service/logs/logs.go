package logs

import (
	"context"
	"errors"
	"log/slog"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// Deps is what the service needs.
type Deps struct {
	DB  kv.DB
	Log *slog.Logger // nil discards
}

// Service serves CloudWatch Logs. Its methods may be called concurrently.
type Service struct {
	db     kv.DB
	log    *slog.Logger
	counts counts
	tails  tails
}

// New returns a service on the store.
func New(d Deps) (*Service, error) {
	if d.DB == nil {
		return nil, errors.New("logs: no store")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{db: d.DB, log: d.Log}, nil
}

// Register makes the service the handler of its operations in m.
func (s *Service) Register(m *smithy.Mux) {
	logsapi.CreateLogGroup.Handle(m, s.createLogGroup)
	logsapi.DeleteLogGroup.Handle(m, s.deleteLogGroup)
	logsapi.DescribeLogGroups.Handle(m, s.describeLogGroups)
	logsapi.ListLogGroups.Handle(m, s.listLogGroups)
	logsapi.PutLogGroupDeletionProtection.Handle(m, s.putLogGroupDeletionProtection)
	logsapi.AssociateKmsKey.Handle(m, s.associateKMSKey)
	logsapi.DisassociateKmsKey.Handle(m, s.disassociateKMSKey)
	logsapi.PutRetentionPolicy.Handle(m, s.putRetentionPolicy)
	logsapi.DeleteRetentionPolicy.Handle(m, s.deleteRetentionPolicy)

	logsapi.TagResource.Handle(m, s.tagResource)
	logsapi.UntagResource.Handle(m, s.untagResource)
	logsapi.ListTagsForResource.Handle(m, s.listTagsForResource)
	logsapi.TagLogGroup.Handle(m, s.tagLogGroup)
	logsapi.UntagLogGroup.Handle(m, s.untagLogGroup)
	logsapi.ListTagsLogGroup.Handle(m, s.listTagsLogGroup)

	logsapi.CreateLogStream.Handle(m, s.createLogStream)
	logsapi.DeleteLogStream.Handle(m, s.deleteLogStream)
	logsapi.DescribeLogStreams.Handle(m, s.describeLogStreams)

	logsapi.PutLogEvents.Handle(m, s.putLogEvents)
	logsapi.GetLogEvents.Handle(m, s.getLogEvents)
	logsapi.FilterLogEvents.Handle(m, s.filterLogEvents)
	logsapi.StartLiveTail.Handle(m, s.startLiveTail)
}

// Run removes what was deleted and what is past its retention, until ctx ends. Its error is ctx's cause of ending.
func (s *Service) Run(ctx context.Context) error {
	g := group.New(ctx)
	g.Go(s.removeDeleted)
	g.Go(s.removeExpired)
	g.Wait()
	return context.Cause(ctx)
}
