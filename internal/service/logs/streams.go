package logs

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func (s *Service) createLogStream(ctx context.Context, in *logsapi.CreateLogStreamInput) (*logsapi.CreateLogStreamOutput, error) {
	sc := scopeOf(ctx)
	st := &logStream{ID: newID(), Name: *in.LogStreamName, Created: time.Now().UnixMilli()}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		g, err := sc.getGroup(tx, *in.LogGroupName)
		if err != nil {
			return err
		}
		if _, exists, err := tx.Get(sc.streamKey(g.ID, st.Name)); err != nil {
			return err
		} else if exists {
			return logsapi.ErrResourceAlreadyExistsException("The specified log stream already exists")
		}
		tx.Set(sc.lastKey(g.ID, 0, st.Name), nil)
		return sc.setStream(tx, g.ID, st)
	})
}

func (s *Service) deleteLogStream(ctx context.Context, in *logsapi.DeleteLogStreamInput) (*logsapi.DeleteLogStreamOutput, error) {
	sc := scopeOf(ctx)
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		g, err := sc.getGroup(tx, *in.LogGroupName)
		if err != nil {
			return err
		}
		st, err := sc.getStream(tx, g.ID, *in.LogStreamName)
		if err != nil {
			return err
		}
		if err := g.checkDeletable(); err != nil {
			return err
		}
		tx.Delete(sc.streamKey(g.ID, st.Name))
		tx.Delete(sc.lastKey(g.ID, st.Last, st.Name))
		if st.Chunks > 0 {
			tx.Set(sc.deletedKey(g.ID, st.ID), nil)
		}
		return nil
	})
}

func (s *Service) describeLogStreams(ctx context.Context, in *logsapi.DescribeLogStreamsInput) (*logsapi.DescribeLogStreamsOutput, error) {
	sc := scopeOf(ctx)
	name, err := sc.namedGroup(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	byTime := str(in.OrderBy) == logsapi.OrderByLastEventTime
	if byTime && in.LogStreamNamePrefix != nil {
		return nil, logsapi.ErrInvalidParameterException("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	out := &logsapi.DescribeLogStreamsOutput{LogStreams: []logsapi.LogStream{}}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		g, err := sc.getGroup(r, name)
		if err != nil {
			return err
		}
		all, nameOf := sc.streams(g.ID, str(in.LogStreamNamePrefix)), streamName
		if byTime {
			all, nameOf = sc.lasts(g.ID), lastName
		}
		if is(in.Descending) {
			all = all.Backward()
		}
		entries, next, err := kv.Page(r, all, str(in.NextToken), int(num(in.Limit, 50)))
		if err != nil {
			return pageError(err)
		}
		out.NextToken = some(next)
		for _, e := range entries {
			name, err := nameOf(e.Key)
			if err != nil {
				return err
			}
			st, err := sc.getStream(r, g.ID, name)
			if err != nil {
				return err
			}
			out.LogStreams = append(out.LogStreams, sc.describeStream(g, st))
		}
		return nil
	})
}

func (sc scope) describeStream(g *logGroup, st *logStream) logsapi.LogStream {
	d := logsapi.LogStream{
		LogStreamName: &st.Name, Arn: new(sc.streamARN(g.Name, st.Name)), CreationTime: &st.Created,
		StoredBytes: new(int64(0)), // no longer counted per stream since 2019
	}
	if st.Chunks > 0 {
		d.FirstEventTimestamp, d.LastEventTimestamp, d.LastIngestionTime = &st.First, &st.Last, &st.Ingested
		d.UploadSequenceToken = new(st.sequenceToken())
	}
	return d
}
