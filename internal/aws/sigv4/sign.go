package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Credentials are what signs.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // of temporary credentials; may be empty
}

// Hash returns the SHA-256 of a body in hexadecimal, as requests state it.
func Hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Sign signs r with an Authorization header, and sets X-Amz-Date, X-Amz-Security-Token and, for S3,
// X-Amz-Content-Sha256. The payload hash is Hash of the body or one of the constants. Host, Content-Type and all X-Amz-
// headers are signed: they must be set before and stay as they are after.
func Sign(r *http.Request, c Credentials, service, region, payloadHash string, now time.Time) {
	s := Signature{Service: service, Region: region, amzDate: amzDate(now)}
	s.Date = s.amzDate[:8]
	r.Header.Set("X-Amz-Date", s.amzDate)
	if c.SessionToken != "" {
		r.Header.Set("X-Amz-Security-Token", c.SessionToken)
	}
	if isS3(service) || payloadHash == UnsignedPayload || strings.HasPrefix(payloadHash, "STREAMING-") {
		r.Header.Set("X-Amz-Content-Sha256", payloadHash)
	}
	names := []string{"host"}
	for name := range r.Header {
		if name == "Content-Type" || strings.HasPrefix(name, "X-Amz-") {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	s.signedHeaders = strings.Join(names, ";")
	scope := string(s.appendScope(nil))
	r.Header.Set("Authorization", Algorithm+" Credential="+c.AccessKeyID+"/"+scope+
		", SignedHeaders="+s.signedHeaders+", Signature="+s.compute(r, c.SecretAccessKey, payloadHash))
}

// Presign returns the URL of r with a signature in its query that holds for the given time, at most MaxExpires. Only
// the host is signed besides method, path and query. The payload hash is UnsignedPayload for S3, else mostly EmptyPayload.
func Presign(r *http.Request, c Credentials, service, region, payloadHash string, now time.Time, expires time.Duration) string {
	s := Signature{Service: service, Region: region, Presigned: true, amzDate: amzDate(now), signedHeaders: "host"}
	s.Date = s.amzDate[:8]
	u := *r.URL
	q := u.Query()
	q.Set("X-Amz-Algorithm", Algorithm)
	q.Set("X-Amz-Credential", c.AccessKeyID+"/"+string(s.appendScope(nil)))
	q.Set("X-Amz-Date", s.amzDate)
	q.Set("X-Amz-Expires", strconv.Itoa(int(expires/time.Second)))
	q.Set("X-Amz-SignedHeaders", s.signedHeaders)
	if c.SessionToken != "" {
		q.Set("X-Amz-Security-Token", c.SessionToken)
	}
	u.RawQuery = q.Encode()
	signed := *r
	signed.URL = &u
	u.RawQuery += "&X-Amz-Signature=" + s.compute(&signed, c.SecretAccessKey, payloadHash)
	return u.String()
}

func (s *Signature) compute(r *http.Request, secret, payloadHash string) string {
	b, _ := appendCanonical(nil, r, s, pathForms(s.Service)[0], []byte(payloadHash))
	sum := sha256.Sum256(b)
	sig := deriveKey(keyID{secret, s.Date, s.Region, s.Service}).sign(s.appendStringToSign(nil, sum))
	return string(sig[:])
}
