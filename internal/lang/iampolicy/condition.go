package iampolicy

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// operator is a condition operator in its parts.
type operator struct {
	family   family
	compare  compare // of Numeric and Date
	negated  bool
	ifExists bool
	set      set
}

type family uint8

const (
	stringEquals family = iota
	stringFold          // IgnoreCase
	stringLike
	numeric
	date
	boolean
	binary
	ipAddress
	arnLike // ArnEquals is the same
	null
)

type compare uint8

const (
	equal compare = iota
	less
	lessEqual
	greater
	greaterEqual
)

func (o compare) holds(order int) bool {
	switch o {
	case less:
		return order < 0
	case lessEqual:
		return order <= 0
	case greater:
		return order > 0
	case greaterEqual:
		return order >= 0
	}
	return order == 0
}

type set uint8

const (
	single set = iota
	forAll     // ForAllValues:
	forAny     // ForAnyValue:
)

// parseOperator reads the name of an operator, which is case-sensitive.
func parseOperator(s string) (o operator, ok bool) {
	if rest, cut := strings.CutPrefix(s, "ForAllValues:"); cut {
		o.set, s = forAll, rest
	} else if rest, cut := strings.CutPrefix(s, "ForAnyValue:"); cut {
		o.set, s = forAny, rest
	}
	s, o.ifExists = strings.CutSuffix(s, "IfExists")
	switch s {
	case "StringEquals":
		o.family = stringEquals
	case "StringNotEquals":
		o.family, o.negated = stringEquals, true
	case "StringEqualsIgnoreCase":
		o.family = stringFold
	case "StringNotEqualsIgnoreCase":
		o.family, o.negated = stringFold, true
	case "StringLike":
		o.family = stringLike
	case "StringNotLike":
		o.family, o.negated = stringLike, true
	case "Bool":
		o.family = boolean
	case "BinaryEquals":
		o.family = binary
	case "IpAddress":
		o.family = ipAddress
	case "NotIpAddress":
		o.family, o.negated = ipAddress, true
	case "ArnEquals", "ArnLike":
		o.family = arnLike
	case "ArnNotEquals", "ArnNotLike":
		o.family, o.negated = arnLike, true
	case "Null":
		o.family = null
		return o, !o.ifExists
	default:
		var rest string
		if rest, ok = strings.CutPrefix(s, "Numeric"); ok {
			o.family = numeric
		} else if rest, ok = strings.CutPrefix(s, "Date"); ok {
			o.family = date
		} else {
			return o, false
		}
		switch rest {
		case "Equals":
		case "NotEquals":
			o.negated = true
		case "LessThan":
			o.compare = less
		case "LessThanEquals":
			o.compare = lessEqual
		case "GreaterThan":
			o.compare = greater
		case "GreaterThanEquals":
			o.compare = greaterEqual
		default:
			return o, false
		}
	}
	return o, true
}

// valid reports whether a value of a policy can be compared by the operator.
func (o operator) valid(s string) bool {
	switch o.family {
	case numeric:
		_, ok := parseNumber(s)
		return ok
	case date:
		_, ok := parseDate(s)
		return ok
	case binary:
		_, err := base64.StdEncoding.DecodeString(s)
		return err == nil
	case ipAddress:
		_, ok := parsePrefix(s)
		return ok
	case boolean, null:
		return strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
	}
	return true
}

// condition is one key of one operator with its values.
type condition struct {
	operator
	name   string // of operator and key, as the policy has them
	key    string // in lower case
	values []value
}

// value is one value of a condition, of which the operator's family says what is set.
type value struct {
	pattern pattern // the string families, boolean and binary
	arn     arnPattern
	number  number
	date    time.Time
	prefix  netip.Prefix
	bad     bool // not a value of this operator: matches nothing
}

func compileCondition(o operator, key string, values []string, variables bool) condition {
	c := condition{operator: o, key: lower(key), values: make([]value, len(values))}
	for i, s := range values {
		v := &c.values[i]
		ok := true
		switch o.family {
		case stringEquals:
			v.pattern = compilePattern(s, syntax{variables: variables})
		case stringFold:
			v.pattern = compilePattern(strings.ToLower(s), syntax{variables: variables, fold: true})
		case boolean, null:
			v.pattern = compilePattern(s, syntax{variables: variables, fold: true})
		case stringLike:
			v.pattern = compilePattern(s, syntax{wildcards: true, variables: variables})
		case binary:
			v.pattern = pattern{shape: exact, text: s}
			ok = o.valid(s)
		case arnLike:
			v.arn = compileARN(s, variables)
		case numeric:
			v.number, ok = parseNumber(s)
		case date:
			v.date, ok = parseDate(s)
		case ipAddress:
			v.prefix, ok = parsePrefix(s)
		}
		v.bad = !ok
	}
	return c
}

// holds reports whether the condition is met. Where a value of the policy cannot be read, or has a variable that the
// request does not have, it matches nothing; a negated operator would then let an Allow through, so it fails closed.
func (c *condition) holds(ctx Context, deny bool) bool {
	var have []string
	present := false
	if ctx != nil {
		have, present = ctx.Values(c.key)
	}
	if c.family == null {
		absent := !present || len(have) == 0
		return slices.ContainsFunc(c.values, func(v value) bool { return v.null() == absent })
	}
	if !present && c.ifExists {
		return true
	}
	if c.negated && !deny && !c.resolves(ctx) {
		return false
	}
	empty := !present || len(have) == 0 || len(have) == 1 && have[0] == ""
	switch {
	case c.set == forAll:
		if !empty {
			for _, s := range have {
				if c.matches(s, ctx) == c.negated {
					return false
				}
			}
		}
		return true
	case c.set == forAny:
		if !empty {
			for _, s := range have {
				if c.matches(s, ctx) != c.negated {
					return true
				}
			}
		}
		return false
	}
	for _, s := range have {
		if c.matches(s, ctx) {
			return !c.negated
		}
	}
	return c.negated
}

// resolves reports whether every value of the policy has a meaning for this request.
func (c *condition) resolves(ctx Context) bool {
	for i := range c.values {
		v := &c.values[i]
		if v.bad || c.family == arnLike && !v.arn.resolves(ctx) || c.family != arnLike && !v.pattern.resolves(ctx) {
			return false
		}
	}
	return true
}

// matches reports whether a value of the request matches any of the policy.
func (c *condition) matches(s string, ctx Context) bool {
	switch c.family {
	case arnLike:
		for i := range c.values {
			if c.values[i].arn.match(s, ctx) {
				return true
			}
		}
	case numeric:
		n, ok := parseNumber(s)
		for i := range c.values {
			if v := &c.values[i]; ok && !v.bad && c.compare.holds(n.cmp(v.number)) {
				return true
			}
		}
	case date:
		d, ok := parseDate(s)
		for i := range c.values {
			if v := &c.values[i]; ok && !v.bad && c.compare.holds(d.Compare(v.date)) {
				return true
			}
		}
	case ipAddress:
		a, err := netip.ParseAddr(s)
		for i := range c.values {
			if v := &c.values[i]; err == nil && !v.bad && v.prefix.Contains(a.Unmap().WithZone("")) {
				return true
			}
		}
	case stringFold:
		for i := range c.values {
			if v := &c.values[i]; v.pattern.shape == exact && strings.EqualFold(v.pattern.text, s) || v.pattern.match(s, ctx) {
				return true
			}
		}
	default:
		for i := range c.values {
			if v := &c.values[i]; !v.bad && v.pattern.match(s, ctx) {
				return true
			}
		}
	}
	return false
}

// number is a decimal. Whole ones are compared exactly.
type number struct {
	whole   int64
	isWhole bool
	real    float64
}

func parseNumber(s string) (number, bool) {
	if s == "" || len(s) > 64 || strings.Trim(s, "+-.0123456789eE") != "" { // neither hexadecimal nor NaN nor Inf
		return number{}, false
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return number{whole: i, isWhole: true, real: float64(i)}, true
	}
	f, err := strconv.ParseFloat(s, 64)
	return number{real: f}, err == nil
}

func (n number) cmp(m number) int {
	switch {
	case n.isWhole && m.isWhole && n.whole != m.whole:
		if n.whole < m.whole {
			return -1
		}
		return 1
	case n.isWhole && m.isWhole || n.real == m.real:
		return 0
	case n.real < m.real:
		return -1
	}
	return 1
}

// parseDate reads the W3C forms of ISO 8601, and seconds since 1970 where there is neither a dash nor a T.
func parseDate(s string) (time.Time, bool) {
	if strings.Trim(s, "0123456789.") == "" {
		seconds, fraction, _ := strings.Cut(s, ".")
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || strings.Contains(fraction, ".") {
			return time.Time{}, false
		}
		nanos := int64(0)
		for i := range 9 {
			nanos *= 10
			if i < len(fraction) {
				nanos += int64(fraction[i] - '0')
			}
		}
		return time.Unix(n, nanos).UTC(), true
	}
	local, zoned := s, false
	if n := len(s); strings.HasSuffix(s, "Z") {
		local, zoned = s[:n-1], true
	} else if n > len("2006-01-02T15:04") && (s[n-6] == '+' || s[n-6] == '-') {
		local, zoned = s[:n-6], true
	}
	layout := "2006-01-02T15:04:05"
	switch len(local) {
	case len("2006-01"):
		layout = "2006-01"
	case len("2006-01-02"):
		layout = "2006-01-02"
	case len("2006-01-02T15:04"):
		layout = "2006-01-02T15:04"
	}
	if zoned { // otherwise it is UTC
		switch len(layout) {
		case len("2006-01-02T15:04"):
			layout = "2006-01-02T15:04Z07:00"
		case len("2006-01-02T15:04:05"):
			layout = time.RFC3339
		default:
			return time.Time{}, false
		}
	}
	t, err := time.Parse(layout, s)
	return t, err == nil
}

// parsePrefix reads a CIDR or one address.
func parsePrefix(s string) (netip.Prefix, bool) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return netip.Prefix{}, false
		}
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// null is what a value of the operator Null asks for: that the key be absent.
func (v *value) null() bool { return v.pattern.text == "true" }
