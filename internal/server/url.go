package server

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/edge"
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
				out.Stream = res.Stream
			}
			return out, nil
		},
	}, nil
}
