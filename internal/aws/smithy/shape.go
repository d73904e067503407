// Package smithy is the run-time model of an AWS API: shapes, operations, and the two things that one does
// with an operation, which are to handle it (Mux) and to call it (Caller).
//
// Contract packages under internal/aws/api are generated from the AWS models. Each declares its types,
// a table of shapes that describes them, and one Op value per operation. Codecs (internal/aws/protocol) and
// validation walk the table by reflection. Two rules make that cheap: member i of a structure's
// table entry is field i of its Go struct, and every link between shapes is resolved once, at start.
package smithy

import (
	"math"
	"reflect"
	"sync"
)

// Kind is the simple or aggregate type of a shape.
type Kind uint8

// The kinds and the Go types that hold them. Structure members of simple kinds are pointers to these, except
// Blob and Document; list elements and map values are held directly.
const (
	Structure Kind = iota // struct, held by pointer as a member
	List                  // slice
	Map                   // map[string]T
	String                // string, enumerations included
	Blob                  // []byte, or io.ReadCloser if the member is streaming
	Boolean               // bool
	Integer               // int32
	Long                  // int64
	Float                 // float64; the wire keeps 32 bits
	Double                // float64
	Timestamp             // time.Time
	Document              // json.RawMessage, bytes as received
)

var kindNames = [...]string{"structure", "list", "map", "string", "blob", "boolean", "integer", "long", "float", "double", "timestamp", "document"}

func (k Kind) String() string { return kindNames[k] }

// Simple reports whether values of the kind have no parts.
func (k Kind) Simple() bool { return k > Map }

// TimestampFormat is how a timestamp is written. Zero means the default of the protocol and place.
type TimestampFormat uint8

const (
	DefaultTimestamp TimestampFormat = iota
	EpochSeconds                     // 1515531081.123
	DateTime                         // 2018-01-09T12:44:41.123Z
	HTTPDate                         // Tue, 09 Jan 2018 12:44:41 GMT
)

// Location is where a member of an operation's input or output travels in an HTTP message.
type Location uint8

const (
	InBody        Location = iota
	InURI                  // a label of the request path
	InQuery                // the query string
	InHeader               // a header
	InHeaders              // all headers with the prefix LocationName; the member is a map
	InStatusCode           // the response's status code
	InPayload              // the member is the whole body
	InEventHeader          // a header of an event stream message
	InEventBody            // the member is the whole payload of an event stream message
	InEvents               // the member is an event stream that follows the rest of the body
)

// Shape is one type of a service's model.
type Shape struct {
	Name string
	Kind Kind

	// Zero is a typed nil pointer to the Go struct of a Structure; nil for other kinds and for errors
	// that have no Go type of their own.
	Zero any

	// Members of a Structure, in the order of the Go struct's fields. In an event stream
	// members whose shape is an error have no field; they come last.
	Members []Member
	// Payload is the index of the member with location InPayload, plus one; 0 is none.
	Payload int
	Union   bool // exactly one member is set
	// EventStream marks the union of the events of a stream.
	EventStream bool

	Key, Elem Member // of a Map (both) and a List (Elem)
	Flattened bool   // XML and Query: elements without a wrapper

	// Constraints. Min and Max bound the length of strings, blobs, lists and maps and the value of numbers.
	Range   *Range
	Pattern string
	Enum    []string

	TimestampFormat TimestampFormat
	Sensitive       bool   // not to be logged
	XMLName         string // element name of a structure where it differs from what holds it
	XMLNamespace    string
	XMLPrefix       string

	Error *ErrorTrait

	typ   reflect.Type
	names sync.Once
	index map[string]int // member by Name; this and the next two are made by lookup
	wire  map[string]int // member by WireName
	query map[string]int // member by FormName
	body  bool           // some member is InBody

	declared bool // an error that some operation's model names

	constrained bool // the shape or one below it has constraints; see markConstrained
	patternOnce sync.Once
	compiled    pattern
}

// Range bounds a length or a value, inclusively. Missing bounds are NoMin and NoMax.
type Range struct{ Min, Max float64 }

const (
	NoMin = -math.MaxFloat64
	NoMax = math.MaxFloat64
)

// ErrorTrait marks a shape as an error.
type ErrorTrait struct {
	// Code is sent by the Query protocol, and by awsQueryCompatible services in a header. Empty means the shape's name.
	Code   string
	Status int  // HTTP status; 0 means 400 or 500 by the fault
	Server bool // the fault is the service's
}

// Member is one member of a structure, or the element, key or value of a list or map.
type Member struct {
	Name string
	// Ref is the index of the member's shape in the service's table; Shape is that shape once linked.
	Ref   int
	Shape *Shape

	Location     Location
	LocationName string // name on the wire where it differs from Name
	// QueryName is the name in the Query protocol where it differs from LocationName.
	QueryName string

	Required         bool
	Flattened        bool
	XMLAttribute     bool
	IdempotencyToken bool
	Streaming        bool // a Blob of any length that is not held in memory
	HostLabel        bool
	TimestampFormat  TimestampFormat // overrides the shape's
	XMLNamespace     string

	header string // canonical form of LocationName, if the location is a header
	label  string // as validation messages print the name, once the constrained shapes are marked
}

// Header is the canonical name of the HTTP header that holds the member.
func (m *Member) Header() string { return m.header }

// WireName is the member's name on the wire, in bodies and headers alike.
func (m *Member) WireName() string {
	if m.LocationName != "" {
		return m.LocationName
	}
	return m.Name
}

// FormName is the member's name in the Query protocol, in requests and responses alike.
func (m *Member) FormName() string {
	if m.QueryName != "" {
		return m.QueryName
	}
	return m.WireName()
}

// TimeFormat is the member's timestamp format, or def if the model gives none.
func (m *Member) TimeFormat(def TimestampFormat) TimestampFormat {
	if m.TimestampFormat != DefaultTimestamp {
		return m.TimestampFormat
	}
	if m.Shape.TimestampFormat != DefaultTimestamp {
		return m.Shape.TimestampFormat
	}
	return def
}

// Type is the Go type of a structure: a struct, never a pointer. It is nil for errors without one.
func (s *Shape) Type() reflect.Type { return s.typ }

// lookup makes the maps of names at the first use of any: most shapes of a service are never looked at.
func (s *Shape) lookup() {
	s.index = make(map[string]int, len(s.Members))
	wire, query := s.index, s.index
	for i := range s.Members {
		m := &s.Members[i]
		s.index[m.Name] = i
		if m.LocationName != "" {
			wire = nil
		}
		if m.LocationName != "" || m.QueryName != "" {
			query = nil
		}
	}
	if wire == nil {
		wire = make(map[string]int, len(s.Members))
		for i := range s.Members {
			wire[s.Members[i].WireName()] = i
		}
	}
	if query == nil {
		query = make(map[string]int, len(s.Members))
		for i := range s.Members {
			query[s.Members[i].FormName()] = i
		}
	}
	s.wire, s.query = wire, query
}

// Member returns the index of the member with a name in the model, or -1.
func (s *Shape) Member(name string) int {
	s.names.Do(s.lookup)
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// MemberByWire returns the index of the member with a name on the wire, or -1.
func (s *Shape) MemberByWire(name string) int {
	s.names.Do(s.lookup)
	if i, ok := s.wire[name]; ok {
		return i
	}
	return -1
}

// MemberByForm returns the index of the member with a name in the Query protocol, or -1.
func (s *Shape) MemberByForm(name string) int {
	s.names.Do(s.lookup)
	if i, ok := s.query[name]; ok {
		return i
	}
	return -1
}

// HasBody reports whether a structure has members that travel in an HTTP body together, as opposed to a payload member.
func (s *Shape) HasBody() bool { return s.body }

// PayloadMember is the member that is the whole HTTP body, and its index; nil and -1 if there is none.
func (s *Shape) PayloadMember() (*Member, int) {
	if s.Payload == 0 {
		return nil, -1
	}
	return &s.Members[s.Payload-1], s.Payload - 1
}

// StreamMember is the member of an RPC operation's input or output that is an event stream, and its index; nil and -1 if there is none.
func (s *Shape) StreamMember() (*Member, int) {
	for i := range s.Members {
		if m := &s.Members[i]; m.Shape.EventStream {
			return m, i
		}
	}
	return nil, -1
}

// New returns a pointer to a new zero value of a structure's Go type.
func (s *Shape) New() any { return reflect.New(s.typ).Interface() }

// MessageMember is the index of an error's message member, which models spell message, Message or errorMessage; -1 if there is none.
func (s *Shape) MessageMember() int {
	for _, name := range [...]string{"message", "Message", "errorMessage"} {
		if i := s.Member(name); i >= 0 {
			return i
		}
	}
	return -1
}
