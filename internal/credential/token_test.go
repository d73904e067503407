package credential

import (
	"reflect"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
)

// FuzzDecode: whatever the content of a token, it is refused or read into something that encodes to the same again.
func FuzzDecode(f *testing.F) {
	p := call.Principal{Type: call.AssumedRole, ARN: "arn:aws:sts::123456789012:assumed-role/r/s", UserID: "AROA:s", Session: &call.Session{
		Issued: time.Unix(1, 0).UTC(), Expires: time.Unix(2, 0).UTC(), Tags: map[string]string{"k": "v"}, Policies: []string{"p"}}}
	small, _ := encode(&p)
	p.Session.Policies = append(p.Session.Policies, string(make([]byte, 1000)))
	large, _ := encode(&p)
	for _, b := range [][]byte{small, large, {}, {0}, {1}, small[:len(small)-1], append(small, 0)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decode1(b)
		p, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(&p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := decode(again)
		if err != nil || !reflect.DeepEqual(p, q) {
			t.Errorf("%v: %+v and %+v", err, p.Session, q.Session)
		}
	})
}
