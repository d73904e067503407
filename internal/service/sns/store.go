package sns

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The tables. Those of topics and subscriptions continue with account, region and name of the topic.
const (
	topicTable        = "sns.topic"        // -> topic
	subscriptionTable = "sns.subscription" // subscription id -> subscription
	cancelledTable    = "sns.cancelled"    // subscription id -> subscription that its endpoint may still restore
	ownedTable        = "sns.owned"        // owner's account, region, then account and name of the topic, subscription id -> nothing
	messageTable      = "sns.message"      // message id -> message
	pendingTable      = "sns.pending"      // message id, subscription id -> nothing, while the delivery has not ended
	duplicateTable    = "sns.duplicate"    // id of the topic, scope, deduplication id -> published
	groupTable        = "sns.group"        // id of the topic, message group -> sequence
	expiryTable       = "sns.expiry"       // time, key of another table -> nothing
	signerTable       = "sns.signer"       // -> signerRow
)

// topicName is where a topic is.
type topicName struct{ account, region, name string }

func (t topicName) arn() string { return arn.New("sns", t.region, t.account, t.name).String() }

func (t topicName) fifo() bool { return strings.HasSuffix(t.name, fifoSuffix) }

func (t topicName) key() []byte { return kv.Key(topicTable, t.account, t.region, t.name) }

// subscriptions is the range of a topic's subscriptions.
func (t topicName) subscriptions() kv.Range {
	return kv.Prefix(subscriptionTable, t.account, t.region, t.name)
}

// guard stands for the set of a topic's subscriptions.
func (t topicName) guard() kv.Guard {
	return kv.GuardFor(subscriptionTable, t.account, t.region, t.name)
}

// topics is the range of the topics of an account and region.
func topics(account, region string) kv.Range { return kv.Prefix(topicTable, account, region) }

// subscriptionName is where a subscription is.
type subscriptionName struct {
	topic topicName
	id    string
}

func (s subscriptionName) arn() string { return s.topic.arn() + ":" + s.id }

func (s subscriptionName) key() []byte {
	return kv.Key(subscriptionTable, s.topic.account, s.topic.region, s.topic.name, s.id)
}

func (s subscriptionName) cancelledKey() []byte {
	return kv.Key(cancelledTable, s.topic.account, s.topic.region, s.topic.name, s.id)
}

func (s subscriptionName) ownedKey(owner string) []byte {
	return kv.Key(ownedTable, owner, s.topic.region, s.topic.account, s.topic.name, s.id)
}

func (s subscriptionName) pendingKey(message string) []byte {
	return kv.Key(pendingTable, message, s.id)
}

// owned is the range of the subscriptions that an account owns in a region.
func owned(owner, region string) kv.Range { return kv.Prefix(ownedTable, owner, region) }

func decodeOwned(key []byte) (s subscriptionName, err error) {
	err = kv.Decode(key, nil, nil, &s.topic.region, &s.topic.account, &s.topic.name, &s.id)
	return s, err
}

func decodeTopic(key []byte) (t topicName, err error) {
	err = kv.Decode(key, nil, &t.account, &t.region, &t.name)
	return t, err
}

func decodeSubscription(key []byte) (s subscriptionName, err error) {
	err = kv.Decode(key, nil, &s.topic.account, &s.topic.region, &s.topic.name, &s.id)
	return s, err
}

func messageKey(id string) []byte { return kv.Key(messageTable, id) }

func messages() kv.Range { return kv.Prefix(messageTable) }

func pending(message string) kv.Range { return kv.Prefix(pendingTable, message) }

func duplicateKey(topic, scope, id string) []byte { return kv.Key(duplicateTable, topic, scope, id) }

func groupKey(topic, group string) []byte { return kv.Key(groupTable, topic, group) }

func expiryKey(at time.Time, key []byte) []byte { return kv.Key(expiryTable, at, key) }

func decodeExpiry(key []byte) (at time.Time, of []byte, err error) {
	err = kv.Decode(key, nil, &at, &of)
	return at, of, err
}

// expired is the range of the expiries up to a time.
func expired(now time.Time) kv.Range {
	return kv.Range{Start: kv.Prefix(expiryTable).Start, End: kv.Key(expiryTable, now)}
}

func signerKey() []byte { return kv.Key(signerTable, "") }

// topic is a topic as stored.
type topic struct {
	ID             string            `json:"id"`                   // another one each time that the name is used anew
	Attributes     map[string]string `json:"attributes,omitempty"` // as they were set
	Policy         string            `json:"policy"`
	Tags           map[string]string `json:"tags,omitempty"`
	DataProtection string            `json:"dataProtection,omitempty"`
	Deleted        int               `json:"deleted,omitempty"` // subscriptions that there were

	name topicName // in the key
}

// subscription is a subscription as stored.
type subscription struct {
	Owner         string            `json:"owner"`
	Principal     string            `json:"principal"` // who subscribed
	Protocol      string            `json:"protocol"`
	Endpoint      string            `json:"endpoint"`
	Attributes    map[string]string `json:"attributes,omitempty"`
	Pending       bool              `json:"pending,omitempty"`       // not confirmed
	Authenticated bool              `json:"authenticated,omitempty"` // the confirmation was signed
	Locked        bool              `json:"locked,omitempty"`        // only its owner may unsubscribe
	Token         string            `json:"token,omitempty"`
	Expires       time.Time         `json:"expires,omitzero"` // of the token, and of what is pending or cancelled

	name subscriptionName // in the key
}

// published is what a FIFO topic remembers of a message to tell its duplicates.
type published struct {
	Message  string    `json:"message"`
	Sequence uint64    `json:"sequence"`
	Expires  time.Time `json:"expires"`
}

// sequence is the number of the last message of a group.
type lastOfGroup struct {
	Sequence uint64    `json:"sequence"`
	Expires  time.Time `json:"expires"`
}

// expiring is what rows that expire have in common.
type expiring struct {
	Expires time.Time `json:"expires"`
	Pending bool      `json:"pending"`
	Owner   string    `json:"owner"`
}

func getTopic(r kv.Reader, name topicName) (*topic, error) {
	t, ok, err := kv.GetJSON[topic](r, name.key())
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errNoTopic()
	}
	t.name = name
	return &t, nil
}

func putTopic(tx kv.Tx, t *topic) error { return kv.SetJSON(tx, t.name.key(), t) }

// getSubscription returns a subscription, or nil.
func getSubscription(r kv.Reader, name subscriptionName) (*subscription, error) {
	return readSubscription(r, name.key(), name)
}

func readSubscription(r kv.Reader, key []byte, name subscriptionName) (*subscription, error) {
	s, ok, err := kv.GetJSON[subscription](r, key)
	if err != nil || !ok {
		return nil, err
	}
	s.name = name
	return &s, nil
}

// putSubscription writes a subscription that exists.
func putSubscription(tx kv.Tx, s *subscription) error { return kv.SetJSON(tx, s.name.key(), s) }

// addSubscription writes a new one.
func addSubscription(tx kv.Tx, s *subscription) error {
	s.name.topic.guard().Change(tx)
	tx.Set(s.name.ownedKey(s.Owner), nil)
	if s.Pending {
		tx.Set(expiryKey(s.Expires, s.name.key()), nil)
	}
	return putSubscription(tx, s)
}

func removeSubscription(tx kv.Tx, s *subscription) {
	tx.Delete(s.name.key())
	tx.Delete(s.name.ownedKey(s.Owner))
}

// subscriptionsOf reads the subscriptions of a topic, in order of their ids.
func subscriptionsOf(r kv.Reader, name topicName) (all []*subscription, err error) {
	for rec, err := range kv.ScanJSON[subscription](r, name.subscriptions()) {
		if err != nil {
			return nil, err
		}
		s := rec.Value
		if s.name, err = decodeSubscription(rec.Key); err != nil {
			return nil, err
		}
		all = append(all, &s)
	}
	return all, nil
}

// table tells the table of a key.
func isIn(table string, key []byte) bool { return bytes.HasPrefix(key, kv.Key(table)) }

// here is a name in the account and region of the caller.
func here(ctx context.Context, name string) topicName {
	i := call.From(ctx)
	return topicName{i.Account, i.Region, name}
}
