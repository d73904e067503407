package server

import (
	"bytes"
	"context"
	"net/http"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/lang/httpevent"
)

// urls gives the edge the URLs of functions.
type urls struct{ server *Server }

// Find implements edge.FunctionURLs.
func (u urls) Find(ctx context.Context, id string) (*edge.FunctionURL, error) {
	functions := u.server.core.Load().lambda
	found, err := functions.URL(ctx, id)
	if err != nil || found == nil {
		return nil, err
	}
	return &edge.FunctionURL{
		Region: found.Region, Signed: found.Signed, Streams: found.Streams, Cors: found.Cors,
		Invoke: func(ctx context.Context, event []byte) (*edge.URLResponse, error) {
			res, err := functions.InvokeURL(ctx, found, event)
			if err != nil {
				return nil, err
			}
			out := &edge.URLResponse{Payload: res.Payload, ContentType: res.ContentType, Failed: res.FunctionError != ""}
			if res.Stream != nil {
				out.Body, out.Close = res.Stream, res.Stream.Close
			}
			if found.Streams && !out.Failed && httpevent.IsStreamType(res.ContentType) {
				err = splitPrelude(out)
			}
			if err != nil {
				if out.Close != nil {
					out.Close()
				}
				return nil, apierr.New("BadGateway", http.StatusBadGateway, "Internal Server Error").Because(err)
			}
			return out, nil
		},
	}, nil
}

// splitPrelude takes the prelude off a response that has one.
func splitPrelude(out *edge.URLResponse) (err error) {
	if out.Body == nil {
		out.Body = bytes.NewReader(out.Payload)
	}
	out.Prelude, out.Body, err = httpevent.SplitPrelude(out.Body)
	return err
}
