package sns

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// retryPolicy says when a delivery that failed is tried again: without delay, then at the least delay, then with growing delays, then at
// the greatest one. Delays are in seconds.
type retryPolicy struct {
	Min      int    `json:"minDelayTarget"`
	Max      int    `json:"maxDelayTarget"`
	Retries  int    `json:"numRetries"`
	AtMax    int    `json:"numMaxDelayRetries"`
	NoDelay  int    `json:"numNoDelayRetries"`
	AtMin    int    `json:"numMinDelayRetries"`
	Function string `json:"backoffFunction"`
}

// AWS's policies ("Amazon SNS message delivery retries" in the developer guide). That of HTTP endpoints is the only one that can be changed.
func httpRetries() retryPolicy {
	return retryPolicy{Min: 20, Max: 20, Retries: 3, Function: "linear"}
}

// callRetries is the policy of queues and functions: 100,015 retries in 23 days.
func callRetries() retryPolicy {
	return retryPolicy{NoDelay: 3, AtMin: 2, Min: 1, Max: 20, AtMax: 100_000, Retries: 100_015, Function: "exponential"}
}

// mailRetries is the policy of mail boxes: 50 retries in 6 hours.
func mailRetries() retryPolicy {
	return retryPolicy{AtMin: 2, Min: 10, Max: 600, AtMax: 38, Retries: 50, Function: "exponential"}
}

// delay returns the wait before a retry, counted from 0, and whether there is one.
func (p *retryPolicy) delay(retry int) (time.Duration, bool) {
	if retry >= p.Retries {
		return 0, false
	}
	growing := max(p.Retries-p.NoDelay-p.AtMin-p.AtMax, 0)
	low, high := float64(p.Min), float64(p.Max)
	seconds := high
	switch {
	case retry < p.NoDelay:
		seconds = 0
	case retry < p.NoDelay+p.AtMin:
		seconds = low
	case retry < p.NoDelay+p.AtMin+growing && growing > 1:
		k, last := float64(retry-p.NoDelay-p.AtMin), float64(growing-1)
		switch p.Function {
		case "arithmetic": // each step is longer than the one before by the same
			seconds = low + (high-low)*k*(k+1)/(last*(last+1))
		case "exponential":
			seconds = low + (high-low)*(math.Exp2(k)-1)/(math.Exp2(last)-1)
		case "geometric":
			seconds = low * math.Pow(high/low, k/last)
		default:
			seconds = low + (high-low)*k/last
		}
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// givenRetries is a retry policy as a user gives it: what is left out has a default.
type givenRetries struct {
	Min      *int    `json:"minDelayTarget,omitempty"`
	Max      *int    `json:"maxDelayTarget,omitempty"`
	Retries  *int    `json:"numRetries,omitempty"`
	AtMax    *int    `json:"numMaxDelayRetries,omitempty"`
	NoDelay  *int    `json:"numNoDelayRetries,omitempty"`
	AtMin    *int    `json:"numMinDelayRetries,omitempty"`
	Function *string `json:"backoffFunction,omitempty"`
}

type givenThrottle struct {
	PerSecond *int `json:"maxReceivesPerSecond,omitempty"`
}

type givenRequest struct {
	ContentType *string `json:"headerContentType,omitempty"`
}

// topicDelivery is the attribute DeliveryPolicy of a topic, which always tells whether its subscriptions may have policies of their own.
type topicDelivery struct {
	HTTP struct {
		Retries       *givenRetries  `json:"defaultHealthyRetryPolicy,omitempty"`
		Sickly        *givenRetries  `json:"defaultSicklyRetryPolicy,omitempty"`
		NoOverrides   bool           `json:"disableSubscriptionOverrides"`
		Throttle      *givenThrottle `json:"defaultThrottlePolicy,omitempty"`
		Request       *givenRequest  `json:"defaultRequestPolicy,omitempty"`
		GuaranteedOld *bool          `json:"guaranteed,omitempty"`
	} `json:"http"`
}

// subscriptionDelivery is that of a subscription.
type subscriptionDelivery struct {
	Retries    *givenRetries  `json:"healthyRetryPolicy,omitempty"`
	Sickly     *givenRetries  `json:"sicklyRetryPolicy,omitempty"`
	Throttle   *givenThrottle `json:"throttlePolicy,omitempty"`
	Request    *givenRequest  `json:"requestPolicy,omitempty"`
	Guaranteed *bool          `json:"guaranteed,omitempty"`
}

// maxBackOff is how long all the retries of an HTTP endpoint may take.
const maxBackOff = time.Hour

func strictly(text string, into any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return fmt.Errorf("Unexpected JSON member: %s", strings.Trim(field, `"`))
		}
		return errors.New("failed to parse JSON.")
	}
	if dec.More() {
		return errors.New("failed to parse JSON.")
	}
	return nil
}

func parseTopicDeliveryPolicy(text string) (d topicDelivery, err error) {
	if text == "" {
		return d, nil
	}
	if err := strictly(text, &d); err != nil {
		return d, err
	}
	return d, checkDelivery("http.defaultHealthyRetryPolicy", d.HTTP.Retries, d.HTTP.Throttle, d.HTTP.Request)
}

func parseSubscriptionDeliveryPolicy(text string) (d subscriptionDelivery, err error) {
	if text == "" {
		return d, nil
	}
	if err := strictly(text, &d); err != nil {
		return d, err
	}
	return d, checkDelivery("healthyRetryPolicy", d.Retries, d.Throttle, d.Request)
}

// contentTypes are those that a request policy may choose.
var contentTypes = map[string]bool{
	"application/atom+xml": true, "application/http": true, "application/json": true, "application/octet-stream": true, "application/soap+xml": true,
	"application/x-www-form-urlencoded": true, "application/xhtml+xml": true, "application/xml": true, "text/css": true, "text/csv": true, "text/html": true,
	"text/plain": true, "text/xml": true,
}

func checkDelivery(name string, g *givenRetries, throttle *givenThrottle, request *givenRequest) error {
	if g != nil {
		if err := checkRetries(name, g); err != nil {
			return err
		}
	}
	if throttle != nil && throttle.PerSecond != nil && *throttle.PerSecond < 1 {
		return errors.New("throttlePolicy.maxReceivesPerSecond must be greater than or equal to 1")
	}
	if request != nil && request.ContentType != nil {
		kind, _, _ := strings.Cut(*request.ContentType, ";")
		if !contentTypes[strings.ToLower(strings.TrimSpace(kind))] || strings.ContainsAny(*request.ContentType, "\r\n") {
			return fmt.Errorf("requestPolicy.headerContentType: %s is not a supported content type", *request.ContentType)
		}
	}
	return nil
}

func checkRetries(name string, g *givenRetries) error {
	for _, n := range []struct {
		name     string
		value    *int
		min, max int
	}{
		{"numRetries", g.Retries, 0, 100}, {"numNoDelayRetries", g.NoDelay, 0, 100}, {"numMinDelayRetries", g.AtMin, 0, 100},
		{"numMaxDelayRetries", g.AtMax, 0, 100}, {"minDelayTarget", g.Min, 1, 3600}, {"maxDelayTarget", g.Max, 1, 3600},
	} {
		switch {
		case n.value == nil:
		case *n.value < n.min:
			return fmt.Errorf("%s.%s must be greater than or equal to %d", name, n.name, n.min)
		case *n.value > n.max:
			return fmt.Errorf("%s.%s must be less than or equal to %d", name, n.name, n.max)
		}
	}
	p := httpRetries().with(g)
	switch p.Function {
	case "linear", "arithmetic", "exponential", "geometric":
	default:
		return fmt.Errorf("%s.backoffFunction must be one of: arithmetic, exponential, geometric, linear", name)
	}
	if p.Max < p.Min {
		return fmt.Errorf("%s.maxDelayTarget must be greater than or equal to minDelayTarget", name)
	}
	if p.NoDelay+p.AtMin+p.AtMax > p.Retries {
		return fmt.Errorf("%s.numRetries must be greater than or equal to the sum of numNoDelayRetries, numMinDelayRetries and numMaxDelayRetries", name)
	}
	var total time.Duration
	for i := range p.Retries {
		d, _ := p.delay(i)
		total += d
	}
	if total > maxBackOff {
		return fmt.Errorf("%s: the retries take more than %d seconds", name, int(maxBackOff/time.Second))
	}
	return nil
}

// with returns the policy with what a user gives.
func (p retryPolicy) with(g *givenRetries) retryPolicy {
	if g == nil {
		return p
	}
	set := func(to *int, from *int) {
		if from != nil {
			*to = *from
		}
	}
	set(&p.Min, g.Min)
	set(&p.Max, g.Max)
	set(&p.Retries, g.Retries)
	set(&p.AtMax, g.AtMax)
	set(&p.NoDelay, g.NoDelay)
	set(&p.AtMin, g.AtMin)
	if g.Function != nil {
		p.Function = *g.Function
	}
	return p
}

const plainText = "text/plain; charset=UTF-8"

// effective is the attribute EffectiveDeliveryPolicy of a topic.
func (d *topicDelivery) effective() string {
	var e struct {
		HTTP struct {
			Retries     retryPolicy    `json:"defaultHealthyRetryPolicy"`
			NoOverrides bool           `json:"disableSubscriptionOverrides"`
			Throttle    *givenThrottle `json:"defaultThrottlePolicy,omitempty"`
			Request     givenRequest   `json:"defaultRequestPolicy"`
		} `json:"http"`
	}
	e.HTTP.Retries, e.HTTP.NoOverrides, e.HTTP.Throttle = httpRetries().with(d.HTTP.Retries), d.HTTP.NoOverrides, d.HTTP.Throttle
	e.HTTP.Request.ContentType = new(plainText)
	if d.HTTP.Request != nil && d.HTTP.Request.ContentType != nil {
		e.HTTP.Request = *d.HTTP.Request
	}
	return toJSON(e)
}

// httpDelivery is how messages go to one HTTP endpoint.
type httpDelivery struct {
	retries     retryPolicy
	perSecond   int // 0: no limit
	contentType string
}

// httpDeliveryOf combines the policies of a topic and of a subscription.
func httpDeliveryOf(t, s string) (h httpDelivery, err error) {
	topic, err := parseTopicDeliveryPolicy(t)
	if err != nil {
		return h, err
	}
	own, err := parseSubscriptionDeliveryPolicy(s)
	if err != nil {
		return h, err
	}
	if topic.HTTP.NoOverrides {
		own = subscriptionDelivery{}
	}
	h = httpDelivery{retries: httpRetries().with(topic.HTTP.Retries), contentType: plainText}
	if own.Retries != nil {
		h.retries = httpRetries().with(own.Retries)
	}
	for _, x := range []*givenThrottle{topic.HTTP.Throttle, own.Throttle} {
		if x != nil && x.PerSecond != nil {
			h.perSecond = *x.PerSecond
		}
	}
	for _, x := range []*givenRequest{topic.HTTP.Request, own.Request} {
		if x != nil && x.ContentType != nil {
			h.contentType = *x.ContentType
		}
	}
	return h, nil
}

// effective is the attribute EffectiveDeliveryPolicy of a subscription.
func (h *httpDelivery) effective() string {
	e := struct {
		Retries    retryPolicy    `json:"healthyRetryPolicy"`
		Sickly     *retryPolicy   `json:"sicklyRetryPolicy"`
		Throttle   *givenThrottle `json:"throttlePolicy"`
		Request    givenRequest   `json:"requestPolicy"`
		Guaranteed bool           `json:"guaranteed"`
	}{Retries: h.retries, Request: givenRequest{&h.contentType}}
	if h.perSecond > 0 {
		e.Throttle = &givenThrottle{&h.perSecond}
	}
	return toJSON(e)
}
