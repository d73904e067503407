package arn

import "strings"

// Function is a Lambda function as a caller names it: any of name, name:qualifier, account:function:name, a full ARN and the
// forms between them. Parts that were not given are empty.
type Function struct {
	Region, Account string
	Name            string
	Qualifier       string // a version number, an alias, $LATEST or $LATEST.PUBLISHED
}

// ParseFunction reads what the pattern of the model's FunctionName and NamespacedFunctionName accepts:
//
//	(arn:(aws[a-zA-Z-]*)?:lambda:)?(region:)?(account:)?(function:)?name(:qualifier)?
//
// Every optional part is taken where it fits, so that "arn:aws:lambda:us-east-1:111122223333:function" is a
// function of the name "function". It does not allocate.
func ParseFunction(s string) (Function, bool) {
	if rest, ok := strings.CutPrefix(s, "arn:"); ok {
		partition, rest, ok := strings.Cut(rest, ":")
		if after, isLambda := strings.CutPrefix(rest, "lambda:"); ok && isLambda && validPartition(partition) {
			if r, ok := parseFunctionAfter(after, regionPart); ok {
				return r, true
			}
		}
	}
	return parseFunctionAfter(s, regionPart)
}

// part numbers the optional parts before a name.
type part int

const (
	regionPart part = iota
	accountPart
	functionPart
	namePart
)

func parseFunctionAfter(s string, p part) (Function, bool) {
	head, tail, more := strings.Cut(s, ":")
	switch p {
	case namePart:
		if !validName(head) || more && !validQualifierPart(tail) {
			return Function{}, false
		}
		return Function{Name: head, Qualifier: tail}, true
	case regionPart:
		if more && validRegion(head) {
			if r, ok := parseFunctionAfter(tail, p+1); ok {
				r.Region = head
				return r, true
			}
		}
	case accountPart:
		if more && validAccount(head) {
			if r, ok := parseFunctionAfter(tail, p+1); ok {
				r.Account = head
				return r, true
			}
		}
	case functionPart:
		if more && head == "function" {
			if r, ok := parseFunctionAfter(tail, p+1); ok {
				return r, true
			}
		}
	}
	return parseFunctionAfter(s, p+1)
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
	return s == "$LATEST" || s == "$LATEST.PUBLISHED" || s != "" && all(s, wordByte)
}

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
