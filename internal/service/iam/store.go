package iam

import (
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// role is the record of one role. Its policies are part of it: AWS allows 20 attached policies and 10,240 characters of
// inline ones, so it stays small.
type role struct {
	Name        string    `json:"name"`
	ID          string    `json:"id"` // AROA...
	Path        string    `json:"path"`
	Trust       string    `json:"trust"`
	Description string    `json:"description,omitempty"`
	MaxSession  int32     `json:"maxSession"` // seconds
	Created     time.Time `json:"created"`
	Boundary    string    `json:"boundary,omitempty"` // ARN of a managed policy
	Tags        []tag     `json:"tags,omitempty"`     // in order of creation
	Profiles    []string  `json:"profiles,omitempty"` // names of the instance profiles that hold it
	permissions
}

// user is the record of one user.
type user struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"` // AIDA...
	Path     string    `json:"path"`
	Created  time.Time `json:"created"`
	Boundary string    `json:"boundary,omitempty"` // ARN of a managed policy
	Tags     []tag     `json:"tags,omitempty"`
	Groups   []string  `json:"groups,omitempty"` // names, in order of joining
	Keys     []string  `json:"keys,omitempty"`   // ids of access keys, in order of creation
	permissions
}

// group is the record of one group of users.
type group struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"` // AGPA...
	Path    string    `json:"path"`
	Created time.Time `json:"created"`
	Users   []string  `json:"users,omitempty"` // names of its members, in order of joining
	permissions
}

// accessKey is the record of a user's access key. The secret is there in clear: a signature cannot be verified without it.
type accessKey struct {
	ID      string    `json:"id"` // AKIA...
	Secret  string    `json:"secret"`
	Account string    `json:"account"`
	User    string    `json:"user"`
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
}

// instanceProfile is the record of one instance profile.
type instanceProfile struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"` // AIPA...
	Path    string    `json:"path"`
	Created time.Time `json:"created"`
	Role    string    `json:"role,omitempty"` // name; AWS allows one
	Tags    []tag     `json:"tags,omitempty"`
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

// Keys: iam/<account>/<kind>/<name in lower case>, where kind is role, user, group, policy or instance-profile;
// iam/<account>/oidc-provider/<host and path>; iam/<account>/deletion/<task>; iam/<account>/alias; iam.alias/<alias>; and
// iam.key/<id of access key>. IAM is global: there is no region in them.

func roleKey(account, name string) []byte {
	return kv.Key("iam", account, "role", strings.ToLower(name))
}

func roleRange(account string) kv.Range { return kv.Prefix("iam", account, "role") }

func policyKey(account, name string) []byte {
	return kv.Key("iam", account, "policy", strings.ToLower(name))
}

func policyRange(account string) kv.Range { return kv.Prefix("iam", account, "policy") }

func userKey(account, name string) []byte {
	return kv.Key("iam", account, "user", strings.ToLower(name))
}

func userRange(account string) kv.Range { return kv.Prefix("iam", account, "user") }

func groupKey(account, name string) []byte {
	return kv.Key("iam", account, "group", strings.ToLower(name))
}

func groupRange(account string) kv.Range { return kv.Prefix("iam", account, "group") }

func profileKey(account, name string) []byte {
	return kv.Key("iam", account, "instance-profile", strings.ToLower(name))
}

func profileRange(account string) kv.Range { return kv.Prefix("iam", account, "instance-profile") }

func accessKeyKey(id string) []byte { return kv.Key("iam.key", id) }

// oidcProvider is the record of one OpenID Connect provider.
type oidcProvider struct {
	Host        string    `json:"host"`   // and path of the issuer
	Scheme      string    `json:"scheme"` // https, or http for loopback
	ClientIDs   []string  `json:"clientIds,omitempty"`
	Thumbprints []string  `json:"thumbprints,omitempty"`
	Created     time.Time `json:"created"`
	Tags        []tag     `json:"tags,omitempty"`
}

func providerKey(account, host string) []byte { return kv.Key("iam", account, "oidc-provider", host) }

func providerRange(account string) kv.Range { return kv.Prefix("iam", account, "oidc-provider") }

func aliasKey(account string) []byte { return kv.Key("iam", account, "alias") }

func aliasOwnerKey(alias string) []byte { return kv.Key("iam.alias", alias) }

func deletionKey(account, task string) []byte { return kv.Key("iam", account, "deletion", task) }
