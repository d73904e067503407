package kinesis

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/commitlog"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The tables. Where it is not said otherwise keys continue with the account and the region, and then:
const (
	streamTable  = "kinesis.stream"  // name -> stream
	versionTable = "kinesis.version" // name -> 8 bytes that change with the stream or its shards
	shardTable   = "kinesis.shard"   // uid, index -> shard
	taskTable    = "kinesis.task"    // name -> nothing: the stream has begun something that Run finishes
	accountTable = "kinesis.account" // -> settings of the account
	secretTable  = "kinesis.secret"  // without account and region: the key that seals iterators
	logFamily    = "kinesis.log"     // without account and region: logs of package commitlog, whose id is the uid and the index of the shard
)

// ref names a stream.
type ref struct{ account, region, name string }

func (r ref) arn() string {
	return arn.New("kinesis", r.region, r.account, "stream/"+r.name).String()
}

func (r ref) streamKey() []byte  { return kv.Key(streamTable, r.account, r.region, r.name) }
func (r ref) versionKey() []byte { return kv.Key(versionTable, r.account, r.region, r.name) }
func (r ref) taskKey() []byte    { return kv.Key(taskTable, r.account, r.region, r.name) }

func (r ref) shardKey(uid int64, index uint32) []byte {
	return kv.Key(shardTable, r.account, r.region, uid, index)
}

func (r ref) shards(uid int64) kv.Range { return kv.Prefix(shardTable, r.account, r.region, uid) }

func accountKey(account, region string) []byte { return kv.Key(accountTable, account, region) }
func secretKey() []byte                        { return kv.Key(secretTable) }
func allTasks() []byte                         { return kv.Key(taskTable) }
func allStreams() kv.Range                     { return kv.Prefix(streamTable) }

// streamsOf is the range of an account's streams in a region. A guard counts them.
func streamsOf(account, region string) kv.Range { return kv.Prefix(streamTable, account, region) }

func streamsGuard(account, region string) kv.Guard {
	return kv.GuardFor(streamTable, account, region)
}

func decodeRef(key []byte) (r ref, err error) {
	err = kv.Decode(key, nil, &r.account, &r.region, &r.name)
	return r, err
}

// stream is a stream with its shards as they are at one time. It is not changed once it was loaded or stored: see clone.
type stream struct {
	UID        int64             `json:"uid"` // of 63 bits, never used again
	ID         string            `json:"id"`  // StreamId
	Status     string            `json:"status"`
	Created    int64             `json:"created"` // ms
	Mode       string            `json:"mode"`
	Retention  int32             `json:"retention"` // hours
	MaxRecord  int32             `json:"maxRecord"` // KiB
	Warm       int32             `json:"warm,omitempty"`
	KeyID      string            `json:"keyId,omitempty"` // of encryption; empty is none
	Metrics    []string          `json:"metrics,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Policy     string            `json:"policy,omitempty"`
	Consumers  []consumer        `json:"consumers,omitempty"` // by name
	Scaled     []int64           `json:"scaled,omitempty"`    // when UpdateShardCount was called in the last 24 hours, ms
	Moded      []int64           `json:"moded,omitempty"`     // when UpdateStreamMode was
	NextShard  uint32            `json:"nextShard"`
	Resharding bool              `json:"resharding,omitempty"` // some shards are sealed and others not open yet

	ref     ref
	version string
	shards  []*shard // by index
	open    []*shard // that take records, by their ranges
}

// consumer is an enhanced fan-out consumer.
type consumer struct {
	Name    string            `json:"name"`
	Status  string            `json:"status"`
	Created int64             `json:"created"` // s
	Tags    map[string]string `json:"tags,omitempty"`
	Policy  string            `json:"policy,omitempty"`
}

// State of a shard.
const (
	shardComing = "COMING" // its parents are not closed yet
	shardOpen   = "OPEN"
	shardSealed = "SEALED" // takes no records any more, and its end is not written yet
	shardClosed = "CLOSED"
)

// shard is a shard as stored.
type shard struct {
	State  string   `json:"state"`
	First  hashKey  `json:"first"`
	Last   hashKey  `json:"last"`
	Parent []uint32 `json:"parents,omitempty"` // one after a split, two after a merge
	Start  uint64   `json:"start"`             // position before which it holds nothing
	End    uint64   `json:"end,omitempty"`     // position of its end, once closed
	Opened int64    `json:"opened"`            // ms
	Closed int64    `json:"closed,omitempty"`  // ms

	index uint32
}

func (st *stream) shard(index uint32) *shard {
	i, ok := slices.BinarySearchFunc(st.shards, index, func(sh *shard, index uint32) int { return int(sh.index) - int(index) })
	if !ok {
		return nil
	}
	return st.shards[i]
}

// route returns the open shard of a hash key; nil if it is just being split or merged.
func (st *stream) route(h hashKey) *shard {
	i, ok := slices.BinarySearchFunc(st.open, h, func(sh *shard, h hashKey) int {
		switch {
		case h.less(sh.First):
			return 1
		case sh.Last.less(h):
			return -1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return st.open[i]
}

// children are the shards that a shard became.
func (st *stream) children(index uint32) (all []*shard) {
	for _, sh := range st.shards {
		if slices.Contains(sh.Parent, index) {
			all = append(all, sh)
		}
	}
	return all
}

// openCount is how many shards are open; while they are being split or merged, how many will be.
func (st *stream) openCount() (n int) {
	for _, sh := range st.shards {
		if sh.State == shardOpen || sh.State == shardComing && len(st.children(sh.index)) == 0 {
			n++
		}
	}
	return n
}

func (st *stream) number(sh *shard, position uint64) string {
	return number{position, sh.index, st.UID}.String()
}

func (st *stream) created() time.Time { return time.UnixMilli(st.Created) }

// horizon is the position before which records are past their retention.
func (st *stream) horizon() uint64 {
	return commitlog.At(time.Now().Add(-time.Duration(st.Retention) * time.Hour))
}

func (st *stream) encryption() *string {
	if st.KeyID == "" {
		return new(kinesisapi.EncryptionTypeNone)
	}
	return new(kinesisapi.EncryptionTypeKms)
}

// clone returns a copy whose settings, lists and shards may be changed. Maps are replaced, not changed.
func (st *stream) clone() *stream {
	c := *st
	c.Metrics, c.Consumers = slices.Clone(st.Metrics), slices.Clone(st.Consumers)
	c.Scaled, c.Moded = slices.Clone(st.Scaled), slices.Clone(st.Moded)
	c.shards = make([]*shard, len(st.shards))
	for i, sh := range st.shards {
		c.shards[i] = new(*sh)
	}
	c.index()
	return &c
}

// index fills open.
func (st *stream) index() {
	st.open = nil
	for _, sh := range st.shards {
		if sh.State == shardOpen {
			st.open = append(st.open, sh)
		}
	}
	slices.SortFunc(st.open, func(a, b *shard) int {
		if a.First.less(b.First) {
			return -1
		}
		return 1
	})
}

// snapshots keeps streams in memory.
type snapshots struct {
	mu     sync.RWMutex
	byName map[ref]*stream
}

func (c *snapshots) get(r ref) *stream {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byName[r]
}

func (c *snapshots) put(r ref, st *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName = map[ref]*stream{}
	}
	if st == nil {
		delete(c.byName, r)
	} else {
		c.byName[r] = st
	}
}

// load returns a stream as r sees it, or nil if there is none. In a transaction it is enough to make it depend on the stream and its shards.
func (s *Service) load(r kv.Reader, name ref) (*stream, error) {
	version, ok, err := r.Get(name.versionKey())
	if err != nil {
		return nil, err
	}
	if !ok {
		s.snapshots.put(name, nil)
		return nil, nil
	}
	if st := s.snapshots.get(name); st != nil && st.version == string(version) {
		return st, nil
	}
	st, ok, err := kv.GetJSON[stream](r, name.streamKey())
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("kinesis: the stream %s has a version and no settings", name.arn())
	}
	for rec, err := range kv.ScanJSON[shard](r, name.shards(st.UID)) {
		if err != nil {
			return nil, err
		}
		if err := kv.Decode(rec.Key, nil, nil, nil, nil, &rec.Value.index); err != nil {
			return nil, err
		}
		st.shards = append(st.shards, &rec.Value)
	}
	st.ref, st.version = name, string(version)
	st.index()
	s.snapshots.put(name, &st)
	return &st, nil
}

// store writes a stream, and those of its shards that are given.
func (st *stream) store(tx kv.Tx, shards ...*shard) error {
	for _, sh := range shards {
		if err := kv.SetJSON(tx, st.ref.shardKey(st.UID, sh.index), sh); err != nil {
			return err
		}
	}
	var version [8]byte
	rand.Read(version[:])
	tx.Set(st.ref.versionKey(), version[:])
	return kv.SetJSON(tx, st.ref.streamKey(), st)
}

// begin is store for a change that Run finishes.
func (st *stream) begin(tx kv.Tx, shards ...*shard) error {
	tx.Set(st.ref.taskKey(), nil)
	return st.store(tx, shards...)
}

// find is load with AWS's error for a stream that is not there.
func (s *Service) find(r kv.Reader, name ref) (*stream, error) {
	st, err := s.load(r, name)
	if err == nil && st == nil {
		err = errNoStream(name)
	}
	return st, err
}

// view returns a stream as it is.
func (s *Service) view(ctx context.Context, name ref) (st *stream, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		st, err = s.find(r, name)
		return err
	})
	return st, err
}

// update changes a stream in a transaction.
func (s *Service) update(ctx context.Context, name ref, change func(tx kv.Tx, st *stream) error) error {
	return s.db.Update(ctx, func(tx kv.Tx) error {
		st, err := s.find(tx, name)
		if err != nil {
			return err
		}
		return change(tx, st.clone())
	})
}

// recordLog is the log of a shard.
func (s *Service) recordLog(st *stream, index uint32) *commitlog.Log {
	return s.logs.Log(strconv.FormatInt(st.UID, 36) + "/" + strconv.FormatUint(uint64(index), 10))
}

// newUID returns a random number of 63 bits.
func newUID() int64 {
	var b [8]byte
	rand.Read(b[:])
	return int64(binary.BigEndian.Uint64(b[:])>>1) | 1
}

// newStreamID returns a random StreamId: 20 and 3 letters and digits.
func newStreamID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	var b [24]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	b[20] = '-'
	return string(b[:])
}

// The kinds of records in a log: the first byte of each.
const (
	plainRecord     = 0 // length of the partition key as uvarint, partition key, data
	encryptedRecord = 1 // the same: the stream had a key when it came
	shardEnd        = 2 // nothing more: no record follows
)

// appendRecord encodes a record.
func appendRecord(b []byte, kind byte, partitionKey string, data []byte) []byte {
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(partitionKey)))
	b = append(b, partitionKey...)
	return append(b, data...)
}

// recordSize is how many bytes appendRecord takes at most.
func recordSize(partitionKey string, data []byte) int {
	return 1 + binary.MaxVarintLen32 + len(partitionKey) + len(data)
}

// decodeRecord reads a record; end says that it is the end of the shard.
func decodeRecord(b []byte) (partitionKey string, data []byte, encrypted, end bool, err error) {
	corrupt := fmt.Errorf("kinesis: a record is corrupt")
	if len(b) == 0 || b[0] > shardEnd {
		return "", nil, false, false, corrupt
	}
	if b[0] == shardEnd {
		return "", nil, false, true, nil
	}
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n > uint64(len(b)-1-size) {
		return "", nil, false, false, corrupt
	}
	rest := b[1+size:]
	return string(rest[:n]), rest[n:], b[0] == encryptedRecord, false, nil
}
