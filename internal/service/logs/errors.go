package logs

import (
	"errors"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/logfilter"
)

func errNoGroup() *apierr.Error {
	return logsapi.ErrResourceNotFoundException("The specified log group does not exist.")
}

func errNoStream() *apierr.Error {
	return logsapi.ErrResourceNotFoundException("The specified log stream does not exist.")
}

func errBadToken() *apierr.Error {
	return logsapi.ErrInvalidParameterException("The specified nextToken is invalid.")
}

// pageError turns the error of a paging marker into AWS's.
func pageError(err error) error {
	if errors.Is(err, kv.ErrMarker) {
		return errBadToken()
	}
	return err
}

// compileFilter compiles a filter pattern that may be missing.
func compileFilter(pattern *string) (*logfilter.Filter, error) {
	f, err := logfilter.Compile(str(pattern))
	if err != nil {
		return nil, logsapi.ErrInvalidParameterException("%s", err.Error()).Because(err)
	}
	return f, nil
}

// str, num and is read optional members: what is missing is empty, def or false.
func str(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func num[T int32 | int64](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

func is(p *bool) bool { return p != nil && *p }

// some returns nil for an empty string, so that the member is left out.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
