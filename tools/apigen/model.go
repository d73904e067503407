package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Model is what we keep of an AWS service model: facts, no prose. Its JSON form is that of the models which AWS
// publishes with botocore, less the keys that have no field here.
type Model struct {
	Metadata   Metadata              `json:"metadata"`
	Operations map[string]*Operation `json:"operations"`
	Shapes     map[string]*Shape     `json:"shapes"`
}

type Metadata struct {
	APIVersion      string    `json:"apiVersion"`
	ServiceID       string    `json:"serviceId"`
	ServiceFullName string    `json:"serviceFullName"`
	EndpointPrefix  string    `json:"endpointPrefix"`
	SigningName     string    `json:"signingName,omitempty"`
	Protocols       []string  `json:"protocols"`
	JSONVersion     string    `json:"jsonVersion,omitempty"`
	TargetPrefix    string    `json:"targetPrefix,omitempty"`
	XMLNamespace    string    `json:"xmlNamespace,omitempty"`
	QueryCompatible *struct{} `json:"awsQueryCompatible,omitempty"`
	// HidesValues is ours: see smithy.Service.
	HidesValues bool `json:"hidesValues,omitempty"`
	// ValidationCode is the code of constraint failures where it is not the protocol's usual one.
	ValidationCode string `json:"validationCode,omitempty"`
}

type Operation struct {
	HTTP            HTTP      `json:"http"`
	Input           *Ref      `json:"input,omitempty"`
	Output          *Ref      `json:"output,omitempty"`
	Errors          []Ref     `json:"errors,omitempty"`
	Endpoint        *Endpoint `json:"endpoint,omitempty"`
	Checksum        *Checksum `json:"httpChecksum,omitempty"`
	Idempotent      bool      `json:"idempotent,omitempty"`
	ReadOnly        bool      `json:"readonly,omitempty"`
	AuthType        string    `json:"authtype,omitempty"`
	UnsignedPayload bool      `json:"unsignedPayload,omitempty"`
	Compression     *struct{} `json:"requestcompression,omitempty"`
	// UnwrappedOutput is ours: S3's GetBucketLocation answers its member as the document's root, which only the Smithy model says.
	UnwrappedOutput bool `json:"unwrappedOutput,omitempty"`
}

type HTTP struct {
	Method string `json:"method"`
	URI    string `json:"requestUri"`
	Code   int    `json:"responseCode,omitempty"`
}

type Endpoint struct {
	HostPrefix string `json:"hostPrefix"`
}

type Checksum struct {
	AlgorithmMember  string   `json:"requestAlgorithmMember,omitempty"`
	Required         bool     `json:"requestChecksumRequired,omitempty"`
	ValidationMember string   `json:"requestValidationModeMember,omitempty"`
	ResponseAlgs     []string `json:"responseAlgorithms,omitempty"`
}

// Ref refers to a shape from an operation, a member, an element, a key or a value.
type Ref struct {
	Shape            string     `json:"shape"`
	Location         string     `json:"location,omitempty"`
	LocationName     string     `json:"locationName,omitempty"`
	QueryName        string     `json:"queryName,omitempty"`
	ResultWrapper    string     `json:"resultWrapper,omitempty"`
	Flattened        bool       `json:"flattened,omitempty"`
	XMLAttribute     bool       `json:"xmlAttribute,omitempty"`
	XMLNamespace     *Namespace `json:"xmlNamespace,omitempty"`
	IdempotencyToken bool       `json:"idempotencyToken,omitempty"`
	Streaming        bool       `json:"streaming,omitempty"`
	HostLabel        bool       `json:"hostLabel,omitempty"`
	EventPayload     bool       `json:"eventpayload,omitempty"`
	EventHeader      bool       `json:"eventheader,omitempty"`
	TimestampFormat  string     `json:"timestampFormat,omitempty"`
}

type Namespace struct {
	URI    string `json:"uri"`
	Prefix string `json:"prefix,omitempty"`
}

// UnmarshalJSON accepts the object form and the bare URI.
func (n *Namespace) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &n.URI)
	}
	type plain Namespace
	return json.Unmarshal(b, (*plain)(n))
}

type Shape struct {
	Type            string      `json:"type"`
	Required        []string    `json:"required,omitempty"`
	Members         Members     `json:"members,omitzero"`
	Member          *Ref        `json:"member,omitempty"`
	Key             *Ref        `json:"key,omitempty"`
	Value           *Ref        `json:"value,omitempty"`
	Payload         string      `json:"payload,omitempty"`
	Enum            []string    `json:"enum,omitempty"`
	Min             *float64    `json:"min,omitempty"`
	Max             *float64    `json:"max,omitempty"`
	Pattern         string      `json:"pattern,omitempty"`
	Flattened       bool        `json:"flattened,omitempty"`
	Union           bool        `json:"union,omitempty"`
	Document        bool        `json:"document,omitempty"`
	Streaming       bool        `json:"streaming,omitempty"`
	Sensitive       bool        `json:"sensitive,omitempty"`
	EventStream     bool        `json:"eventstream,omitempty"`
	Event           bool        `json:"event,omitempty"`
	Exception       bool        `json:"exception,omitempty"`
	Fault           bool        `json:"fault,omitempty"`
	Error           *ErrorTrait `json:"error,omitempty"`
	TimestampFormat string      `json:"timestampFormat,omitempty"`
	LocationName    string      `json:"locationName,omitempty"`
	XMLNamespace    *Namespace  `json:"xmlNamespace,omitempty"`
}

type ErrorTrait struct {
	Code        string `json:"code,omitempty"`
	Status      int    `json:"httpStatusCode,omitempty"`
	SenderFault bool   `json:"senderFault,omitempty"`
	Fault       bool   `json:"fault,omitempty"`
}

// Members keeps the order of the model, which is the order of our structs' fields.
type Members struct {
	Names []string
	Refs  map[string]*Ref
}

// IsZero makes omitzero drop the members of what is no structure.
func (m Members) IsZero() bool { return m.Refs == nil }

// UnmarshalJSON reads an object in order. Members that are there already are changed, not replaced, so that corrections are short.
func (m *Members) UnmarshalJSON(b []byte) error {
	if m.Refs == nil {
		m.Refs = map[string]*Ref{}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		n := name.(string)
		if m.Refs[n] == nil {
			m.Refs[n] = &Ref{}
			m.Names = append(m.Names, n)
		}
		if err := d.Decode(m.Refs[n]); err != nil {
			return err
		}
	}
	return nil
}

// MarshalJSON writes the members in order.
func (m Members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, n := range m.Names {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", n, compact(m.Refs[n]))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// compact is v as JSON on one line, with < > & as they are: patterns stay readable.
func compact(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // our own types
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// format is the text of apimodels/<service>.json: one line an operation or shape, in order of names.
func (m *Model) format() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"metadata\":%s,\n\"operations\":{\n", compact(m.Metadata))
	lines(&b, m.Operations)
	b.WriteString("},\n\"shapes\":{\n")
	lines(&b, m.Shapes)
	b.WriteString("}\n}\n")
	return b.Bytes()
}

func lines[V any](b *bytes.Buffer, m map[string]V) {
	for i, n := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(b, "%q:%s", n, compact(m[n]))
	}
	b.WriteByte('\n')
}

// loadModel reads dir/<name>.json and applies what dir/corrections.json says of it: facts that the models lack, and operations to leave out.
func loadModel(dir, name string) (*Model, error) {
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		return nil, err
	}
	m := &Model{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	b, err = os.ReadFile(filepath.Join(dir, "corrections.json"))
	if err != nil {
		return nil, err
	}
	var corrections map[string]struct {
		Drop       []string // operations
		Metadata   json.RawMessage
		Operations map[string]json.RawMessage
		Shapes     map[string]json.RawMessage
	}
	if err := json.Unmarshal(b, &corrections); err != nil {
		return nil, fmt.Errorf("corrections: %w", err)
	}
	c := corrections[name]
	for _, op := range c.Drop {
		delete(m.Operations, op)
	}
	if c.Metadata != nil {
		err = json.Unmarshal(c.Metadata, &m.Metadata)
	}
	if err == nil {
		err = correct(m.Operations, c.Operations)
	}
	if err == nil {
		err = correct(m.Shapes, c.Shapes)
	}
	if err != nil {
		return nil, fmt.Errorf("corrections of %s: %w", name, err)
	}
	return m, nil
}

func correct[V any](have map[string]*V, want map[string]json.RawMessage) error {
	for name, raw := range want {
		if have[name] == nil {
			have[name] = new(V)
		}
		if err := json.Unmarshal(raw, have[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
