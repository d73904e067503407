package sns

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/lang/eventpattern"
)

const (
	maxMessage       = 256 << 10 // bytes of message and attributes, and of all of a batch
	maxSubject       = 100       // characters
	maxAttributeName = 256
	maxGroupID       = 128
)

// message is what was published, as stored.
type message struct {
	ID         string               `json:"id"`
	Time       time.Time            `json:"time"`
	Subject    *string              `json:"subject,omitempty"`
	Text       string               `json:"text"`
	Forms      map[string]string    `json:"forms,omitempty"` // by protocol; Text is for others
	Attributes map[string]attribute `json:"attributes,omitempty"`
	Group      string               `json:"group,omitempty"`
	Duplicate  string               `json:"duplicate,omitempty"` // deduplication id
	Sequence   uint64               `json:"sequence,omitempty"`  // in FIFO topics
	Trace      string               `json:"trace,omitempty"`

	given string // the text as it was published
}

// attribute is a message attribute. The value of a Binary is in base64.
type attribute = eventpattern.Attribute

// form is the text for a protocol.
func (m *message) form(protocol string) string {
	if text, ok := m.Forms[protocol]; ok {
		return text
	}
	return m.Text
}

// parameters are what Publish and the entries of PublishBatch have in common.
type parameters struct {
	message, subject, structure, group, duplicate *string
	attributes                                    map[string]snsapi.MessageAttributeValue
}

// newMessage checks what is to be published. size is what counts against the limits.
func newMessage(p *parameters) (m *message, size int, err error) {
	m = &message{Text: str(p.message), given: str(p.message), Subject: p.subject, Group: str(p.group), Duplicate: str(p.duplicate)}
	if p.subject != nil && !isSubject(*p.subject) {
		return nil, 0, invalid("Subject")
	}
	if m.Text == "" {
		return nil, 0, invalid("Empty message")
	}
	if !utf8.ValidString(m.Text) {
		return nil, 0, invalid("Message Reason: it is not valid UTF-8")
	}
	size = len(m.Text)
	for name, v := range p.attributes {
		a, n, err := newAttribute(name, v)
		if err != nil {
			return nil, 0, err
		}
		if m.Attributes == nil {
			m.Attributes = map[string]attribute{}
		}
		m.Attributes[name] = a
		size += n
	}
	if size > maxMessage {
		return m, size, invalid("Message too long")
	}
	switch structure := str(p.structure); structure {
	case "json":
		if err := m.takeForms(); err != nil {
			return nil, 0, err
		}
	case "":
	default:
		return nil, 0, invalid("MessageStructure Reason: Invalid value [%s]. Must be json.", structure)
	}
	return m, size, nil
}

// takeForms reads a message that has a text for each protocol.
func (m *message) takeForms() error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(m.Text), &raw); err != nil || raw == nil {
		return invalid("Message Structure - JSON message body failed to parse")
	}
	forms := map[string]string{}
	for k, v := range raw {
		var text string
		if json.Unmarshal(v, &text) == nil && v[0] == '"' { // other values are as if they were not there
			forms[k] = text
		}
	}
	text, ok := forms["default"]
	if !ok {
		return invalid("Message Structure - No default entry in JSON message body")
	}
	m.Text = text
	delete(forms, "default")
	for k := range forms {
		switch k {
		case protocolSQS, protocolLambda, protocolHTTP, protocolHTTPS, protocolEmail, protocolEmailJSON:
		default:
			delete(forms, k) // nobody gets it
		}
	}
	if len(forms) > 0 {
		m.Forms = forms
	}
	return nil
}

// isSubject holds the rule of the API reference: ASCII text that begins with a letter, number or punctuation mark, without line breaks or
// control characters, at most 100 characters long.
func isSubject(s string) bool {
	if s == "" || len(s) > maxSubject || s[0] == ' ' {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// badAttribute is AWS's error for message attributes, which has a code of its own.
func badAttribute(format string, args ...any) *apierr.Error {
	return snsapi.ErrInvalidParameterValueException(format, args...)
}

func newAttribute(name string, v snsapi.MessageAttributeValue) (a attribute, size int, err error) {
	if err := checkAttributeName(name); err != nil {
		return a, 0, err
	}
	kind := str(v.DataType)
	base, _, custom := strings.Cut(kind, ".")
	if base != "String" && base != "Number" && base != "Binary" || custom && base+"." == kind || len(kind) > maxAttributeName {
		return a, 0, badAttribute("The message attribute '%s' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.", name)
	}
	if kind == "String.Array" {
		var list []any
		if v.StringValue != nil && json.Unmarshal([]byte(*v.StringValue), &list) != nil {
			return a, 0, badAttribute("The message attribute '%s' with type 'String.Array' must be a JSON array.", name)
		}
	}
	field, given, other := "String", v.StringValue != nil && *v.StringValue != "", v.BinaryValue != nil
	if base == "Binary" {
		field, given, other = "Binary", len(v.BinaryValue) > 0, v.StringValue != nil
	}
	switch {
	case !given && other:
		return a, 0, badAttribute("The message attribute '%s' with type '%s' must use field '%s'.", name, kind, field)
	case !given:
		return a, 0, badAttribute("The message attribute '%s' must contain non-empty message attribute value for message attribute type '%s'.", name, kind)
	}
	a = attribute{Type: kind, Value: str(v.StringValue)}
	n := len(a.Value)
	if base == "Binary" {
		a.Value, n = base64.StdEncoding.EncodeToString(v.BinaryValue), len(v.BinaryValue)
	} else if !utf8.ValidString(a.Value) {
		return a, 0, badAttribute("The message attribute '%s' is not valid UTF-8.", name)
	}
	if base == "Number" && !isNumber(a.Value) {
		return a, 0, badAttribute("Could not cast message attribute '%s' value to number.", name)
	}
	return a, len(name) + len(kind) + n, nil
}

// isNumber reports whether a text is a number as JSON writes it, give or take leading zeros and a plus.
func isNumber(s string) bool {
	s = strings.TrimSpace(s)
	digits, rest := false, strings.TrimLeft(s, "+-")
	if len(s)-len(rest) > 1 {
		return false
	}
	mantissa, exponent, has := strings.Cut(strings.ToLower(rest), "e")
	point := false
	for _, c := range mantissa {
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case c == '.' && !point:
			point = true
		default:
			return false
		}
	}
	if has {
		exponent = strings.TrimLeft(exponent, "+-")
		if exponent == "" || strings.Trim(exponent, "0123456789") != "" {
			return false
		}
	}
	return digits
}

func checkAttributeName(name string) error {
	switch {
	case name == "":
		return badAttribute("The message attribute name cannot be empty.")
	case len(name) >= maxAttributeName+1:
		return badAttribute("Length of message attribute name must be less than 256 bytes.")
	case name[0] == '.':
		return badAttribute("Invalid message attribute name starting with character '.' was found.")
	case name[len(name)-1] == '.':
		return badAttribute("Invalid message attribute name ending with character '.' was found.")
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return badAttribute("Invalid non-alphanumeric character '#x%X' was found in the message attribute name. Can only include alphanumeric characters, hyphens, underscores, or dots.", c)
		}
	}
	if strings.Contains(name, "..") {
		return badAttribute("Message attribute name can not have successive '.' character.")
	}
	return nil
}

// isID reports whether a text can be a message group id or a deduplication id.
func isID(s string) bool {
	if s == "" || len(s) > maxGroupID {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
