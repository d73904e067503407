package lambda

import (
	"context"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const latest = "$LATEST"

// reference is a function as a caller named it: any of name, name:qualifier, account:function:name, a full ARN and the forms between
// them. Parts that were not given are empty.
type reference struct {
	region, account string
	name            string
	qualifier       string // a version number, an alias or $LATEST
}

// parseReference reads what the pattern of the model's FunctionName and NamespacedFunctionName accepts:
//
//	(arn:(aws[a-zA-Z-]*)?:lambda:)?(region:)?(account:)?(function:)?name(:qualifier)?
//
// Every optional part is taken where it fits, so that "arn:aws:lambda:us-east-1:111122223333:function" is a
// function of the name "function". It does not allocate.
func parseReference(s string) (reference, bool) {
	if rest, ok := strings.CutPrefix(s, "arn:"); ok {
		partition, rest, ok := strings.Cut(rest, ":")
		if after, isLambda := strings.CutPrefix(rest, "lambda:"); ok && isLambda && validPartition(partition) {
			if r, ok := parseAfter(after, regionPart); ok {
				return r, true
			}
		}
	}
	return parseAfter(s, regionPart)
}

// part numbers the optional parts before a name.
type part int

const (
	regionPart part = iota
	accountPart
	functionPart
	namePart
)

func parseAfter(s string, p part) (reference, bool) {
	head, tail, more := strings.Cut(s, ":")
	switch p {
	case namePart:
		if !validName(head) || more && !validQualifierPart(tail) {
			return reference{}, false
		}
		return reference{name: head, qualifier: tail}, true
	case regionPart:
		if more && validRegion(head) {
			if r, ok := parseAfter(tail, p+1); ok {
				r.region = head
				return r, true
			}
		}
	case accountPart:
		if more && validAccount(head) {
			if r, ok := parseAfter(tail, p+1); ok {
				r.account = head
				return r, true
			}
		}
	case functionPart:
		if more && head == "function" {
			if r, ok := parseAfter(tail, p+1); ok {
				return r, true
			}
		}
	}
	return parseAfter(s, p+1)
}

func validPartition(s string) bool {
	rest, ok := strings.CutPrefix(s, "aws")
	return s == "" || ok && all(rest, func(c byte) bool { return letter(c) || c == '-' })
}

// validRegion accepts what AWS's patterns do: us-east-1, us-gov-west-1, us-iso-east-1, eusc-de-east-1.
func validRegion(s string) bool {
	s = strings.TrimPrefix(s, "eusc-")
	n := len(s)
	if n < 6 || !lower(s[0]) || !lower(s[1]) || s[2] != '-' || !digit(s[n-1]) || s[n-2] != '-' {
		return false
	}
	middle := s[3 : n-2]
	if rest, ok := strings.CutPrefix(middle, "gov-"); ok {
		middle = rest
	} else if rest, ok := strings.CutPrefix(middle, "iso"); ok {
		if len(rest) > 1 && lower(rest[0]) && rest[1] == '-' {
			middle = rest[2:]
		} else if len(rest) > 0 && rest[0] == '-' {
			middle = rest[1:]
		}
	}
	return middle != "" && all(middle, lower)
}

func validAccount(s string) bool { return len(s) == 12 && all(s, digit) }

// validName accepts dots too: they are legal in the patterns of most operations, though no function can have one.
func validName(s string) bool {
	return s != "" && all(s, func(c byte) bool { return wordByte(c) || c == '.' })
}

func validQualifierPart(s string) bool {
	return s == latest || s == latest+".PUBLISHED" || s != "" && all(s, wordByte)
}

// isVersion reports whether a qualifier is a version's number; other qualifiers except $LATEST are aliases.
func isVersion(q string) bool { return q != "" && all(q, digit) }

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func digit(c byte) bool    { return '0' <= c && c <= '9' }
func lower(c byte) bool    { return 'a' <= c && c <= 'z' }
func letter(c byte) bool   { return lower(c | 0x20) }
func wordByte(c byte) bool { return letter(c) || digit(c) || c == '-' || c == '_' }

// functionARN is the unqualified ARN of a function.
func functionARN(region, account, name string) string {
	return arn.New("lambda", region, account, "function:"+name).String()
}

// versionNumber reads a published version's number.
func versionNumber(qualifier string) (int64, bool) {
	n, err := strconv.ParseInt(qualifier, 10, 64)
	return n, err == nil && n > 0 && isVersion(qualifier)
}

// scopeOf is the account and region of the call that ctx belongs to.
func scopeOf(ctx context.Context) scope {
	info := call.From(ctx)
	return scope{info.Account, info.Region}
}

// locate reads the FunctionName and Qualifier of a call to an operation. Functions can only be reached in the caller's own region
// and, as there are no resource policies yet, account.
func locate(ctx context.Context, operation string, name, qualifier *string) (scope, reference, error) {
	c := scopeOf(ctx)
	var given string
	assign(&given, name)
	ref, ok := parseReference(given)
	if !ok {
		return c, ref, apierr.New("ValidationException", 400,
			"1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s",
			given, `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`)
	}
	if ref.region != "" && ref.region != c.region {
		return c, ref, lambdaapi.ErrResourceNotFoundException("Functions from '%s' are not reachable in this region ('%s')", ref.region, c.region)
	}
	if ref.account != "" && ref.account != c.account {
		return c, ref, apierr.New("AccessDeniedException", 403,
			"User: %s is not authorized to perform: lambda:%s on resource: %s because no resource-based policy allows the lambda:%s action",
			call.From(ctx).Principal.ARN, operation, scope{ref.account, c.region}.qualifiedARN(ref.name, ref.qualifier), operation)
	}
	if qualifier != nil && *qualifier != "" {
		if ref.qualifier != "" && ref.qualifier != *qualifier {
			return c, ref, lambdaapi.ErrInvalidParameterValueException("The derived qualifier from the function name does not match the specified qualifier.")
		}
		ref.qualifier = *qualifier
	}
	return c, ref, nil
}

// locateUnqualified is locate for operations that only $LATEST has. A qualifier of $LATEST is the same as none.
func locateUnqualified(ctx context.Context, operation string, name *string) (scope, reference, error) {
	c, ref, err := locate(ctx, operation, name, nil)
	if err == nil && ref.qualifier == latest {
		ref.qualifier = ""
	}
	if err == nil && ref.qualifier != "" {
		err = lambdaapi.ErrInvalidParameterValueException(
			"This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.")
	}
	return c, ref, err
}

func errNoFunction(arn string) error {
	return lambdaapi.ErrResourceNotFoundException("Function not found: %s", arn)
}

// find reads the version that a qualifier names; an alias with two versions gives its first.
func (c scope) find(r kv.Reader, name, qualifier string) (*version, error) {
	number, isNumber := versionNumber(qualifier)
	if qualifier != "" && qualifier != latest && !isNumber {
		a, err := getAlias(r, c, name, qualifier)
		if err != nil {
			return nil, err
		}
		if a == nil {
			return nil, errNoFunction(c.qualifiedARN(name, qualifier))
		}
		number = a.Version
	}
	v, err := getVersion(r, c, name, number)
	if err == nil && v == nil {
		err = errNoFunction(c.qualifiedARN(name, qualifier))
	}
	return v, err
}

// lookup is find in a snapshot of its own.
func (s *Service) lookup(ctx context.Context, c scope, ref reference) (v *version, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		v, err = c.find(r, ref.name, ref.qualifier)
		return err
	})
	return v, err
}
