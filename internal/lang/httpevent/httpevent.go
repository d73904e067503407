// Package httpevent is the language in which HTTP requests reach functions and functions answer them: payload format 2.0, of
// function URLs and HTTP APIs. Source: the developer guides of AWS Lambda (function URLs) and API Gateway (HTTP APIs).
package httpevent

import (
	"encoding/base64"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
)

// Request is a request to a function URL.
type Request struct {
	Method   string
	RawPath  string // as sent, with its percent-encoding
	RawQuery string // as sent
	Protocol string // "HTTP/1.1"
	Header   map[string][]string
	Body     []byte

	URLID      string
	DomainName string
	Account    string // of the caller; empty for nobody in particular
	SourceIP   string
	UserAgent  string
	RequestID  string
	Time       time.Time
	IAM        *IAM // who signed; nil if nobody had to
}

// IAM is who signed a request, as the event tells it.
type IAM struct {
	AccessKey       string  `json:"accessKey"`
	AccountID       string  `json:"accountId"`
	CallerID        string  `json:"callerId"`
	CognitoIdentity *string `json:"cognitoIdentity"`
	PrincipalOrgID  *string `json:"principalOrgId"`
	UserARN         string  `json:"userArn"`
	UserID          string  `json:"userId"`
}

type event struct {
	Version  string            `json:"version"`
	RouteKey string            `json:"routeKey"`
	RawPath  string            `json:"rawPath"`
	RawQuery string            `json:"rawQueryString"`
	Cookies  []string          `json:"cookies,omitempty"`
	Headers  map[string]string `json:"headers"`
	Query    map[string]string `json:"queryStringParameters,omitempty"`
	Context  requestContext    `json:"requestContext"`
	Body     *string           `json:"body,omitempty"`
	Base64   bool              `json:"isBase64Encoded"`
}

type requestContext struct {
	AccountID      string      `json:"accountId"`
	APIID          string      `json:"apiId"`
	Authentication *string     `json:"authentication"`
	Authorizer     *authorizer `json:"authorizer,omitempty"`
	DomainName     string      `json:"domainName"`
	DomainPrefix   string      `json:"domainPrefix"`
	HTTP           httpContext `json:"http"`
	RequestID      string      `json:"requestId"`
	RouteKey       string      `json:"routeKey"`
	Stage          string      `json:"stage"`
	Time           string      `json:"time"`
	TimeEpoch      int64       `json:"timeEpoch"`
}

type authorizer struct {
	IAM *IAM `json:"iam"`
}

type httpContext struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// Event returns the event as JSON. What is not UTF-8 in headers and query is replaced.
func (r *Request) Event() []byte {
	const all = "$default"
	e := event{Version: "2.0", RouteKey: all, RawPath: r.RawPath, RawQuery: r.RawQuery, Headers: map[string]string{}, Query: query(r.RawQuery)}
	for name, values := range r.Header {
		if name = strings.ToLower(name); name == "cookie" {
			for _, v := range values {
				for c := range strings.SplitSeq(v, ";") {
					if c = strings.TrimSpace(c); c != "" {
						e.Cookies = append(e.Cookies, c)
					}
				}
			}
			continue
		}
		e.Headers[name] = strings.Join(values, ",")
	}
	e.Context = requestContext{
		AccountID: r.Account, APIID: r.URLID, DomainName: r.DomainName, DomainPrefix: r.URLID,
		HTTP:      httpContext{r.Method, r.RawPath, r.Protocol, r.SourceIP, r.UserAgent},
		RequestID: r.RequestID, RouteKey: all, Stage: all,
		Time: r.Time.UTC().Format("02/Jan/2006:15:04:05 +0000"), TimeEpoch: r.Time.UnixMilli(),
	}
	if r.Account == "" {
		e.Context.AccountID = "anonymous"
	}
	if r.IAM != nil {
		e.Context.Authorizer = &authorizer{r.IAM}
	}
	if len(r.Body) > 0 {
		body := string(r.Body)
		if e.Base64 = !r.isText(); e.Base64 {
			body = base64.StdEncoding.EncodeToString(r.Body)
		}
		e.Body = &body
	}
	b, err := json.Marshal(e, json.Deterministic(true), allowInvalid)
	if err != nil {
		panic(err) // strings, numbers and maps of strings
	}
	return b
}

// isText reports whether the body goes into the event as it is.
func (r *Request) isText() bool {
	if !utf8.Valid(r.Body) {
		return false
	}
	kind, encoded := "", false
	for name, values := range r.Header {
		switch {
		case strings.EqualFold(name, "Content-Type"):
			kind = strings.ToLower(strings.Join(values, ","))
		case strings.EqualFold(name, "Content-Encoding"):
			encoded = strings.Join(values, "") != "" && !strings.EqualFold(values[0], "identity")
		}
	}
	kind, _, _ = strings.Cut(kind, ";")
	if encoded {
		return false
	}
	for _, text := range []string{"text", "json", "xml", "javascript"} {
		if strings.Contains(kind, text) {
			return true
		}
	}
	return false
}

// query decodes a query; what is given more than once is joined with commas, and what cannot be decoded stays as it is.
func query(raw string) map[string]string {
	var all map[string]string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if all == nil {
			all = map[string]string{}
		}
		if have, ok := all[name]; ok {
			value = have + "," + value
		}
		all[name] = value
	}
	return all
}

func unescape(s string) string {
	if t, err := url.QueryUnescape(s); err == nil {
		return t
	}
	return s
}
