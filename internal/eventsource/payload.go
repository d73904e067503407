package eventsource

import (
	"encoding/json"
	"time"
)

// MaxPayload is how large an event may be, in bytes: that of a synchronous invocation.
const MaxPayload = 6 << 20

// envelope is room for what surrounds the records of an event.
const envelope = 4 << 10

// event returns the event of a batch.
func event(records []Record) []byte {
	return append(appendRecords(make([]byte, 0, size(records)+32), records), '}')
}

// appendRecords appends an event without its closing brace.
func appendRecords(b []byte, records []Record) []byte {
	b = append(b, `{"Records":[`...)
	for i := range records {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, records[i].JSON...)
	}
	return append(b, ']')
}

// size is how many bytes records take in an event.
func size(records []Record) (n int) {
	for i := range records {
		n += len(records[i].JSON) + 1
	}
	return n
}

// windowEvent returns the event of a batch in a window.
func windowEvent(records []Record, w *window, shard, source string, final, early bool) []byte {
	about, _ := json.Marshal(struct {
		Window  windowTimes     `json:"window"`
		State   json.RawMessage `json:"state"`
		Shard   string          `json:"shardId"`
		Source  string          `json:"eventSourceARN"`
		IsFinal bool            `json:"isFinalInvokeForWindow"`
		IsEarly bool            `json:"isWindowTerminatedEarly"`
	}{windowTimes{instant(w.Start), instant(w.End)}, w.state(), shard, source, final, early})
	b := appendRecords(make([]byte, 0, size(records)+len(about)+32), records)
	return append(append(b, ','), about[1:]...)
}

type windowTimes struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// instant writes a time as windows have it: to the second, unless it has a fraction.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }
