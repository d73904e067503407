package eventsource

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// root opens all keys of the engine. Everything of a mapping lies below ("eventsource", mapping).
const root = "eventsource"

func shardKey(mapping, shard string) []byte { return kv.Key(root, mapping, "shard", shard) }

func shardRange(mapping string) kv.Range { return kv.Prefix(root, mapping, "shard") }

// windowKey is the key of the state of a window, by its start in milliseconds.
func windowKey(mapping, shard string, start int64) []byte {
	return kv.Key(root, mapping, "window", shard, start)
}

func windowRange(mapping, shard string) kv.Range { return kv.Prefix(root, mapping, "window", shard) }

func resultKey(mapping string) []byte { return kv.Key(root, mapping, "result") }

func fateKey(mapping string, at time.Time, shard, last string) []byte {
	return kv.Key(root, mapping, "fate", at, shard, last)
}

func fateRange(mapping string) kv.Range { return kv.Prefix(root, mapping, "fate") }

// shardRow is what is remembered of a shard.
type shardRow struct {
	// First is Shard.First.
	First string `json:"first,omitempty"`
	// Base is where reading began: what a lane has done before its first completed record.
	Base Position `json:"base,omitzero"`
	// Read is the last sequence number read. Lanes that have nothing left are done up to it.
	Read  string    `json:"read,omitempty"`
	Lanes []laneRow `json:"lanes,omitempty"`
	// Old are divisions into other numbers of lanes, whose records may not all be behind Lanes yet.
	Old []layout `json:"old,omitempty"`
	// Newest is the time of arrival that windows have come to.
	Newest time.Time `json:"newest,omitzero"`
	// Drained says that the shard was closed and that nothing of it is left to do.
	Drained bool `json:"drained,omitempty"`
}

type laneRow struct {
	Done  string    `json:"done,omitempty"`
	Items []itemRow `json:"items,omitempty"`
}

// itemRow is an item without its records, which are read again.
type itemRow struct {
	First   string `json:"first,omitempty"`
	Last    string `json:"last,omitempty"`
	Failed  int    `json:"failed,omitempty"`
	Invokes int    `json:"invokes,omitempty"`
	Window  int64  `json:"window,omitempty"`
	Final   bool   `json:"final,omitempty"`
	Early   bool   `json:"early,omitempty"`
	Request string `json:"request,omitempty"`
	Version string `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
	Status  int    `json:"status,omitempty"`
	Message string `json:"message,omitempty"` // the last trouble
	Split   *Split `json:"split,omitempty"`
}

// layout is a former division into lanes: how far each was done.
type layout struct {
	Done []string `json:"done"`
}

// forget removes everything of a mapping but the deliveries under way.
func forget(ctx context.Context, db kv.DB, mapping string) error {
	return db.Update(ctx, func(tx kv.Tx) error {
		for e, err := range tx.Scan(kv.Prefix(root, mapping)) {
			if err != nil {
				return err
			}
			tx.Delete(e.Key)
		}
		return nil
	})
}
