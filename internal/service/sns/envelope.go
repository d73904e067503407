package sns

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Types of what SNS sends.
const (
	typeNotification = "Notification"
	typeConfirmation = "SubscriptionConfirmation"
	typeCancellation = "UnsubscribeConfirmation"
)

// timestamp is the form of times in messages.
const timestamp = "2006-01-02T15:04:05.000Z"

func stamp(t time.Time) string { return t.UTC().Format(timestamp) }

// apiVersion tells SNS's links apart from those of other services that have an operation of the same name.
const apiVersion = "2010-03-31"

func (s *Service) unsubscribeURL(subscription string) string {
	return s.url() + "/?Action=Unsubscribe&SubscriptionArn=" + subscription
}

func (s *Service) subscribeURL(topic, token string) string {
	return s.url() + "/?Action=ConfirmSubscription&TopicArn=" + topic + "&Token=" + url.QueryEscape(token)
}

// pretty writes a JSON object as SNS does: a member on each line, with spaces around the colon.
type pretty struct{ bytes.Buffer }

func (p *pretty) member(name string, value any) {
	if p.Len() == 0 {
		p.WriteString("{\n  ")
	} else {
		p.WriteString(",\n  ")
	}
	p.WriteString(toJSON(name))
	p.WriteString(" : ")
	if s, ok := value.(json.RawMessage); ok {
		p.Write(s)
		return
	}
	p.WriteString(toJSON(value))
}

func (p *pretty) end() []byte {
	p.WriteString("\n}")
	return p.Bytes()
}

// envelope is a message as queues, endpoints and mail boxes get it. Those of FIFO topics are not signed.
func (s *Service) envelope(t *topic, to *taker, m *message, signed *signature) []byte {
	var p pretty
	p.member("Type", typeNotification)
	p.member("MessageId", m.ID)
	if m.Sequence != 0 {
		p.member("SequenceNumber", sequenceNumber(m.Sequence))
	}
	p.member("TopicArn", t.name.arn())
	if m.Subject != nil {
		p.member("Subject", *m.Subject)
	}
	p.member("Message", m.form(to.Protocol))
	p.member("Timestamp", stamp(m.Time))
	if signed != nil {
		p.member("SignatureVersion", signed.version)
		p.member("Signature", signed.text)
		p.member("SigningCertURL", signed.url)
	}
	p.member("UnsubscribeURL", s.unsubscribeURL(to.name.arn()))
	if len(m.Attributes) > 0 {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
			list = append(list, "    "+toJSON(name)+" : "+toJSON(m.Attributes[name]))
		}
		p.member("MessageAttributes", json.RawMessage("{\n"+strings.Join(list, ",\n")+"\n  }"))
	}
	return p.end()
}

// confirmationEnvelope is a confirmation as endpoints get it.
func (s *Service) confirmationEnvelope(c *confirmation, signed *signature) []byte {
	var p pretty
	p.member("Type", c.Type)
	p.member("MessageId", c.ID)
	p.member("Token", c.Token)
	p.member("TopicArn", c.Topic)
	p.member("Message", c.text())
	p.member("SubscribeURL", s.subscribeURL(c.Topic, c.Token))
	p.member("Timestamp", stamp(c.Time))
	p.member("SignatureVersion", signed.version)
	p.member("Signature", signed.text)
	p.member("SigningCertURL", signed.url)
	return p.end()
}

// text is what a confirmation says.
func (c *confirmation) text() string {
	if c.Type == typeCancellation {
		return "You have chosen to deactivate subscription " + c.Subscription +
			".\nTo cancel this operation and restore the subscription, visit the SubscribeURL included in this message."
	}
	return "You have chosen to subscribe to the topic " + c.Topic + ".\nTo confirm the subscription, visit the SubscribeURL included in this message."
}

// record is a message as functions get it. The names of some members are written otherwise than elsewhere.
func (s *Service) record(t *topic, to *taker, m *message, signed *signature) []byte {
	type notification struct {
		Type              string
		MessageID         string `json:"MessageId"`
		TopicARN          string `json:"TopicArn"`
		Subject           *string
		Message           string
		Timestamp         string
		SignatureVersion  string
		Signature         string
		SigningCertURL    string `json:"SigningCertUrl"`
		UnsubscribeURL    string `json:"UnsubscribeUrl"`
		MessageAttributes map[string]attribute
	}
	type event struct {
		EventSource          string
		EventVersion         string
		EventSubscriptionARN string       `json:"EventSubscriptionArn"`
		SNS                  notification `json:"Sns"`
	}
	n := notification{
		Type: typeNotification, MessageID: m.ID, TopicARN: t.name.arn(), Subject: m.Subject, Message: m.form(to.Protocol), Timestamp: stamp(m.Time),
		UnsubscribeURL: s.unsubscribeURL(to.name.arn()), MessageAttributes: m.Attributes,
	}
	if signed != nil {
		n.SignatureVersion, n.Signature, n.SigningCertURL = signed.version, signed.text, signed.url
	}
	if n.MessageAttributes == nil {
		n.MessageAttributes = map[string]attribute{}
	}
	return []byte(toJSON(struct{ Records []event }{[]event{{"aws:sns", "1.0", to.name.arn(), n}}}))
}

// canonical is the text that is signed: names and values of the members that count, a line each, in order of the names.
func canonical(members ...string) string {
	return strings.Join(members, "\n") + "\n"
}

func isBinary(kind string) bool { return kind == "Binary" || strings.HasPrefix(kind, "Binary.") }

func isFIFOQueue(arn string) bool { return strings.HasSuffix(arn, fifoSuffix) }
