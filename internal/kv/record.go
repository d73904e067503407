package kv

import (
	"encoding/json"
	"fmt"
	"iter"
)

// GetJSON returns the record of type T at key and whether there is one.
func GetJSON[T any](r Reader, key []byte) (record T, ok bool, err error) {
	b, ok, err := r.Get(key)
	if err != nil || !ok {
		return record, false, err
	}
	if err := json.Unmarshal(b, &record); err != nil {
		return record, false, fmt.Errorf("kv: record at %s: %w", Format(key), err)
	}
	return record, true, nil
}

// SetJSON writes record at key.
func SetJSON(tx Tx, key []byte, record any) error {
	b, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("kv: record at %s: %w", Format(key), err)
	}
	tx.Set(key, b)
	return nil
}

// Record is an entry whose value is a JSON record.
type Record[T any] struct {
	Key   []byte
	Value T
}

// ScanJSON is Scan over a range in which every value is a T.
func ScanJSON[T any](r Reader, rg Range) iter.Seq2[Record[T], error] {
	return func(yield func(Record[T], error) bool) {
		for e, err := range r.Scan(rg) {
			rec := Record[T]{Key: e.Key}
			if err == nil {
				if err = json.Unmarshal(e.Value, &rec.Value); err != nil {
					err = fmt.Errorf("kv: record at %s: %w", Format(e.Key), err)
				}
			}
			if err != nil {
				yield(Record[T]{}, err)
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}
