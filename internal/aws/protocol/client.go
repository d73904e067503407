package protocol

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// Client performs operations over HTTP, each in the first protocol of its service. It is a smithy.Caller, and safe for concurrent use.
// It does not retry.
type Client struct {
	// Endpoint is the base of every URL: "http://127.0.0.1:4566".
	Endpoint string
	// HTTP is the client to use; nil means http.DefaultClient.
	HTTP *http.Client
	// Sign signs a request whose body is given; nil leaves requests unsigned. signingName is the service for the credential scope.
	Sign func(ctx context.Context, r *http.Request, signingName string, body []byte) error
}

// Call implements smithy.Caller. A failure that the service answers is an *apierr.Error; any other is an error of the transport. A streaming
// output must be closed or ranged over.
func (c *Client) Call(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	codec := CodecFor(op.Service, op.Service.Protocols[0])
	req, err := codec.EncodeRequest(op, in)
	if err != nil {
		return err
	}
	if req.Stream != nil { // a signature covers the body, so that it must be known whole
		req.Body, err = io.ReadAll(req.Stream)
		req.Stream.Close()
		if err != nil {
			return fmt.Errorf("%s: reading the body: %w", op, err)
		}
	}
	u := strings.TrimSuffix(c.Endpoint, "/") + req.Path
	if req.Query != "" {
		u += "?" + req.Query
	}
	if _, err := url.Parse(u); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	hr, err := http.NewRequestWithContext(ctx, req.Method, u, bytes.NewReader(req.Body))
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	hr.Header = req.Header
	if c.Sign != nil {
		if err := c.Sign(ctx, hr, op.Service.SigningName, req.Body); err != nil {
			return fmt.Errorf("%s: signing: %w", op, err)
		}
	}
	hc := c.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	res, err := hc.Do(hr)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	r := &Response{Status: res.StatusCode, Header: res.Header, Reader: res.Body}
	if err := codec.DecodeResponse(op, r, out); err != nil {
		res.Body.Close()
		return err
	}
	return nil
}
