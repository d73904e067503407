package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Verifier recomputes signatures. It remembers the signing keys that it derived, a bounded number of them. The zero
// value is ready; its methods may be called concurrently.
type Verifier struct{ keys keyCache }

// Verify checks the signature of a request whose whole body is in memory. S3 requests state their body's digest; for
// the other services it is computed, and compared with what the request states, if it does. The error is an *Error of
// Kind Mismatch, ContentMismatch, UnsignedHeaders or Unsupported.
func (v *Verifier) Verify(r *http.Request, s *Signature, secret string, body []byte) error {
	if s.Streaming() {
		return errorf(Unsupported, "The value '%s' of x-amz-content-sha256 is not supported here.", s.ContentSHA256)
	}
	var digest [sha256.Size * 2]byte
	stated := digest[:]
	switch {
	case s.ContentSHA256 == UnsignedPayload, s.ContentSHA256 == "" && s.Presigned && isS3(s.Service):
		stated = append(digest[:0], UnsignedPayload...)
	default:
		sum := sha256.Sum256(body)
		hex.Encode(digest[:], sum[:])
		if s.ContentSHA256 != "" && !equal(stated, s.ContentSHA256) {
			return contentMismatch()
		}
	}
	_, err := v.verify(r, s, secret, stated)
	return err
}

func contentMismatch() *Error {
	return errorf(ContentMismatch, "The provided 'x-amz-content-sha256' header does not match what was computed.")
}

var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, 2048)) }}

// verify checks the request's own signature, with the payload hash as it is part of the canonical request.
func (v *Verifier) verify(r *http.Request, s *Signature, secret string, payloadHash []byte) (*signingKey, error) {
	if err := unsignedHeaders(r, s); err != nil {
		return nil, err
	}
	key := v.keys.get(keyID{secret, s.Date, s.Region, s.Service})
	p := buffers.Get().(*[]byte)
	b := (*p)[:0]
	defer func() {
		if cap(b) <= 64<<10 { // a giant must not stay
			*p = b
			buffers.Put(p)
		}
	}()
	var first int // where the string to sign begins
	for i, form := range pathForms(s.Service) {
		var ok bool
		if b, ok = appendCanonical(b[:0], r, s, form, payloadHash); !ok {
			break
		}
		first = len(b)
		sum := sha256.Sum256(b)
		b = s.appendStringToSign(b, sum)
		if key.matches(b[first:], s.signature) {
			return key, nil
		}
		if path, _ := target(r); i == 0 && !isS3(s.Service) && removeDots(path) == path {
			break // the other form is the same
		}
	}
	return nil, &Error{Kind: Mismatch, Message: MessageMismatch, CanonicalRequest: string(b[:first]), StringToSign: string(b[first:])}
}

// unsignedHeaders refuses a request that carries headers which must be signed and are not: x-amz-target, which chooses
// the operation, everywhere, and every x-amz-* header with S3.
func unsignedHeaders(r *http.Request, s *Signature) error {
	if r.Header["X-Amz-Target"] != nil && !signs(s.signedHeaders, "x-amz-target") {
		return errorf(Invalid, "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if isS3(s.Service) {
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-") && name != "X-Amz-Content-Sha256" && !signs(s.signedHeaders, name) {
				return errorf(UnsignedHeaders, "There were headers present in the request which were not signed")
			}
		}
	}
	return nil
}

// appendStringToSign appends what the signing key signs: algorithm, time, scope and digest of the canonical request.
func (s *Signature) appendStringToSign(b []byte, canonical [sha256.Size]byte) []byte {
	b = append(b, Algorithm...)
	b = append(b, '\n')
	b = append(b, s.amzDate...)
	b = append(b, '\n')
	b = s.appendScope(b)
	b = append(b, '\n')
	return hex.AppendEncode(b, canonical[:])
}

func (s *Signature) appendScope(b []byte) []byte {
	b = append(b, s.Date...)
	b = append(b, '/')
	b = append(b, s.Region...)
	b = append(b, '/')
	b = append(b, s.Service...)
	return append(b, "/aws4_request"...)
}

// equal compares in constant time.
func equal(computed []byte, stated string) bool {
	var b [64]byte
	if len(stated) != len(computed) || len(stated) > len(b) {
		return false
	}
	copy(b[:], stated)
	return subtle.ConstantTimeCompare(computed, b[:len(stated)]) == 1
}

// signingKey is the key derived from a secret for one day, region and service, ready to compute HMACs.
type signingKey struct{ macs sync.Pool }

func deriveKey(id keyID) *signingKey {
	k := []byte("AWS4" + id.secret)
	for _, part := range []string{id.date, id.region, id.service, terminator} {
		m := hmac.New(sha256.New, k)
		m.Write([]byte(part))
		k = m.Sum(nil)
	}
	key := &signingKey{}
	key.macs.New = func() any { return &mac{h: hmac.New(sha256.New, k)} }
	return key
}

// mac is a keyed hash with room for its results, so that signing allocates nothing.
type mac struct {
	h   hash.Hash
	sum [sha256.Size]byte
	hex [sha256.Size * 2]byte
}

// sign returns the signature of data in hexadecimal.
func (k *signingKey) sign(data []byte) [sha256.Size * 2]byte {
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	m.h.Reset()
	m.h.Write(data)
	hex.Encode(m.hex[:], m.h.Sum(m.sum[:0]))
	return m.hex
}

func (k *signingKey) matches(data []byte, signature string) bool {
	want := k.sign(data)
	return equal(want[:], signature)
}

type keyID struct{ secret, date, region, service string }

// maxKeys bounds each of the two generations of a keyCache.
const maxKeys = 512

// keyCache keeps the signing keys in use. When the young generation is full it becomes the old one, so that what was
// not used for that long is forgotten.
type keyCache struct {
	mu         sync.RWMutex
	young, old map[keyID]*signingKey
}

func (c *keyCache) get(id keyID) *signingKey {
	c.mu.RLock()
	k := c.young[id]
	c.mu.RUnlock()
	if k != nil {
		return k
	}
	// The strings may be parts of a request: only copies may stay.
	id = keyID{strings.Clone(id.secret), strings.Clone(id.date), strings.Clone(id.region), strings.Clone(id.service)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k = c.young[id]; k != nil {
		return k
	}
	if k = c.old[id]; k == nil {
		k = deriveKey(id)
	}
	if c.young == nil || len(c.young) >= maxKeys {
		c.young, c.old = make(map[keyID]*signingKey), c.young
	}
	c.young[id] = k
	return k
}

// amzDate formats t as signatures state time.
func amzDate(t time.Time) string { return t.UTC().Format(timeFormat) }
