// Package eventpattern compiles AWS's event patterns and matches documents with them. It is the language of three places,
// which differ in what they match and in their errors:
//
//   - EventBridge: rules, archives and Pipes match an event. Errors are "Event pattern is not valid. Reason: …".
//   - Lambda's event source mappings match a record, of which one key (SQS's body, Kinesis's data) holds data of its own
//     format. The error is always "Invalid filter pattern definition.".
//   - SNS's filter policies match the attributes of a message or its body. Errors are "Invalid parameter: FilterPolicy: …".
//
// A pattern is an object of fields. All fields must match, and a field matches if any of its values does:
//
//	{"source": ["aws.s3"], "detail": {"size": [{"numeric": [">", 0]}], "$or": [{"a": [1]}, {"b": [{"exists": false}]}]}}
//
// The reference is "Event patterns" in the EventBridge User Guide, "Control which events Lambda sends to your function" in
// the Lambda Developer Guide and "Subscription filter policies" in the SNS Developer Guide. Beyond them:
//
//   - Names are paths: "a.b" and {"a": {"b": …}} are the same field, in patterns and in documents.
//   - An array in the document matches by any element. Fields below the same array must match in the same element.
//   - Only values count: an object, an array without values and a missing key are all absent to "exists". Below an array,
//     absent means absent from the element in which the other fields match, and from all elements where nothing else does.
//   - "anything-but" needs a value, of any type: null and 12 are anything but the string "a".
//   - Numbers compare as doubles, or by their text where they are no finite double. Only JSON numbers are numbers, and
//     Number attributes. A string that is an IP address also matches other spellings of that address.
//   - Of a field that is repeated in a pattern, or set outside and inside of an $or, the last one in the text holds.
//   - Patterns that AWS refuses because of their wildcards are accepted: matching takes time linear in the document for each
//     of at most 1,000 alternatives that the $ors multiply to.
//
// The package is pure: no clock, no context, no I/O.
package eventpattern

// Dialect says whose pattern it is.
type Dialect uint8

const (
	Events          Dialect = iota // EventBridge's rules, archives and Pipes
	SQS                            // filter criteria: the data is body
	Kinesis                        // filter criteria: the data is data, which must be JSON
	DynamoDBStreams                // filter criteria: the data is dynamodb, part of the record
	Kafka                          // filter criteria: the data is value
	MQ                             // filter criteria: the data is data
	DocumentDB                     // filter criteria: the data is event, part of the record
	policy                         // SNS's filter policies
)

// dataKey is the key of a record whose value MatchRecord gets apart.
func (d Dialect) dataKey() string {
	switch d {
	case SQS:
		return "body"
	case Kinesis, MQ:
		return "data"
	case Kafka:
		return "value"
	}
	return ""
}

// jsonKey is the key whose value must be matched as an object.
func (d Dialect) jsonKey() string {
	switch d {
	case Kinesis:
		return "data"
	case DynamoDBStreams:
		return "dynamodb"
	case DocumentDB:
		return "event"
	}
	return ""
}

// Pattern is a compiled event pattern. It is immutable and may be used concurrently.
type Pattern struct {
	dialect  Dialect
	branches []*branch // of which one must match; more than one if there are $ors
}

// Parse compiles a pattern. Its errors are of type *Error.
func Parse(dialect Dialect, pattern []byte) (*Pattern, error) {
	branches, err := compile(dialect, string(pattern))
	if err != nil {
		return nil, err
	}
	p := &Pattern{dialect: dialect, branches: branches}
	if key := dialect.jsonKey(); key != "" {
		for _, b := range branches {
			if n := b.root.find(key); n != nil && n.leaf != nil {
				return nil, &Error{Dialect: dialect, Reason: `"` + key + `" must be an object`}
			}
		}
	}
	return p, nil
}

// Match reports whether a document, a JSON object, matches. What is no JSON object does not.
func (p *Pattern) Match(document []byte) bool {
	m := matchers.Get().(*matcher)
	defer m.free()
	if !m.doc.parse(document) || m.doc.nodes[0].kind != object {
		return false
	}
	for _, b := range p.branches {
		m.begin(b)
		m.walk(b.root, 0)
		if m.satisfied(0, len(b.leaves)) {
			return true
		}
	}
	return false
}

// MatchRecord reports whether a record of an event source matches: record is its JSON object, data the bytes under the
// dialect's data key, decoded from base64 where the record has it so. The value under that key in record does not matter
// and may be missing. For DynamoDBStreams and DocumentDB, whose data is part of the record, data is not looked at. Of
// Kinesis what is beside the data, as partitionKey, may be named by itself or below kinesis.
//
// Data that is a JSON object or array is JSON, all else a plain string. A pattern on the data must be of the same format,
// or the record does not match; a pattern that has none decides by the other keys.
func (p *Pattern) MatchRecord(record, data []byte) bool {
	key := p.dialect.dataKey()
	if key == "" {
		return p.Match(record)
	}
	m, inner := matchers.Get().(*matcher), matchers.Get().(*matcher)
	defer m.free()
	defer inner.free()
	if !m.doc.parse(record) || m.doc.nodes[0].kind != object {
		return false
	}
	inside := 0
	if p.dialect == Kinesis {
		inside = m.doc.object("kinesis")
	}
	parsed, json := false, false
	for _, b := range p.branches {
		m.begin(b)
		m.members(b.root, 0, key)
		if inside > 0 {
			m.members(b.root, inside, key)
		}
		if n := b.root.find(key); n != nil {
			if !parsed {
				parsed, json = true, inner.doc.parse(data) && inner.doc.nodes[0].kind <= array
			}
			if json == (n.leaf != nil) || json != (len(n.kids) > 0) {
				continue
			}
			if json {
				m.walkIn(inner, n)
			} else {
				m.set(n, scalar{kind: text, text: data})
			}
		}
		if m.satisfied(0, len(b.leaves)) {
			return true
		}
	}
	return false
}

// Error says what is wrong with a pattern.
type Error struct {
	Dialect Dialect
	Reason  string // in AWS's words, with the place where it is known
	bare    bool   // not prefixed by the parameter's name
}

// Error returns AWS's message: of PutRule, of CreateEventSourceMapping, or of SetSubscriptionAttributes.
func (e *Error) Error() string {
	switch {
	case e.Dialect == Events:
		return "Event pattern is not valid. Reason: " + e.Reason
	case e.Dialect != policy:
		return "Invalid filter pattern definition."
	case e.bare:
		return "Invalid parameter: " + e.Reason
	}
	return "Invalid parameter: FilterPolicy: " + e.Reason
}

// Attributes returns the message of SNS's Subscribe, where the filter policy is one of the Attributes.
func (e *Error) Attributes() string {
	if e.bare {
		return "Invalid parameter: Attributes Reason: " + e.Reason
	}
	return "Invalid parameter: Attributes Reason: FilterPolicy: " + e.Reason
}
