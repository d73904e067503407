package lambda

import (
	"context"
	"strconv"

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

func parseReference(s string) (reference, bool) {
	f, ok := arn.ParseFunction(s)
	return reference{f.Region, f.Account, f.Name, f.Qualifier}, ok
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

func digit(c byte) bool  { return '0' <= c && c <= '9' }
func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

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

// acrossAccounts reports whether an operation reaches functions of other accounts, if their policies let it. Source: Lambda's list of cross-account
// operations.
func acrossAccounts(operation string) bool {
	switch operation {
	case "InvokeFunction", "GetFunction", "GetFunctionConfiguration", "UpdateFunctionCode", "DeleteFunction", "PublishVersion", "ListVersionsByFunction",
		"CreateAlias", "GetAlias", "UpdateAlias", "DeleteAlias", "ListAliases":
		return true
	}
	return false
}

// locate reads the FunctionName and Qualifier of a call to an operation. Functions can only be reached in the caller's own region.
// The gate has asked the policy of a function of another account.
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
	if ref.account != "" && acrossAccounts(operation) {
		c.account = ref.account
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
