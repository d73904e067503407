package sqs

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// message is what a queue's message holds beside what the engine knows of it.
type message struct {
	id         [16]byte // a UUID
	sender     string
	dedup      string // MessageDeduplicationId, of FIFO queues
	trace      string // AWSTraceHeader
	source     string // ARN of the queue that it was moved from to a dead-letter queue
	receives   int    // before it came into this queue
	attributes []attribute
	body       string
}

// attribute is a message attribute.
type attribute struct {
	name, dataType string
	binary         bool
	value          string
}

// The stored form: its version, the id, and then the fields of message in their order, numbers as uvarints and texts with their length before
// them. The body is the rest.
const messageVersion = 1

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func (m *message) encode() []byte {
	n := 64 + len(m.sender) + len(m.dedup) + len(m.trace) + len(m.source) + len(m.body)
	for i := range m.attributes {
		a := &m.attributes[i]
		n += 32 + len(a.name) + len(a.dataType) + len(a.value)
	}
	b := make([]byte, 0, n)
	b = append(b, messageVersion)
	b = append(b, m.id[:]...)
	for _, s := range [...]string{m.sender, m.dedup, m.trace, m.source} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(m.receives))
	b = binary.AppendUvarint(b, uint64(len(m.attributes)))
	for i := range m.attributes {
		a := &m.attributes[i]
		b = appendText(appendText(b, a.name), a.dataType)
		kind := byte(0)
		if a.binary {
			kind = 1
		}
		b = appendText(append(b, kind), a.value)
	}
	return append(b, m.body...)
}

var errCorrupt = errors.New("sqs: a stored message is corrupt")

// reader takes a stored message apart.
type reader struct {
	rest   string
	failed bool
}

func (r *reader) take(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.failed = true
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) number() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		c := r.take(1)
		if r.failed {
			return 0
		}
		v |= uint64(c[0]&0x7f) << shift
		if c[0] < 0x80 {
			return v
		}
	}
	r.failed = true
	return 0
}

func (r *reader) text() string { return r.take(r.number()) }

// decodeMessage reads what encode wrote.
func decodeMessage(b []byte) (*message, error) {
	r := &reader{rest: string(b)}
	if v := r.take(1); v != string(rune(messageVersion)) {
		return nil, errCorrupt
	}
	m := &message{}
	copy(m.id[:], r.take(16))
	m.sender, m.dedup, m.trace, m.source = r.text(), r.text(), r.text(), r.text()
	m.receives = int(r.number())
	n := r.number()
	if n > maxAttributes {
		return nil, errCorrupt
	}
	for range n {
		a := attribute{name: r.text(), dataType: r.text()}
		a.binary = r.take(1) == "\x01"
		a.value = r.text()
		m.attributes = append(m.attributes, a)
	}
	m.body = r.rest
	if r.failed {
		return nil, errCorrupt
	}
	return m, nil
}

// newMessageID returns a random UUID.
func newMessageID() (id [16]byte) {
	rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// uuid prints an id as AWS does.
func uuid(id [16]byte) string {
	var s [36]byte
	hex.Encode(s[0:8], id[0:4])
	s[8] = '-'
	hex.Encode(s[9:13], id[4:6])
	s[13] = '-'
	hex.Encode(s[14:18], id[6:8])
	s[18] = '-'
	hex.Encode(s[19:23], id[8:10])
	s[23] = '-'
	hex.Encode(s[24:36], id[10:16])
	return string(s[:])
}

// size is what a message counts against the limits: its body, and names, types and values of its attributes.
func (m *message) size() int {
	n := len(m.body)
	for i := range m.attributes {
		a := &m.attributes[i]
		n += len(a.name) + len(a.dataType) + len(a.value)
	}
	return n
}

func bodyMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// attributesMD5 is the digest of attributes in the order of their names; "" of none. Source: the developer guide, message metadata.
func attributesMD5(attributes []attribute) string {
	if len(attributes) == 0 {
		return ""
	}
	h := md5.New()
	put := func(s string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	for i := range attributes {
		a := &attributes[i]
		put(a.name)
		put(a.dataType)
		kind := byte(1)
		if a.binary {
			kind = 2
		}
		h.Write([]byte{kind})
		put(a.value)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Limits of message attributes. Source: the developer guide, message metadata.
const (
	maxAttributes    = 10
	maxAttributeName = 256 // bytes
	maxAttributeType = 256
)

// readAttributes checks the attributes of a message and returns them in the order of their names.
func readAttributes(given map[string]sqsapi.MessageAttributeValue) ([]attribute, error) {
	if len(given) == 0 {
		return nil, nil
	}
	if len(given) > maxAttributes {
		return nil, invalidParameter("Number of message attributes [%d] exceeds the allowed maximum [%d].", len(given), maxAttributes)
	}
	list := make([]attribute, 0, len(given))
	for name, v := range given {
		a := attribute{name: name}
		i := len(list)
		for i > 0 && list[i-1].name > name { // there are ten at most
			i--
		}
		list = append(list, attribute{})
		copy(list[i+1:], list[i:])
		a.binary = v.BinaryValue != nil
		switch {
		case a.binary:
			a.value = string(v.BinaryValue)
		case v.StringValue != nil:
			a.value = *v.StringValue
		}
		if v.DataType != nil {
			a.dataType = *v.DataType
		}
		list[i] = a
	}
	for i := range list {
		v := given[list[i].name]
		if len(v.StringListValues) > 0 || len(v.BinaryListValues) > 0 {
			return nil, invalidParameter("Message attribute list values in SendMessage operation are not supported.")
		}
		if err := list[i].check(v.StringValue != nil); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (a *attribute) check(isText bool) error {
	if err := checkAttributeName(a.name); err != nil {
		return err
	}
	base, custom, _ := strings.Cut(a.dataType, ".")
	switch {
	case a.dataType == "" && !isText && !a.binary:
		return invalidParameter("The message (user) attribute '%s' must contain a non-empty message attribute value.", a.name)
	case a.dataType == "":
		return invalidParameter("The message (user) attribute '%s' must contain a non-empty message attribute type.", a.name)
	case len(a.dataType) > maxAttributeType:
		return invalidParameter("Message (user) attribute type must be shorter than 256 bytes.")
	case base != "String" && base != "Number" && base != "Binary" || strings.ContainsFunc(custom, isControl):
		return invalidParameter("The type of message (user) attribute '%s' is invalid. You must use only the following supported type prefixes: Binary, Number, String.", a.name)
	case isText && a.binary:
		return invalidParameter("Message (user) attribute '%s' has conflicting value types: only one of StringValue and BinaryValue may be given.", a.name)
	case a.value == "", (base == "Binary") != a.binary:
		return invalidParameter("Message (user) attribute '%s' must contain a non-empty value of type '%s'.", a.name, base)
	case a.binary:
		return nil
	case base == "Number" && !isNumber(a.value):
		return invalidParameter("Can't cast the value of message (user) attribute '%s' to a number.", a.name)
	}
	if c, ok := badCharacter(a.value); ok {
		return invalidParameter("Invalid binary character '%s' was found in the value of message (user) attribute '%s', the set of allowed characters is %s.", c, a.name, allowedCharacters)
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == utf8.RuneError }

func checkAttributeName(name string) *apierr.Error {
	if name == "" {
		return invalidParameter("The request must contain non-empty message (user) attribute names.")
	}
	if len(name) > maxAttributeName {
		return invalidParameter("Message (user) attribute name must be shorter than 256 bytes.")
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return invalidParameter("Message (user) attribute name can only contain upper and lower case characters, digits, periods, hyphens and underscores.")
		}
	}
	lower := strings.ToLower(name)
	if strings.HasPrefix(lower, "aws.") || strings.HasPrefix(lower, "amazon.") {
		return invalidParameter("You can't use message attribute names beginning with 'AWS.' or 'Amazon'. These strings are reserved for internal use.")
	}
	if name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, "..") {
		return invalidParameter("Message (user) attribute name must not start or end with a period, nor have periods in succession.")
	}
	return nil
}

// isNumber reports whether s is what AWS takes for a number: up to 38 digits, with a fraction and an exponent.
func isNumber(s string) bool {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	mantissa, exponent, hasExponent := s, "", false
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent, hasExponent = s[:i], s[i+1:], true
	}
	if hasExponent {
		if exponent != "" && (exponent[0] == '-' || exponent[0] == '+') {
			exponent = exponent[1:]
		}
		if !isDigits(exponent) {
			return false
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	return isDigits(whole+fraction) && len(whole+fraction) <= 38
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

const allowedCharacters = "#x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]"

// badCharacter returns the first character, as #xN, that XML has not and so no message may have.
func badCharacter(s string) (string, bool) {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf || c == '\t' || c == '\n' || c == '\r' {
			i++
			continue
		}
		r, n := rune(c), 1
		if c >= utf8.RuneSelf {
			if r, n = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || n > 1 {
				if r != 0xFFFE && r != 0xFFFF {
					i += n
					continue
				}
			} else {
				r = rune(c)
			}
		}
		return "#x" + strings.ToUpper(hexOf(r)), true
	}
	return "", false
}

func hexOf(r rune) string {
	const digits = "0123456789abcdef"
	if r < 16 {
		return digits[r : r+1]
	}
	return hexOf(r>>4) + digits[r&15:r&15+1]
}

// checkBody checks the characters of a message's body.
func checkBody(body string) error {
	if c, bad := badCharacter(body); bad {
		return sqsapi.ErrInvalidMessageContents("Invalid binary character '%s' was found in the message body, the set of allowed characters is %s.", c, allowedCharacters)
	}
	return nil
}

// isID reports whether s can be a MessageGroupId or MessageDeduplicationId: 1 to 128 letters, digits and punctuation of ASCII.
func isID(s string) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
