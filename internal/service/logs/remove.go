package logs

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// removeDeleted removes what is left of deleted groups and streams, whenever there is any.
func (s *Service) removeDeleted(ctx context.Context) {
	for range s.db.Watch(ctx, kv.Key(deletedTable)) {
		for {
			err := s.removeAll(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			s.log.Error("logs: removing deleted events", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryDelay):
			}
		}
	}
}

func (s *Service) removeAll(ctx context.Context) error {
	var rows [][]byte
	err := s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(allDeleted()) {
			if err != nil {
				return err
			}
			rows = append(rows, e.Key)
		}
		return nil
	})
	for _, row := range rows {
		if err == nil {
			err = s.removeRow(ctx, row)
		}
	}
	return err
}

// removeRow removes what a row of the deleted table names, and then the row.
func (s *Service) removeRow(ctx context.Context, row []byte) error {
	sc, group, stream, err := decodeDeletedKey(row)
	if err != nil {
		return err
	}
	if stream == 0 {
		for _, rg := range sc.remains(group) {
			if err := s.removeRange(ctx, rg, func(tx kv.Tx, e kv.Entry) error {
				tx.Delete(e.Key)
				return nil
			}); err != nil {
				return err
			}
		}
	} else if err := s.removeRange(ctx, sc.remainsOfStream(group, stream), func(tx kv.Tx, e kv.Entry) error {
		first, seq, err := decodeChunkKey(e.Key)
		if err != nil {
			return err
		}
		ingested, _, err := chunkHead(e.Value)
		if err != nil {
			return err
		}
		tx.Delete(e.Key)
		tx.Delete(sc.timeKey(group, &indexEntry{first: first, ingested: ingested, stream: stream, seq: seq}))
		return nil
	}); err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		tx.Delete(row)
		return nil
	})
}

// removeRange calls remove for every entry of a range that nothing is added to any more, batch by batch.
func (s *Service) removeRange(ctx context.Context, rg kv.Range, remove func(kv.Tx, kv.Entry) error) error {
	for {
		var batch []kv.Entry
		bytes := 0
		err := s.db.View(ctx, func(r kv.Reader) error {
			for e, err := range r.Scan(rg) {
				if err != nil {
					return err
				}
				batch = append(batch, e)
				if bytes += len(e.Value); len(batch) == removeBatch || bytes >= removeBytes {
					break
				}
			}
			return nil
		})
		if err != nil || len(batch) == 0 {
			return err
		}
		err = s.db.Update(ctx, func(tx kv.Tx) error {
			for _, e := range batch {
				if err := remove(tx, e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		rg = rg.After(batch[len(batch)-1].Key)
	}
}
