package credential

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"

	"github.com/mayflyhq/mayfly/internal/call"
)

// The layouts of what is sealed. The first byte of a token, in the open and authenticated, is its version.
//
//	2: a byte, 1 if what follows is deflated, else 0; then type of the principal (a byte), MFA (a byte), Issued and Expires (varints, Unix
//	   seconds), ARN, UserID, Issuer, Provider, Subject, SourceIdentity, Function (strings), Policies, PolicyARNs, TransitiveTags (lists),
//	   Tags (a list of keys and values in turn). A string is its length (uvarint) and its bytes, a list its length and its strings.
//	1: of role sessions: Expires, the role's ARN and ID, the name of the session.
const (
	tokenVersion  = 2
	tokenVersion1 = 1
)

const (
	deflateFrom = 512      // bytes; shorter ones gain little
	maxPlain    = 64 << 10 // bytes of a token's content, inflated; AWS's limit of packed policies is far below
)

var errToken = errors.New("credential: malformed token")

// encode is the content of a token.
func encode(p *call.Principal) ([]byte, error) {
	s := p.Session
	b := []byte{0, byte(p.Type), 0}
	if s.MFA {
		b[2] = 1
	}
	b = binary.AppendVarint(b, s.Issued.Unix())
	b = binary.AppendVarint(b, s.Expires.Unix())
	for _, v := range []string{p.ARN, p.UserID, s.Issuer, s.Provider, s.Subject, s.SourceIdentity, s.Function} {
		b = appendString(b, v)
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(s.Tags)) {
		tags = append(tags, k, s.Tags[k])
	}
	for _, list := range [][]string{s.Policies, s.PolicyARNs, s.TransitiveTags, tags} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, v := range list {
			b = appendString(b, v)
		}
	}
	if len(b) > maxPlain {
		return nil, fmt.Errorf("credential: a session of %d bytes is too large", len(b))
	}
	if len(b) < deflateFrom {
		return b, nil
	}
	var out bytes.Buffer
	out.WriteByte(1)
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err == nil {
		_, err = w.Write(b[1:])
	}
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode reads the content of a token.
func decode(b []byte) (call.Principal, error) {
	if len(b) < 1 {
		return call.Principal{}, errToken
	}
	deflated, b := b[0] == 1, b[1:]
	if deflated {
		var err error
		if b, err = inflate(b); err != nil {
			return call.Principal{}, err
		}
	}
	r := reader{string(b), false}
	var s call.Session
	p := call.Principal{Session: &s, Type: call.PrincipalType(r.byte())}
	s.MFA = r.byte() == 1
	s.Issued, s.Expires = r.time(), r.time()
	for _, f := range []*string{&p.ARN, &p.UserID, &s.Issuer, &s.Provider, &s.Subject, &s.SourceIdentity, &s.Function} {
		*f = r.string()
	}
	s.Policies, s.PolicyARNs, s.TransitiveTags = r.list(), r.list(), r.list()
	if tags := r.list(); len(tags) > 0 {
		s.Tags = make(map[string]string, len(tags)/2)
		for i := 0; i+1 < len(tags); i += 2 {
			s.Tags[tags[i]] = tags[i+1]
		}
	}
	if r.failed || r.rest != "" {
		return call.Principal{}, errToken
	}
	return p, nil
}

// decode1 reads the content of a token of version 1.
func decode1(b []byte) (call.Principal, error) {
	r := reader{string(b), false}
	expires := r.time()
	role := Role{ARN: r.string(), ID: r.string()}
	name := r.string()
	if r.failed {
		return call.Principal{}, errToken
	}
	return role.Assumed(name, call.Session{Expires: expires})
}

// inflaters are dear to make.
var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

func inflate(b []byte) ([]byte, error) {
	z := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(z)
	if err := z.(flate.Resetter).Reset(bytes.NewReader(b), nil); err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, maxPlain+1))
	if err == nil && len(out) > maxPlain {
		err = errToken
	}
	return out, err
}

// reader takes values from the front of a text. The strings it returns share the text's memory. Once it failed it returns zero values.
type reader struct {
	rest   string
	failed bool
}

// fail makes all further reads fail.
func (r *reader) fail() { r.rest, r.failed = "", true }

func (r *reader) byte() (b byte) {
	if r.rest == "" {
		r.fail()
		return 0
	}
	b, r.rest = r.rest[0], r.rest[1:]
	return b
}

func (r *reader) uvarint() (v uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) time() time.Time {
	u := r.uvarint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	if r.failed {
		return time.Time{}
	}
	return time.Unix(v, 0).UTC()
}

func (r *reader) string() (s string) {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s, r.rest = r.rest[:n], r.rest[n:]
	return s
}

func (r *reader) list() (l []string) {
	n := r.uvarint()
	if n > uint64(len(r.rest)) { // every string takes a byte at least
		r.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	l = make([]string, n)
	for i := range l {
		l[i] = r.string()
	}
	return l
}
