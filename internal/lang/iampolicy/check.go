package iampolicy

import (
	"maps"
	"slices"
	"strings"
)

var errLegacy = &Error{"The policy failed legacy parsing"}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// check holds a statement to the grammar of its kind.
func (s *Statement) check(kind Kind) error {
	if s.Effect != "Allow" && s.Effect != "Deny" {
		if s.Effect == "" {
			return &Error{"Missing required field Effect"}
		}
		return &Error{"Invalid effect: " + s.Effect}
	}
	if kind == Identity && strings.ContainsFunc(s.Sid, func(r rune) bool { return !alphanumeric(r) }) {
		return &Error{"Statement IDs (SID) can only contain letters and digits."} // IAM's policies only: others allow more
	}
	if len(s.Action)+len(s.NotAction) == 0 {
		return &Error{"Policy statement must contain actions."}
	}
	if s.Action != nil && s.NotAction != nil || s.Resource != nil && s.NotResource != nil || s.Principal != nil && s.NotPrincipal != nil {
		return errSyntax
	}
	if err := s.checkConditions(); err != nil {
		return err
	}
	for _, a := range slices.Concat(s.Action, s.NotAction) {
		if err := checkAction(a); err != nil {
			return err
		}
	}
	hasPrincipal, hasResource := s.Principal != nil || s.NotPrincipal != nil, len(s.Resource)+len(s.NotResource) > 0
	switch kind {
	case Identity:
		if hasPrincipal {
			return &Error{"Policy document should not specify a principal."}
		}
		if !hasResource {
			return &Error{"Policy statement must contain resources."}
		}
		for _, r := range slices.Concat(s.Resource, s.NotResource) {
			if err := checkResource(r); err != nil {
				return err
			}
		}
		return nil
	case Trust:
		if s.Resource != nil || s.NotResource != nil {
			return &Error{"Has prohibited field Resource"}
		}
		if !hasPrincipal {
			return &Error{"Missing required field Principal"}
		}
		for _, a := range slices.Concat(s.Action, s.NotAction) {
			if !strings.HasPrefix(strings.ToLower(a), "sts:") {
				return &Error{"AssumeRole policy may only specify STS AssumeRole actions."}
			}
		}
	case Resource:
		if !hasPrincipal {
			return &Error{"Missing required field Principal"}
		}
	}
	for _, p := range []*Principal{s.Principal, s.NotPrincipal} {
		if p != nil {
			if err := p.check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkConditions holds operators to those that exist and values to what their operator can compare. A value with a
// variable is left to the evaluation.
func (s *Statement) checkConditions() error {
	for _, name := range slices.Sorted(maps.Keys(s.Condition)) {
		keys := s.Condition[name]
		o, ok := parseOperator(name)
		if !ok && len(keys) > 0 { // an operator without keys asks for nothing
			return errSyntax
		}
		for _, list := range keys {
			for _, v := range list {
				if !strings.Contains(v, "${") && !o.valid(v) {
					return errLegacy
				}
			}
		}
	}
	return nil
}

func checkAction(a string) error {
	if a == "*" {
		return nil
	}
	vendor, name, ok := strings.Cut(a, ":")
	switch {
	case !ok:
		return &Error{"Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."}
	case strings.Contains(name, ":"):
		return &Error{"Actions/Condition can contain only one colon."}
	case vendor == "*" && name == "*": // the same as "*"
		return nil
	case vendor == "" || name == "" || strings.ContainsFunc(vendor, func(r rune) bool { return !alphanumeric(r) && r != '-' && r != '.' }):
		return &Error{"Vendor " + vendor + " is not valid"}
	}
	return nil
}

// partitions are those that AWS has.
var partitions = []string{"*", "aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"}

// iamPaths are the beginnings of the resources of IAM.
var iamPaths = []string{
	"user/", "federated-user/", "role/", "group/", "instance-profile/", "mfa/", "server-certificate/", "policy/",
	"sms-mfa/", "saml-provider/", "oidc-provider/", "report/", "access-report/",
}

// checkResource holds a Resource of an identity policy to the form of an ARN with wildcards and variables.
func checkResource(r string) error {
	if r == "*" || strings.HasPrefix(r, "${") {
		return nil
	}
	parts := strings.SplitN(r, ":", 6)
	if len(parts) == 1 || parts[0] != "arn" && !strings.HasPrefix(r, "*") {
		return &Error{`Resource ` + r + ` must be in ARN format or "*".`}
	}
	if parts[0] != "arn" { // begins with a wildcard
		return nil
	}
	if !slices.Contains(partitions, parts[1]) {
		full := slices.Clone(parts)
		for len(full) < 6 {
			full = append(full, "*")
		}
		return &Error{`Partition "` + parts[1] + `" is not valid for resource "` + strings.Join(full, ":") + `".`}
	}
	if len(parts) < 3 {
		return &Error{"Resource vendor must be fully qualified and cannot contain regexes."}
	}
	if parts[2] == "" {
		return errLegacy
	}
	if strings.ContainsAny(parts[2], "*?") && len(parts) > 3 {
		return &Error{"Resource vendor must be fully qualified and cannot contain regexes."}
	}
	region, resource := "", ""
	if len(parts) > 3 {
		region = parts[3]
	}
	if len(parts) > 5 {
		resource = parts[5]
	}
	switch parts[2] {
	case "iam":
		if region != "" && region != "*" {
			return &Error{"IAM resource " + r + " cannot contain region information."}
		}
		if len(parts) == 6 && !strings.HasPrefix(resource, "*") && resource != "root" && !strings.HasPrefix(resource, "${") &&
			!slices.ContainsFunc(iamPaths, func(p string) bool { return strings.HasPrefix(resource, p) || wild(resource, p) }) {
			return &Error{`IAM resource path must either be "*" or start with ` + strings.Join(iamPaths, ", ") + "."}
		}
	case "s3":
		if region != "" && region != "*" && !strings.HasPrefix(resource, "accesspoint/") {
			return &Error{"Resource " + r + " can not contain region information."}
		}
	}
	return nil
}

// wild reports whether a wildcard stands in the resource before it differs from the path.
func wild(resource, path string) bool {
	i := strings.IndexAny(resource, "*?")
	return i >= 0 && i < len(path) && strings.HasPrefix(path, resource[:i])
}

// check holds what a Principal names to the forms that principals have. Wildcards are none of them.
func (p *Principal) check() error {
	if p.Any {
		return nil
	}
	if len(p.AWS)+len(p.Service)+len(p.Federated)+len(p.CanonicalUser) == 0 {
		return &Error{"Invalid principal in policy"}
	}
	for _, s := range p.AWS {
		if s != "*" && !isAccount(s) && !isUniqueID(s) && !isPrincipalARN(s) {
			return &Error{`Invalid principal in policy: "AWS":"` + s + `"`}
		}
	}
	for _, s := range p.Service {
		if strings.ContainsAny(s, "*? :/") || !strings.Contains(s, ".") {
			return &Error{`Invalid principal in policy: "SERVICE":"` + s + `"`}
		}
	}
	for _, s := range p.Federated {
		if s == "" || strings.ContainsAny(s, "*? ") {
			return &Error{"Federated principals must be valid domain names or SAML metadata ARNs"}
		}
	}
	return nil
}

func isUniqueID(s string) bool {
	return len(s) >= 16 && (strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA")) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') })
}

func isPrincipalARN(s string) bool {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[3] != "" || strings.ContainsAny(s, "*?") {
		return false
	}
	kind, name, _ := strings.Cut(parts[5], "/")
	switch {
	case parts[2] == "cloudfront" && parts[4] == "cloudfront":
		return true // origin access identities
	case !isAccount(parts[4]):
		return false
	case parts[2] == "iam":
		return parts[5] == "root" || (kind == "user" || kind == "role") && name != ""
	case parts[2] == "sts":
		return kind == "federated-user" && name != "" || kind == "assumed-role" && strings.Contains(name, "/")
	}
	return false
}
