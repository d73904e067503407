package arn

import (
	"net/url"
	"strings"
)

// QueueURL is the URL of an SQS queue taken apart.
type QueueURL struct {
	Region  string // empty unless the host is one of AWS's, which tells it
	Account string // empty if only a name was given
	Name    string
}

// ParseQueueURL reads the URL of a queue, http://HOST/[...]ACCOUNT/NAME on any host, or the name of a queue alone. Names are not checked, but have no
// slash and no colon.
func ParseQueueURL(s string) (q QueueURL, ok bool) {
	_, rest, isURL := strings.Cut(s, "://")
	if !isURL {
		return QueueURL{Name: s}, s != "" && !strings.ContainsAny(s, ":/")
	}
	host, path, _ := strings.Cut(rest, "/")
	q.Region = queueRegion(host)
	path, _, _ = strings.Cut(path, "?")
	path = strings.TrimSuffix(path, "/")
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return QueueURL{}, false
	}
	q.Account, q.Name = path[strings.LastIndexByte(path[:i], '/')+1:i], path[i+1:]
	if strings.IndexByte(q.Name, '%') >= 0 {
		var err error
		if q.Name, err = url.PathUnescape(q.Name); err != nil {
			return QueueURL{}, false
		}
	}
	if !IsAccount(q.Account) || q.Name == "" || strings.ContainsAny(q.Name, ":/") {
		return QueueURL{}, false
	}
	return q, true
}

// queueRegion reads the region off sqs.REGION.amazonaws.com and the older REGION.queue.amazonaws.com and queue.amazonaws.com.
func queueRegion(host string) string {
	rest, ok := strings.CutSuffix(host, ".amazonaws.com")
	if !ok {
		return ""
	}
	if rest == "queue" {
		return "us-east-1"
	}
	if region, ok := strings.CutPrefix(rest, "sqs."); ok {
		return region
	}
	region, _ := strings.CutSuffix(rest, ".queue")
	return region
}

// IsAccount reports whether s has the form of an account's id: twelve digits.
func IsAccount(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == 12
}
