package logs

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// position is the place of an event among those of its stream: by timestamp, then by chunk in the order of ingestion, then by
// index in the chunk. As a boundary it stands just before that place.
type position struct {
	ts, seq int64
	idx     int
}

// maxTimestamp is the greatest that fits in an event id, in the year 2286. None is later than two hours from now.
const maxTimestamp = 9_999_999_999_999

// lastPosition is behind every event.
var lastPosition = position{ts: maxTimestamp + 1}

func (p position) compare(q position) int {
	if c := cmp.Compare(p.ts, q.ts); c != 0 {
		return c
	}
	if c := cmp.Compare(p.seq, q.seq); c != 0 {
		return c
	}
	return cmp.Compare(p.idx, q.idx)
}

// after is the boundary just behind the event at p.
func (p position) after() position {
	p.idx++
	return p
}

// eventID names the event at p of a stream, for ever and in the whole region: 56 digits, as AWS's have.
func (p position) eventID(stream int64) string {
	return fmt.Sprintf("%013d%019d%019d%05d", p.ts, stream, p.seq, p.idx)
}

// token is the boundary p in a stream, to go forward (f) or backward (b) from.
func (p position) token(direction byte, stream int64) string {
	return string(direction) + "/" + p.eventID(stream) + "/s"
}

// parseToken reads a token of a stream.
func parseToken(token string, stream int64) (p position, direction byte, err error) {
	digits := strings.TrimSuffix(token, "/s")
	if len(digits) != 2+56 || digits[0] != 'f' && digits[0] != 'b' || digits[1] != '/' {
		return p, 0, errBadToken()
	}
	direction, digits = digits[0], digits[2:]
	var n [4]int64
	for i, width := range []int{13, 19, 19, 5} {
		v, err := strconv.ParseUint(digits[:width], 10, 63)
		if err != nil {
			return p, 0, errBadToken()
		}
		n[i], digits = int64(v), digits[width:]
	}
	if n[1] != stream {
		return p, 0, errBadToken()
	}
	return position{ts: n[0], seq: n[2], idx: int(n[3])}, direction, nil
}
