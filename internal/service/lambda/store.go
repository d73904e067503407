package lambda

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Keys, all of tuples:
//
//	lambda, account, region, "function", name            function
//	lambda, account, region, "version", name, number     version; 0 is $LATEST
//	lambda, account, region, "alias", name, alias        alias
//	lambda, account, region, "of", name, qualifier, kind what hangs on a function, version or alias; see hangingKey
//	lambda, account, region, "layer", name               layer
//	lambda, account, region, "layer-version", name, number   layerVersion
//	lambda, account, region, "code-signing", id          codeSigning
//	lambda, account, region, "code-signing.use", id, name    empty: this function is bound to it
//	durable, "lambda", ...                               events and deliveries that wait; see package durable
//	lambda.transition, account, region, name, number     empty: this version is Pending or InProgress
//	lambda.url, id                                       urlOwner
//	lambda.reserved, account, region, name               reservation: its reserved concurrency
//	lambda.provisioned, account, region, name, qualifier provisioned: of a version or an alias
//	lambda.mapping, account, region, uuid                mapping: an event source mapping
//	lambda.mapping.of, account, region, source, function uuid of the mapping of that source to that function, both ARNs
//	lambda.mapping.moving, account, region, uuid         empty: this mapping is on the way to another state
//	lambda.archive, digest                               empty: this service has put the blob, or is about to
//	lambda.archive.use, digest, account, region, name, number   empty: this version needs that archive
//	lambda.archive.use, digest, account, region, "layer", name, number   empty: this layer version needs it
const (
	prefix           = "lambda"
	transitionPrefix = "lambda.transition"
	urlPrefix        = "lambda.url"
	archivePrefix    = "lambda.archive"
	usePrefix        = "lambda.archive.use"

	reservedPrefix    = "lambda.reserved"
	provisionedPrefix = "lambda.provisioned"

	mappingPrefix   = "lambda.mapping"
	mappingOfPrefix = "lambda.mapping.of"
	movingPrefix    = "lambda.mapping.moving"
)

// scope is the account and region that a function lives in.
type scope struct{ account, region string }

func (c scope) functionKey(name string) []byte {
	return kv.Key(prefix, c.account, c.region, "function", name)
}

func (c scope) functions() kv.Range { return kv.Prefix(prefix, c.account, c.region, "function") }

func (c scope) versionKey(name string, number int64) []byte {
	return kv.Key(prefix, c.account, c.region, "version", name, number)
}

// versions is the versions of one function, $LATEST first, then by number.
func (c scope) versions(name string) kv.Range {
	return kv.Prefix(prefix, c.account, c.region, "version", name)
}

// allVersions is the versions of all functions, by name.
func (c scope) allVersions() kv.Range { return kv.Prefix(prefix, c.account, c.region, "version") }

func (c scope) aliasKey(name, alias string) []byte {
	return kv.Key(prefix, c.account, c.region, "alias", name, alias)
}

func (c scope) aliases(name string) kv.Range {
	return kv.Prefix(prefix, c.account, c.region, "alias", name)
}

// aliasGuard guards which aliases a function has.
func (c scope) aliasGuard(name string) kv.Guard {
	return kv.GuardFor(prefix, c.account, c.region, "alias", name)
}

// hangingKey is the key of a record that belongs to a function or to one of its qualifiers and goes with it. qualifier is "" for the
// function's own, a version's number or $LATEST, or an alias. Whoever writes a new one reads its function, version or alias in the same transaction and
// calls hang, so that none appears on what is being deleted.
func (c scope) hangingKey(name, qualifier, kind string) []byte {
	return kv.Key(prefix, c.account, c.region, "of", name, qualifier, kind)
}

// hanging is all that hangs on a function and its qualifiers, in the order of qualifiers.
func (c scope) hanging(name string) kv.Range {
	return kv.Prefix(prefix, c.account, c.region, "of", name)
}

// hang writes a record that goes when its function or qualifier goes.
func (c scope) hang(tx kv.Tx, name, qualifier, kind string, v any) error {
	c.hangingGuard(name).Change(tx)
	return kv.SetJSON(tx, c.hangingKey(name, qualifier, kind), v)
}

// unhang removes all that hangs on a qualifier that is being deleted, or on the function and all its qualifiers if that is nil. It is the place for
// whatever else has to go with a function, version or alias: rows elsewhere that lead to it, among others.
func (c scope) unhang(tx kv.Tx, name string, qualifier *string) error {
	rg := c.hanging(name)
	if qualifier != nil {
		rg = kv.Prefix(prefix, c.account, c.region, "of", name, *qualifier)
	}
	for e, err := range tx.Scan(rg) {
		if err != nil {
			return err
		}
		if _, kind, err := c.hangingParts(name, e.Key); err != nil {
			return err
		} else if kind == urlKind {
			u, err := get[functionURL](tx, e.Key)
			if err != nil {
				return err
			}
			tx.Delete(urlKey(u.ID))
		}
		tx.Delete(e.Key)
	}
	return c.hangingGuard(name).Depend(tx)
}

// hangingParts reads the qualifier and kind out of a hangingKey.
func (c scope) hangingParts(name string, key []byte) (qualifier, kind string, err error) {
	err = kv.Decode(key, nil, nil, nil, nil, nil, &qualifier, &kind)
	return qualifier, kind, err
}

// urlKey is the key of what a function URL leads to.
func urlKey(id string) []byte { return kv.Key(urlPrefix, id) }

// hangingGuard guards what hangs on a function.
func (c scope) hangingGuard(name string) kv.Guard {
	return kv.GuardFor(prefix, c.account, c.region, "of", name)
}

func (c scope) transitionKey(name string, number int64) []byte {
	return kv.Key(transitionPrefix, c.account, c.region, name, number)
}

func (c scope) reservedKey(name string) []byte {
	return kv.Key(reservedPrefix, c.account, c.region, name)
}

func (c scope) allReserved() kv.Range { return kv.Prefix(reservedPrefix, c.account, c.region) }

func (c scope) provisionedKey(name, qualifier string) []byte {
	return kv.Key(provisionedPrefix, c.account, c.region, name, qualifier)
}

// provisionedOf is the configurations of one function.
func (c scope) provisionedOf(name string) kv.Range {
	return kv.Prefix(provisionedPrefix, c.account, c.region, name)
}

func (c scope) allProvisioned() kv.Range { return kv.Prefix(provisionedPrefix, c.account, c.region) }

func (c scope) mappingKey(uuid string) []byte {
	return kv.Key(mappingPrefix, c.account, c.region, uuid)
}

func (c scope) mappings() kv.Range { return kv.Prefix(mappingPrefix, c.account, c.region) }

func (c scope) mappingOfKey(source, function string) []byte {
	return kv.Key(mappingOfPrefix, c.account, c.region, source, function)
}

func (c scope) movingKey(uuid string) []byte {
	return kv.Key(movingPrefix, c.account, c.region, uuid)
}

// concurrencyGuard guards which reservations and provisioned configurations there are.
func (c scope) concurrencyGuard() kv.Guard {
	return kv.GuardFor("lambda.concurrency", c.account, c.region)
}

func archiveKey(digest string) []byte { return kv.Key(archivePrefix, digest) }

func (c scope) useKey(digest, name string, number int64) []byte {
	return kv.Key(usePrefix, digest, c.account, c.region, name, number)
}

func (c scope) layerKey(name string) []byte {
	return kv.Key(prefix, c.account, c.region, "layer", name)
}

func (c scope) layers() kv.Range { return kv.Prefix(prefix, c.account, c.region, "layer") }

func (c scope) layerVersionKey(name string, number int64) []byte {
	return kv.Key(prefix, c.account, c.region, "layer-version", name, number)
}

// layerVersions is the versions of one layer by number.
func (c scope) layerVersions(name string) kv.Range {
	return kv.Prefix(prefix, c.account, c.region, "layer-version", name)
}

// allLayerVersions is the versions of all layers, by name.
func (c scope) allLayerVersions() kv.Range {
	return kv.Prefix(prefix, c.account, c.region, "layer-version")
}

func (c scope) codeSigningKey(id string) []byte {
	return kv.Key(prefix, c.account, c.region, "code-signing", id)
}

func (c scope) codeSignings() kv.Range {
	return kv.Prefix(prefix, c.account, c.region, "code-signing")
}

func (c scope) codeSigningUseKey(id, name string) []byte {
	return kv.Key(prefix, c.account, c.region, "code-signing.use", id, name)
}

// codeSigningUses is the functions that are bound to a configuration.
func (c scope) codeSigningUses(id string) kv.Range {
	return kv.Prefix(prefix, c.account, c.region, "code-signing.use", id)
}

// codeSigningGuard guards which functions are bound to a configuration.
func (c scope) codeSigningGuard(id string) kv.Guard {
	return kv.GuardFor(prefix, c.account, c.region, "code-signing.use", id)
}

func (c scope) layerUseKey(digest, name string, number int64) []byte {
	return kv.Key(usePrefix, digest, c.account, c.region, "layer", name, number)
}

// useGuard guards which versions need an archive.
func useGuard(digest string) kv.Guard { return kv.GuardFor(usePrefix, digest) }

// function is what all versions of a function share.
type function struct {
	Name        string            `json:"name"`
	Tags        map[string]string `json:"tags,omitempty"`
	LastVersion int64             `json:"lastVersion,omitempty"` // highest number ever published; none is used twice
	CodeSigning string            `json:"codeSigning,omitempty"` // ID of the configuration that it is bound to
}

// version is $LATEST or a published version.
type version struct {
	Function     string    `json:"function"`
	Number       int64     `json:"number"` // 0 is $LATEST
	RevisionID   string    `json:"revisionId"`
	LastModified time.Time `json:"lastModified"`

	Deployment deployment `json:"deployment"`
	// Serving is what invocations run while it is not Deployment: during an update, and after one that failed.
	Serving *deployment `json:"serving,omitempty"`

	State         status `json:"state"`
	Update        status `json:"update,omitzero"` // LastUpdateStatus; zero until the version was first Active
	RuntimeID     string `json:"runtimeId,omitempty"`
	PublishedFrom string `json:"publishedFrom,omitempty"` // content of $LATEST that this version was made of
}

// status is a state with its reason, as State and LastUpdateStatus have them.
type status struct {
	Value  string `json:"value"`
	Reason string `json:"reason,omitempty"`
	Code   string `json:"code,omitempty"`
}

// deployment is code and configuration: what an execution environment is made from.
type deployment struct {
	// ID differs between any two deployments of a function, even if they are otherwise equal, so that
	// environments are never shared by them.
	ID string `json:"id"`

	CodeDigest string `json:"codeDigest"`         // hex SHA-256 of the archive
	CodeSize   int64  `json:"codeSize"`           // bytes zipped
	Unzipped   int64  `json:"unzipped,omitempty"` // bytes of the code

	Layers []attached `json:"layers,omitempty"` // in the order in which they are merged

	Runtime       string             `json:"runtime"`
	Handler       string             `json:"handler"`
	Role          string             `json:"role"`
	Description   string             `json:"description,omitempty"`
	Architecture  string             `json:"architecture"`
	Timeout       int32              `json:"timeout"`    // seconds
	MemorySize    int32              `json:"memorySize"` // MB
	EphemeralSize int32              `json:"ephemeralSize"`
	Environment   *map[string]string `json:"environment,omitempty"` // nil if not to be shown
	Logging       logging            `json:"logging"`
	Tracing       string             `json:"tracing"`
	SnapStart     string             `json:"snapStart"`
	Tenancy       string             `json:"tenancy,omitempty"` // TenantIsolationMode
	DeadLetter    string             `json:"deadLetter,omitempty"`
	DetachedVPC   bool               `json:"detachedVpc,omitempty"` // an empty VpcConfig was given
	VPCIPv6       bool               `json:"vpcIpv6,omitempty"`
}

// logging is a LoggingConfig. Levels are set if Format is JSON.
type logging struct {
	Format      string `json:"format"`
	Group       string `json:"group"`
	Application string `json:"application,omitempty"`
	System      string `json:"system,omitempty"`
}

// content is the same for deployments that differ in nothing but their ID.
func (d deployment) content() string {
	d.ID, d.Unzipped = "", 0
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings, numbers and a map of strings
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// alias is a name for a version, or for two with a share of the invocations each.
type alias struct {
	Function    string             `json:"function"`
	Name        string             `json:"name"`
	Version     int64              `json:"version"` // 0 is $LATEST
	Description string             `json:"description,omitempty"`
	RevisionID  string             `json:"revisionId"`
	Weights     map[string]float64 `json:"weights,omitempty"` // at most one, by version number
}

// reservation is the concurrency that a function has to itself.
type reservation struct {
	Executions int32 `json:"executions"`
}

// provisioned is a provisioned concurrency configuration. How far it has come is for the fleet to know.
type provisioned struct {
	Requested    int32     `json:"requested"`
	LastModified time.Time `json:"lastModified"`
}

func getFunction(r kv.Reader, c scope, name string) (*function, error) {
	return get[function](r, c.functionKey(name))
}

func getVersion(r kv.Reader, c scope, name string, number int64) (*version, error) {
	return get[version](r, c.versionKey(name, number))
}

func getAlias(r kv.Reader, c scope, name, a string) (*alias, error) {
	return get[alias](r, c.aliasKey(name, a))
}

// get returns nil if there is no record.
func get[T any](r kv.Reader, key []byte) (*T, error) {
	v, ok, err := kv.GetJSON[T](r, key)
	if err != nil || !ok {
		return nil, err
	}
	return &v, nil
}

// putVersion writes a version and keeps what follows from it: whether it is in transition, and which archives it needs. before is what
// the transaction read, nil for a new version; after is nil to delete.
func putVersion(tx kv.Tx, c scope, before, after *version) error {
	drop := map[string]bool{}
	v := after
	if before != nil {
		for _, d := range before.archives() {
			drop[d] = true
		}
		if after == nil {
			v = before
			tx.Delete(c.versionKey(v.Function, v.Number))
			tx.Delete(c.transitionKey(v.Function, v.Number))
		}
	}
	if after != nil {
		if err := kv.SetJSON(tx, c.versionKey(v.Function, v.Number), after); err != nil {
			return err
		}
		if after.inTransition() {
			tx.Set(c.transitionKey(v.Function, v.Number), nil)
		} else if before != nil && before.inTransition() {
			tx.Delete(c.transitionKey(v.Function, v.Number))
		}
		for _, d := range after.archives() {
			delete(drop, d)
			tx.Set(c.useKey(d, v.Function, v.Number), nil)
			useGuard(d).Change(tx)
		}
	}
	for d := range drop {
		tx.Delete(c.useKey(d, v.Function, v.Number))
	}
	return nil
}

// archives lists the digests of the archives that the version needs, each once.
func (v *version) archives() []string {
	all := v.Deployment.archives()
	if v.Serving != nil {
		all = append(all, v.Serving.archives()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// archives lists the digest of the code and those of the layers.
func (d *deployment) archives() []string {
	all := []string{d.CodeDigest}
	for _, l := range d.Layers {
		all = append(all, l.Digest)
	}
	return all
}

// pending is a version in transition.
type pending struct {
	scope
	name   string
	number int64
}

// listTransitions returns all versions in transition, in every account and region.
func listTransitions(r kv.Reader) ([]pending, error) {
	var all []pending
	for e, err := range r.Scan(kv.Prefix(transitionPrefix)) {
		if err != nil {
			return nil, err
		}
		var p pending
		if err := kv.Decode(e.Key, nil, &p.account, &p.region, &p.name, &p.number); err != nil {
			return nil, fmt.Errorf("list transitions: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// inUse reports whether any version needs the archive.
func inUse(r kv.Reader, digest string) (bool, error) {
	for _, err := range r.Scan(kv.Prefix(usePrefix, digest)) {
		return err == nil, err
	}
	return false, nil
}

// listArchives returns the digests of all archives.
func listArchives(r kv.Reader) ([]string, error) {
	var all []string
	for e, err := range r.Scan(kv.Prefix(archivePrefix)) {
		if err != nil {
			return nil, err
		}
		var digest string
		if err := kv.Decode(e.Key, nil, &digest); err != nil {
			return nil, fmt.Errorf("list archives: %w", err)
		}
		all = append(all, digest)
	}
	return all, nil
}
