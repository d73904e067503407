package protocol

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// Router finds the service, protocol and operation of a request. It is immutable, and safe for concurrent use.
type Router struct {
	services []*smithy.Service
	signing  map[string][]*smithy.Service // by the name in the credential scope
	target   map[string]*smithy.Service   // by X-Amz-Target's prefix, which is also the name in CBOR paths
	rest     []restRoutes
}

// restRoutes are the routes of one REST service.
type restRoutes struct {
	svc   *smithy.Service
	codec Codec
	root  *routeNode
	greed bool // some route begins with a label: the service could be meant by any path
}

// NewRouter returns a router over services.
func NewRouter(services ...*smithy.Service) *Router {
	r := &Router{services: services, signing: map[string][]*smithy.Service{}, target: map[string]*smithy.Service{}}
	for _, svc := range services {
		r.signing[svc.SigningName] = append(r.signing[svc.SigningName], svc)
		if svc.TargetPrefix != "" {
			r.target[svc.TargetPrefix] = svc
		}
		for _, p := range [...]smithy.Protocol{smithy.RESTJSON, smithy.RESTXML} {
			if svc.Speaks(p) {
				r.rest = append(r.rest, compileRoutes(svc, CodecFor(svc, p)))
			}
		}
	}
	// Services with buckets in the path come last: without a signing name any path could be theirs.
	slices.SortStableFunc(r.rest, func(a, b restRoutes) int {
		switch {
		case a.greed == b.greed:
			return 0
		case a.greed:
			return 1
		}
		return -1
	})
	return r
}

// Services are the services that the router knows.
func (r *Router) Services() []*smithy.Service { return r.services }

// BySigningName returns the services with a name in the SigV4 credential scope: none, one, or a few that share it, as DynamoDB and its streams do.
func (r *Router) BySigningName(name string) []*smithy.Service { return r.signing[name] }

// Match finds what a request asks for. signingName is the service in the credential scope of its signature, or "" for a request without one. A form
// (Request.IsForm) must come with its body; of others only method, path, query and headers are looked at.
//
// The Call is never nil: with an error it holds at least the codec that writes that error as the client expects, and the service if that is
// known. The error is an *apierr.Error: UnknownOperationException, InvalidAction, or NotImplemented for a service that is not served.
func (r *Router) Match(req *Request, signingName string) (*Call, error) {
	candidates := r.services
	if signingName != "" {
		if candidates = r.signing[signingName]; candidates == nil {
			codec := guessCodec(req)
			if signingName == "s3" {
				codec = restXML{} // nothing in its requests shows that XML is expected
			}
			return &Call{Codec: codec, Request: req},
				apierr.New("NotImplemented", http.StatusNotImplemented, "Mayfly does not serve the service %s yet.", signingName)
		}
	}
	// The order: what only one protocol has, first.
	if name, op, ok := cborPath(req); ok {
		return r.matchCBOR(req, candidates, name, op)
	}
	if target := req.Header.Get("X-Amz-Target"); target != "" {
		return r.matchTarget(req, candidates, target)
	}
	if call, err := r.matchQuery(req, candidates); call != nil {
		return call, err
	}
	return r.matchREST(req, candidates)
}

// guessCodec is the codec for errors of requests whose service is unknown.
func guessCodec(req *Request) Codec {
	switch mt := mediaType(req.Header.Get("Content-Type")); {
	case req.Header.Get("Smithy-Protocol") == "rpc-v2-cbor" || mt == cborType:
		return rpcCBOR{}
	case req.Header.Get("X-Amz-Target") != "" || strings.HasPrefix(mt, "application/x-amz-json"):
		return targetCodec(mt)
	case req.IsForm():
		return awsQuery{}
	case mt == "application/xml" || mt == "text/xml":
		return restXML{}
	}
	return restJSON{}
}

// targetCodec is the codec of a request that names its operation in X-Amz-Target.
func targetCodec(mediaType string) Codec {
	if mediaType == targetCBORType {
		return targetCBOR{}
	}
	return awsJSON{jsonVersion(mediaType)}
}

func jsonVersion(mediaType string) string {
	if mediaType == "application/x-amz-json-1.1" {
		return "1.1"
	}
	return "1.0"
}

// cborPath takes apart /service/X/operation/Y, which any prefix may precede.
func cborPath(req *Request) (service, op string, ok bool) {
	if req.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" || req.Method != http.MethodPost {
		return "", "", false
	}
	parts := strings.Split(req.Path, "/")
	n := len(parts)
	if n < 5 || parts[n-4] != "service" || parts[n-2] != "operation" {
		return "", "", false
	}
	// The service may be given with its namespace.
	return parts[n-3][strings.LastIndexByte(parts[n-3], '.')+1:], parts[n-1], true
}

func (r *Router) matchCBOR(req *Request, candidates []*smithy.Service, name, op string) (*Call, error) {
	call := &Call{Codec: rpcCBOR{}, Request: req}
	svc := r.target[name]
	if svc == nil || !svc.Speaks(smithy.CBOR) || !slices.Contains(candidates, svc) {
		return call, unknownOperation()
	}
	call.Service = svc
	if call.Op = svc.Op(op); call.Op == nil {
		return call, unknownOperation()
	}
	return call, nil
}

func (r *Router) matchTarget(req *Request, candidates []*smithy.Service, target string) (*Call, error) {
	call := &Call{Codec: targetCodec(mediaType(req.Header.Get("Content-Type"))), Request: req}
	prefix, op, _ := strings.Cut(target, ".")
	svc := r.target[prefix]
	if svc == nil || !svc.Speaks(smithy.JSON) || !slices.Contains(candidates, svc) {
		return call, unknownOperation()
	}
	call.Service = svc
	if call.Op = svc.Op(op); call.Op == nil {
		return call, unknownOperation()
	}
	return call, nil
}

// matchQuery returns nil if the request is not Query's.
func (r *Router) matchQuery(req *Request, candidates []*smithy.Service) (*Call, error) {
	if !slices.ContainsFunc(candidates, func(s *smithy.Service) bool { return s.Speaks(smithy.Query) }) {
		return nil, nil
	}
	if !req.IsForm() && !strings.Contains(req.Query, "Action=") {
		return nil, nil
	}
	call := &Call{Codec: queryCodec(req), Request: req}
	form, err := req.form()
	if err != nil {
		return call, malformedInput("The form is malformed.").Because(err)
	}
	action, version := form.Get("Action"), form.Get("Version")
	if action == "" {
		if len(candidates) > 1 { // curl's default Content-Type is a form's, whatever is posted
			return nil, nil
		}
		call.Service = candidates[0]
		return call, apierr.New("MissingAction", http.StatusBadRequest, "The request is missing an action or a required parameter.")
	}
	for _, svc := range candidates {
		if !svc.Speaks(smithy.Query) || version != "" && version != svc.APIVersion {
			continue
		}
		if op := svc.Op(action); op != nil {
			call.Service, call.Op = svc, op
			return call, nil
		}
		call.Service = svc
	}
	if call.Service == nil && len(candidates) == 1 {
		call.Service = candidates[0]
	}
	return call, apierr.New("InvalidAction", http.StatusBadRequest, "Could not find operation %s for version %s", action, versionOr(version))
}

func versionOr(v string) string {
	if v == "" {
		return "NO_VERSION_SPECIFIED"
	}
	return v
}

func (r *Router) matchREST(req *Request, candidates []*smithy.Service) (*Call, error) {
	call := &Call{Codec: guessCodec(req), Request: req}
	for i := range r.rest {
		rr := &r.rest[i]
		if !slices.Contains(candidates, rr.svc) {
			continue
		}
		if len(candidates) == 1 {
			call.Service, call.Codec = rr.svc, rr.codec
		}
		if op, labels := rr.match(req); op != nil {
			req.labels = labels
			return &Call{Service: rr.svc, Op: op, Codec: rr.codec, Request: req}, nil
		}
	}
	if call.Service == nil && len(candidates) == 1 {
		call.Service = candidates[0]
		call.Codec = CodecFor(call.Service, call.Service.Protocols[0])
		if call.Service.QueryCompatible && !strings.HasPrefix(mediaType(req.Header.Get("Content-Type")), "application/x-amz-json") {
			call.Codec = awsQuery{}
		}
	}
	return call, unknownOperation()
}

// unknownOperation is the answer of every AWS front end but Query's to what it can not route.
func unknownOperation() *apierr.Error {
	return apierr.New("UnknownOperationException", http.StatusNotFound, "")
}

// routeNode is one segment of the trie of a service's URIs.
type routeNode struct {
	literal map[string]*routeNode
	label   *routeNode // {Name}
	greedy  *routeNode // {Name+}: the rest of the path
	routes  []route    // that end here, the ones with most query literals first
}

type route struct {
	op     *smithy.OpInfo
	labels []string // names in order of the path
	query  [][2]string
}

func compileRoutes(svc *smithy.Service, codec Codec) restRoutes {
	rr := restRoutes{svc: svc, codec: codec, root: &routeNode{}}
	for i := range svc.Ops {
		op := &svc.Ops[i]
		path, query, _ := strings.Cut(op.URI, "?")
		rt := route{op: op}
		n := rr.root.child(op.Method) // the method is the first segment
		for j, seg := range segments(path) {
			switch {
			case strings.HasSuffix(seg, "+}"):
				rt.labels = append(rt.labels, seg[1:len(seg)-2])
				if n.greedy == nil {
					n.greedy = &routeNode{}
				}
				n = n.greedy
			case strings.HasPrefix(seg, "{"):
				rr.greed = rr.greed || j == 0
				rt.labels = append(rt.labels, seg[1:len(seg)-1])
				if n.label == nil {
					n.label = &routeNode{}
				}
				n = n.label
			default:
				n = n.child(seg)
			}
		}
		for _, q := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' }) {
			k, v, _ := strings.Cut(q, "=")
			rt.query = append(rt.query, [2]string{k, v})
		}
		n.routes = append(n.routes, rt)
	}
	rr.root.sort()
	return rr
}

func (n *routeNode) child(seg string) *routeNode {
	if n.literal == nil {
		n.literal = map[string]*routeNode{}
	}
	if n.literal[seg] == nil {
		n.literal[seg] = &routeNode{}
	}
	return n.literal[seg]
}

func (n *routeNode) sort() {
	if n == nil {
		return
	}
	// Many literals first. Of as many, the operation with most required parameters in the query.
	slices.SortStableFunc(n.routes, func(a, b route) int {
		if d := len(b.query) - len(a.query); d != 0 {
			return d
		}
		return requiredQuery(b.op) - requiredQuery(a.op)
	})
	for _, c := range n.literal {
		c.sort()
	}
	n.label.sort()
	n.greedy.sort()
}

func requiredQuery(op *smithy.OpInfo) (n int) {
	for i := range op.Input.Members {
		if m := &op.Input.Members[i]; m.Required && (m.Location == smithy.InQuery || m.Location == smithy.InHeader) {
			n++
		}
	}
	return n
}

// segments splits a path. A slash at the end makes no segment of its own.
func segments(path string) []string {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// match finds the operation of a method, path and query.
func (rr *restRoutes) match(req *Request) (*smithy.OpInfo, []label) {
	n := rr.root.literal[req.Method]
	if n == nil {
		return nil, nil
	}
	m := matcher{query: req.Query, header: req.Header}
	rt := m.walk(n, strings.TrimPrefix(req.Path, "/"))
	if rt == nil {
		return nil, nil
	}
	labels := make([]label, len(rt.labels))
	for i, name := range rt.labels {
		v, err := url.PathUnescape(m.labels[i])
		if err != nil {
			return nil, nil
		}
		labels[i] = label{name, v}
	}
	return rt.op, labels
}

type matcher struct {
	query  string
	header http.Header
	params url.Values // query, once parsed
	labels []string   // of the way taken, still escaped
}

// walk tries literals before labels before greedy labels, and goes back where one leads nowhere. rest is the path from here on.
func (m *matcher) walk(n *routeNode, rest string) *route {
	if rest == "" {
		return m.pick(n)
	}
	seg, tail, _ := strings.Cut(rest, "/")
	if c := n.literal[seg]; c != nil {
		if rt := m.walk(c, tail); rt != nil {
			return rt
		}
	}
	mark := len(m.labels)
	if n.label != nil && seg != "" {
		m.labels = append(m.labels, seg)
		if rt := m.walk(n.label, tail); rt != nil {
			return rt
		}
		m.labels = m.labels[:mark]
	}
	if n.greedy != nil {
		m.labels = append(m.labels, rest)
		if rt := m.pick(n.greedy); rt != nil {
			return rt
		}
		m.labels = m.labels[:mark]
	}
	return nil
}

// pick is the first route that ends at n and whose query fits. Where routes share their literals, the one whose required parameters are all there.
func (m *matcher) pick(n *routeNode) *route {
	if len(n.routes) == 1 && len(n.routes[0].query) == 0 {
		return &n.routes[0]
	}
	if m.params == nil {
		m.params, _ = url.ParseQuery(m.query) // what is malformed does not match
	}
	var fallback *route
	for i := range n.routes {
		rt := &n.routes[i]
		if !m.fits(rt) {
			continue
		}
		if m.complete(rt.op) {
			return rt
		}
		if fallback == nil || len(rt.query) == len(fallback.query) {
			fallback = rt // the last of them asks for least
		}
	}
	return fallback
}

func (m *matcher) fits(rt *route) bool {
	for _, q := range rt.query {
		vs, ok := m.params[q[0]]
		if !ok || q[1] != "" && !slices.Contains(vs, q[1]) {
			return false
		}
	}
	return true
}

// complete reports whether the required members in the query and headers are all there: S3 tells UploadPart from PutObject that way.
func (m *matcher) complete(op *smithy.OpInfo) bool {
	for i := range op.Input.Members {
		mem := &op.Input.Members[i]
		if !mem.Required {
			continue
		}
		switch mem.Location {
		case smithy.InQuery:
			if _, ok := m.params[mem.WireName()]; !ok {
				return false
			}
		case smithy.InHeader:
			if len(m.header[mem.Header()]) == 0 {
				return false
			}
		}
	}
	return true
}
