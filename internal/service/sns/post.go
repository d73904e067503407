package sns

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// postTimeout is how long an endpoint has to answer.
const postTimeout = 15 * time.Second

// newClient returns the client of HTTP endpoints. A redirect is an answer like others, and no success.
func newClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: postingOne, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
		},
	}
}

// endpointError says that an endpoint did not take a message.
type endpointError struct {
	reason    string
	permanent bool
}

func (e *endpointError) Error() string { return e.reason }

// posted is what the headers of a message say of it.
type posted struct {
	kind, id, topic, subscription string
	raw                           bool
}

// post sends a body to an HTTP endpoint. Answers from 200 to 299 are success; those from 400 to 499 are the endpoint's word that it does not
// want the message, but for 429.
func (s *Service) post(ctx context.Context, endpoint, contentType string, p *posted, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return &endpointError{err.Error(), true}
	}
	h := r.Header
	h.Set("Content-Type", contentType)
	h.Set("User-Agent", "Amazon Simple Notification Service Agent")
	h.Set("Accept-Encoding", "gzip,deflate")
	h.Set("X-Amz-Sns-Message-Type", p.kind)
	h.Set("X-Amz-Sns-Message-Id", p.id)
	h.Set("X-Amz-Sns-Topic-Arn", p.topic)
	if p.subscription != "" {
		h.Set("X-Amz-Sns-Subscription-Arn", p.subscription)
	}
	if p.raw {
		h.Set("X-Amz-Sns-Rawdelivery", "true")
	}
	res, err := s.client.Do(r)
	if err != nil {
		return &endpointError{reason: err.Error()}
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 500 && code != http.StatusTooManyRequests:
		return &endpointError{fmt.Sprintf("the endpoint answers %s", res.Status), true}
	}
	return &endpointError{reason: fmt.Sprintf("the endpoint answers %s", res.Status)}
}

// rates hold the endpoints that limit how many messages they get in a second. The zero value is ready.
type rates struct {
	mu   sync.Mutex
	next map[subscriptionName]time.Time
}

// maxRates bounds how many endpoints are remembered before those that may have a message are forgotten.
const maxRates = 1024

// take returns how long a message has to wait. If it has not to, its turn is taken.
func (r *rates) take(s subscriptionName, perSecond int, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.next[s]
	if ok && at.After(now) {
		return at.Sub(now)
	}
	if r.next == nil {
		r.next = map[subscriptionName]time.Time{}
	}
	if len(r.next) >= maxRates {
		for k, t := range r.next {
			if !t.After(now) {
				delete(r.next, k)
			}
		}
	}
	r.next[s] = now.Add(time.Second / time.Duration(perSecond))
	return 0
}
