package smithy

import (
	"fmt"
	"net/textproto"
	"reflect"
	"slices"
	"sync"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// Protocol names a wire protocol as the AWS models do.
type Protocol string

const (
	JSON     Protocol = "json"
	Query    Protocol = "query"
	RESTJSON Protocol = "rest-json"
	RESTXML  Protocol = "rest-xml"
	CBOR     Protocol = "smithy-rpc-v2-cbor"
)

// Service is one AWS service: its names, its protocols, its shapes and operations. Immutable after NewService.
type Service struct {
	Name           string // ours and the AWS CLI's: "lambda", "logs"
	ID             string // "CloudWatch Logs"
	APIVersion     string // "2015-03-31"
	SigningName    string // service in the SigV4 credential scope
	EndpointPrefix string // first label of AWS's host name; differs from SigningName for "monitoring"
	Protocols      []Protocol
	JSONVersion    string // "1.0" or "1.1"
	TargetPrefix   string // of the X-Amz-Target header, and the service's name in CBOR paths
	XMLNamespace   string
	// QueryCompatible services moved from Query to another protocol and keep their old error codes in a header.
	QueryCompatible bool
	// ValidationCode is the code of constraint failures: ValidationException, or ValidationError for Query services.
	ValidationCode string
	// HidesValues keeps the offending value out of the messages of constraint failures, as IAM does.
	HidesValues bool

	Shapes []Shape
	Ops    []OpInfo

	shapes map[string]*Shape
	ops    map[string]*OpInfo
	errors map[string]*Shape
	once   sync.Once // markConstrained
}

// OpInfo describes one operation.
type OpInfo struct {
	Service *Service
	Name    string

	// Method, URI and Code are the REST binding. URI may hold labels ({Name}, greedy {Name+}) and query literals.
	Method, URI string
	Code        int // status of success

	// InRef and OutRef are indexes of the input's and output's shapes in the service's table, ErrRefs those of its errors.
	InRef, OutRef int
	ErrRefs       []int
	Input, Output *Shape
	Errors        []*Shape

	InputName      string // XML root of the input where it differs from the shape's name
	InputNamespace string
	ResultWrapper  string // Query: element around the output
	Unwrapped      bool   // REST XML: the output's only member is the document's root
	HostPrefix     string // "stream-": clients put it before the host name
	Idempotent     bool
	ReadOnly       bool
	NoAuth         bool // called without a signature, such as sts:AssumeRoleWithWebIdentity
	UnsignedBody   bool // the signature does not cover the body
	Compressible   bool // clients may send the body with Content-Encoding gzip
	Checksum       *Checksum
}

// Checksum is the flexible checksum trait of an operation: names of members and algorithms.
type Checksum struct {
	AlgorithmMember  string // request: which algorithm the client used
	Required         bool
	ValidationMember string // request: asks for a checksum in the response
	ResponseAlgs     []string
}

// NewInput returns a pointer to a new zero input.
func (op *OpInfo) NewInput() any { return op.Input.New() }

// NewOutput returns a pointer to a new zero output.
func (op *OpInfo) NewOutput() any { return op.Output.New() }

// Action is the operation's name as IAM policies and people write it: "lambda:CreateFunction".
func (op *OpInfo) Action() string { return op.Service.Name + ":" + op.Name }

// String is Action.
func (op *OpInfo) String() string { return op.Action() }

// NewService links the tables of svc: references become pointers, Go types are attached and checked. It is
// called once by each generated package, and panics on a table that does not fit its Go types.
func NewService(svc *Service) *Service {
	svc.shapes = make(map[string]*Shape, len(svc.Shapes))
	svc.ops = make(map[string]*OpInfo, len(svc.Ops))
	svc.errors = map[string]*Shape{}
	for i := range svc.Shapes {
		sh := &svc.Shapes[i]
		svc.shapes[sh.Name] = sh
		svc.link(sh)
		if sh.Error != nil {
			svc.errors[sh.Name] = sh
		}
	}
	// Names win over codes: two shapes may share one old code.
	for i := range svc.Shapes {
		if sh := &svc.Shapes[i]; sh.Error != nil && sh.Error.Code != "" && svc.errors[sh.Error.Code] == nil {
			svc.errors[sh.Error.Code] = sh
		}
	}
	for i := range svc.Ops {
		op := &svc.Ops[i]
		op.Service = svc
		op.Input, op.Output = &svc.Shapes[op.InRef], &svc.Shapes[op.OutRef]
		for _, r := range op.ErrRefs {
			op.Errors = append(op.Errors, &svc.Shapes[r])
			svc.Shapes[r].declared = true
		}
		svc.ops[op.Name] = op
	}
	return svc
}

func (svc *Service) link(sh *Shape) {
	switch sh.Kind {
	case List, Map:
		sh.Elem.Shape = &svc.Shapes[sh.Elem.Ref]
		if sh.Kind == Map {
			sh.Key.Shape = &svc.Shapes[sh.Key.Ref]
		}
		return
	case Structure:
	default:
		return
	}
	fields := 0
	for i := range sh.Members {
		m := &sh.Members[i]
		m.Shape = &svc.Shapes[m.Ref]
		if m.Shape.EventStream && m.Location == InBody {
			m.Location = InEvents
		}
		switch m.Location {
		case InHeader:
			m.header = textproto.CanonicalMIMEHeaderKey(m.WireName())
		case InBody:
			sh.body = true
		}
		if !sh.EventStream || m.Shape.Error == nil {
			fields++
		}
	}
	if sh.Zero == nil {
		return
	}
	sh.typ = reflect.TypeOf(sh.Zero).Elem()
	if sh.typ.NumField() != fields {
		panic(fmt.Sprintf("smithy: %s.%s has %d members and its Go type %d fields", svc.Name, sh.Name, fields, sh.typ.NumField()))
	}
}

// Op returns the operation with a name, or nil.
func (svc *Service) Op(name string) *OpInfo { return svc.ops[name] }

// Shape returns the shape with a name, or nil.
func (svc *Service) Shape(name string) *Shape { return svc.shapes[name] }

// ErrorShape returns the error shape with a name or, failing that, a Query code; or nil.
func (svc *Service) ErrorShape(code string) *Shape { return svc.errors[code] }

// Declared reports whether a shape is an error that the model of some operation names. Corrections add others, which services answer without a word
// of them in their models.
func (sh *Shape) Declared() bool { return sh.declared }

// Speaks reports whether the service serves a protocol. QueryCompatible services serve Query too.
func (svc *Service) Speaks(p Protocol) bool {
	return slices.Contains(svc.Protocols, p) || p == Query && svc.QueryCompatible
}

// Err returns an error with the code, status, fault and constant members of the error shape with a name, and
// panics if the service has no such shape: generated constructors are its only callers.
func (svc *Service) Err(name, format string, args ...any) *apierr.Error {
	sh := svc.errors[name]
	e := apierr.New(name, sh.Error.Status, format, args...)
	if sh.Error.Server {
		e.Fault = apierr.Server
	}
	// Lambda's errors, and no others, say who is to blame in a member of their own.
	if sh.Member("Type") >= 0 {
		e.Members = map[string]any{"Type": "User"}
		if sh.Error.Server {
			e.Members["Type"] = "Service"
		}
	}
	return e
}
