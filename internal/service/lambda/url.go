package lambda

import (
	"context"
	"crypto/rand"
	"net"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const urlKind = "url"

// functionURL is the URL of a function or an alias.
type functionURL struct {
	ID       string          `json:"id"`
	Auth     string          `json:"auth"`           // NONE or AWS_IAM
	Mode     string          `json:"mode,omitempty"` // BUFFERED, also if empty, or RESPONSE_STREAM
	Cors     *lambdaapi.Cors `json:"cors,omitempty"`
	Created  string          `json:"created"`
	Modified string          `json:"modified"`
}

// urlOwner is what a URL leads to.
type urlOwner struct {
	Account   string `json:"account"`
	Region    string `json:"region"`
	Function  string `json:"function"`
	Qualifier string `json:"qualifier,omitempty"` // an alias
}

// newURLID returns 32 random letters and digits, as AWS has them.
func newURLID() string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, 32)
	rand.Read(b)
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b)
}

const urlTime = "2006-01-02T15:04:05.000000Z"

// urlAddress is the URL for the caller of ctx: at the host and port that it used. Addresses have no subdomains, so that "localhost" stands for
// them, which every name below it leads to.
func urlAddress(ctx context.Context, c scope, id string) string {
	host, port, err := net.SplitHostPort(call.From(ctx).Host)
	if err != nil {
		host, port = call.From(ctx).Host, ""
	}
	if host == "" || net.ParseIP(strings.Trim(host, "[]")) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".amazonaws.com") {
		host = "localhost"
	}
	if port != "" {
		host += ":" + port
	}
	return "http://" + id + ".lambda-url." + c.region + "." + host + "/"
}

// locateURL finds the function or alias of a call. The pattern of the qualifier leaves aliases only.
func locateURL(ctx context.Context, operation string, name, qualifier *string) (scope, reference, error) {
	c, ref, err := locate(ctx, operation, name, qualifier)
	if err == nil && (ref.qualifier == latest || isVersion(ref.qualifier)) {
		err = lambdaapi.ErrInvalidParameterValueException("Function URLs are supported on a function or an alias only, not on %s.", ref.qualifier)
	}
	return c, ref, err
}

// urlHolder checks that what a URL leads to exists.
func (c scope) urlHolder(r kv.Reader, ref reference) error {
	f, err := getFunction(r, c, ref.name)
	if err == nil && f != nil && ref.qualifier != "" {
		var a *alias
		if a, err = getAlias(r, c, ref.name, ref.qualifier); a == nil {
			f = nil
		}
	}
	if err == nil && f == nil {
		err = lambdaapi.ErrResourceNotFoundException("Function does not exist")
	}
	return err
}

func (c scope) findURL(r kv.Reader, ref reference) (*functionURL, error) {
	u, err := get[functionURL](r, c.hangingKey(ref.name, ref.qualifier, urlKind))
	if err == nil && u == nil {
		err = lambdaapi.ErrResourceNotFoundException("The resource you requested does not exist.")
	}
	return u, err
}

func (s *Service) createFunctionURLConfig(ctx context.Context, in *lambdaapi.CreateFunctionUrlConfigInput) (*lambdaapi.CreateFunctionUrlConfigOutput, error) {
	c, ref, err := locateURL(ctx, "CreateFunctionUrlConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	now := s.now().Format(urlTime)
	u := &functionURL{ID: newURLID(), Auth: deref(in.AuthType), Mode: deref(in.InvokeMode), Cors: given(in.Cors), Created: now, Modified: now}
	resource := c.qualifiedARN(ref.name, ref.qualifier)
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if err := c.urlHolder(tx, ref); err != nil {
			return err
		}
		old, err := get[functionURL](tx, c.hangingKey(ref.name, ref.qualifier, urlKind))
		if err != nil {
			return err
		}
		if old != nil {
			return lambdaapi.ErrResourceConflictException(
				"Failed to create function url config for [functionArn = %s]. Error message:  FunctionUrlConfig exists for this Lambda function", resource)
		}
		if err := kv.SetJSON(tx, urlKey(u.ID), urlOwner{c.account, c.region, ref.name, ref.qualifier}); err != nil {
			return err
		}
		return c.hang(tx, ref.name, ref.qualifier, urlKind, u)
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.CreateFunctionUrlConfigOutput{
		FunctionUrl: new(urlAddress(ctx, c, u.ID)), FunctionArn: &resource, AuthType: &u.Auth, Cors: u.Cors, CreationTime: &u.Created, InvokeMode: optional(&u.Mode),
	}, nil
}

// given is a Cors that says anything.
func given(c *lambdaapi.Cors) *lambdaapi.Cors {
	if c == nil || c.AllowCredentials == nil && c.MaxAge == nil && len(c.AllowHeaders)+len(c.AllowMethods)+len(c.AllowOrigins)+len(c.ExposeHeaders) == 0 {
		return nil
	}
	return c
}

func (c scope) describeURL(ctx context.Context, ref reference, u *functionURL) *lambdaapi.FunctionUrlConfig {
	mode := lambdaapi.InvokeModeBuffered
	if u.Mode != "" {
		mode = u.Mode
	}
	return &lambdaapi.FunctionUrlConfig{
		FunctionUrl: new(urlAddress(ctx, c, u.ID)), FunctionArn: new(c.qualifiedARN(ref.name, ref.qualifier)), AuthType: &u.Auth, Cors: u.Cors,
		CreationTime: &u.Created, LastModifiedTime: &u.Modified, InvokeMode: &mode,
	}
}

func (s *Service) getFunctionURLConfig(ctx context.Context, in *lambdaapi.GetFunctionUrlConfigInput) (*lambdaapi.GetFunctionUrlConfigOutput, error) {
	c, ref, err := locateURL(ctx, "GetFunctionUrlConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	var u *functionURL
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		u, err = c.findURL(r, ref)
		return err
	})
	if err != nil {
		return nil, err
	}
	d := c.describeURL(ctx, ref, u)
	return &lambdaapi.GetFunctionUrlConfigOutput{
		FunctionUrl: d.FunctionUrl, FunctionArn: d.FunctionArn, AuthType: d.AuthType, Cors: d.Cors,
		CreationTime: d.CreationTime, LastModifiedTime: d.LastModifiedTime, InvokeMode: d.InvokeMode,
	}, nil
}

func (s *Service) updateFunctionURLConfig(ctx context.Context, in *lambdaapi.UpdateFunctionUrlConfigInput) (*lambdaapi.UpdateFunctionUrlConfigOutput, error) {
	c, ref, err := locateURL(ctx, "UpdateFunctionUrlConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	var u *functionURL
	err = s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if err := c.urlHolder(tx, ref); err != nil {
			return err
		}
		if u, err = c.findURL(tx, ref); err != nil {
			return err
		}
		assign(&u.Auth, in.AuthType)
		assign(&u.Mode, in.InvokeMode)
		if in.Cors != nil {
			u.Cors = given(in.Cors)
		}
		u.Modified = s.now().Format(urlTime)
		return c.hang(tx, ref.name, ref.qualifier, urlKind, u)
	})
	if err != nil {
		return nil, err
	}
	d := c.describeURL(ctx, ref, u)
	return &lambdaapi.UpdateFunctionUrlConfigOutput{
		FunctionUrl: d.FunctionUrl, FunctionArn: d.FunctionArn, AuthType: d.AuthType, Cors: d.Cors,
		CreationTime: d.CreationTime, LastModifiedTime: d.LastModifiedTime, InvokeMode: optional(&u.Mode), // as AWS, only if it was ever given
	}, nil
}

func (s *Service) deleteFunctionURLConfig(ctx context.Context, in *lambdaapi.DeleteFunctionUrlConfigInput) (*lambdaapi.DeleteFunctionUrlConfigOutput, error) {
	c, ref, err := locateURL(ctx, "DeleteFunctionUrlConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		u, err := c.findURL(tx, ref)
		if err != nil {
			return err
		}
		tx.Delete(urlKey(u.ID))
		tx.Delete(c.hangingKey(ref.name, ref.qualifier, urlKind))
		return nil
	})
}

// listFunctionURLConfigs lists the URLs of a function and its aliases. There are as many as aliases at most, with other rows between them, so that
// a page is cut from all.
func (s *Service) listFunctionURLConfigs(ctx context.Context, in *lambdaapi.ListFunctionUrlConfigsInput) (*lambdaapi.ListFunctionUrlConfigsOutput, error) {
	c, ref, err := locateUnqualified(ctx, "ListFunctionUrlConfigs", in.FunctionName)
	if err != nil {
		return nil, err
	}
	limit := maxPage
	if in.MaxItems != nil {
		limit = min(limit, int(*in.MaxItems))
	}
	out := &lambdaapi.ListFunctionUrlConfigsOutput{FunctionUrlConfigs: []lambdaapi.FunctionUrlConfig{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if err := c.urlHolder(r, reference{name: ref.name}); err != nil {
			return err
		}
		marker := deref(in.Marker) // the qualifier of the last one, after a "."
		for e, err := range r.Scan(c.hanging(ref.name)) {
			if err != nil {
				return err
			}
			qualifier, kind, err := c.hangingParts(ref.name, e.Key)
			if err != nil {
				return err
			}
			if kind != urlKind || marker != "" && "."+qualifier <= marker {
				continue
			}
			if n := len(out.FunctionUrlConfigs); n == limit {
				_, last, _ := strings.Cut(strings.TrimPrefix(*out.FunctionUrlConfigs[n-1].FunctionArn, c.qualifiedARN(ref.name, "")), ":")
				out.NextMarker = new("." + last)
				return nil
			}
			u, err := get[functionURL](r, e.Key)
			if err != nil {
				return err
			}
			out.FunctionUrlConfigs = append(out.FunctionUrlConfigs, *c.describeURL(ctx, reference{name: ref.name, qualifier: qualifier}, u))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
