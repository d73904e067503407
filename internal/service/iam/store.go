package iam

import (
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// role is the record of one role. Its policies are part of it: AWS allows 20 attached policies and 10,240 characters of
// inline ones, so it stays small.
type role struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"` // AROA...
	Path        string            `json:"path"`
	Trust       string            `json:"trust"`
	Description string            `json:"description,omitempty"`
	MaxSession  int32             `json:"maxSession"` // seconds
	Created     time.Time         `json:"created"`
	Boundary    string            `json:"boundary,omitempty"` // ARN of a managed policy
	Inline      map[string]string `json:"inline,omitempty"`   // policy name to document
	Attached    []string          `json:"attached,omitempty"` // policy ARNs, in order of attachment
	Tags        []tag             `json:"tags,omitempty"`     // in order of creation
}

type tag struct{ Key, Value string }

// policy is the record of one customer-managed policy.
type policy struct {
	Name        string    `json:"name"`
	ID          string    `json:"id"` // ANPA...
	Path        string    `json:"path"`
	Description string    `json:"description,omitempty"`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
	Default     int       `json:"default"` // number of the default version
	Last        int       `json:"last"`    // number of the newest version; numbers are not used again
	Versions    []version `json:"versions"`
	Tags        []tag     `json:"tags,omitempty"`
	Attachments int32     `json:"attachments"` // roles that it is attached to
	Boundaries  int32     `json:"boundaries"`  // roles whose boundary it is
}

type version struct {
	Number   int       `json:"number"`
	Document string    `json:"document"`
	Created  time.Time `json:"created"`
}

// Keys: iam/<account>/role/<name in lower case> and iam/<account>/policy/<name in lower case>. IAM is global: there is no
// region in them.

func roleKey(account, name string) []byte {
	return kv.Key("iam", account, "role", strings.ToLower(name))
}

func roleRange(account string) kv.Range { return kv.Prefix("iam", account, "role") }

func policyKey(account, name string) []byte {
	return kv.Key("iam", account, "policy", strings.ToLower(name))
}

func policyRange(account string) kv.Range { return kv.Prefix("iam", account, "policy") }
