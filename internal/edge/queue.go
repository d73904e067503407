package edge

import (
	"net/http"
	"net/url"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
)

// isQueueRequest reports whether a request without a signature is a Query request to the URL of an SQS queue: names of operations alone do not tell
// it from SNS.
func isQueueRequest(r *http.Request) bool {
	_, ok := arn.ParseQueueURL("http://h" + r.URL.EscapedPath())
	return ok && r.Header.Get("X-Amz-Target") == "" && (protocol.NewRequest(r).IsForm() || r.URL.Query().Has("Action"))
}

// nameQueue gives a Query request to SQS that was sent to the URL of a queue the parameter QueueUrl, unless it has that itself. matchErr is that of
// the router. At the URL of a queue there are only the operations on it.
func nameQueue(c *protocol.Call, host string, matchErr error) error {
	if c.Service == nil || c.Service.Name != "sqs" || !protocol.IsQuery(c.Codec) {
		return matchErr
	}
	address := "http://" + host + c.Request.Path
	if _, ok := arn.ParseQueueURL(address); !ok {
		return matchErr
	}
	switch {
	case apierr.Code(matchErr) == "InvalidAction", matchErr == nil && c.Op.Input.Member("QueueUrl") < 0 && c.Op.Name != "GetQueueUrl":
		return apierr.New("InvalidAction", http.StatusBadRequest, "The action %s is not valid for this endpoint.", c.Action())
	case matchErr == nil:
		c.Request.Query += "&QueueUrl=" + url.QueryEscape(address) // what comes first counts
	}
	return matchErr
}
