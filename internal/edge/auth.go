package edge

import (
	"errors"
	"net/http"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

// authenticate finds out who sent r and writes account, region and principal into info. It returns the secret with which
// the signature must be verified once the body is there; none in development mode, where nothing is verified.
func (e *Edge) authenticate(r *http.Request, info *call.Info, sig *sigv4.Signature, parseErr error) (secret string, err error) {
	if e.opts.Dev {
		e.authenticateDev(r, info, sig)
		return "", nil
	}
	rules := sigv4.RulesFor(sig.Service)
	if !regionForm(info.Region) {
		info.Region = e.opts.Root.Region
		rules.Region = info.Region // sig.Region differs, and is named in the error
	}
	if parseErr != nil {
		return "", parseErr
	}
	if err := sig.Check(info.Time, rules); err != nil {
		return "", err
	}
	key, err := e.opts.Keys.Find(r.Context(), sig.AccessKeyID, sig.SessionToken)
	if err != nil {
		return "", err
	}
	if key.Secret == "" { // would verify nothing
		return "", credential.ErrUnknownKey
	}
	info.Account, info.Principal = key.Account, key.Principal
	return key.Secret, nil
}

// isMissing reports whether err says that there is no signature at all.
func isMissing(err error) bool {
	e, ok := errors.AsType[*sigv4.Error](err)
	return ok && e.Kind == sigv4.Missing
}

// authenticateDev accepts everyone: those whom it knows as who they are, others as root.
func (e *Edge) authenticateDev(r *http.Request, info *call.Info, sig *sigv4.Signature) {
	if !regionForm(info.Region) {
		info.Region = e.opts.Root.Region
	}
	if sig.AccessKeyID != "" {
		if key, err := e.opts.Keys.Find(r.Context(), sig.AccessKeyID, sig.SessionToken); err == nil {
			info.Account, info.Principal = key.Account, key.Principal
			return
		}
	}
	if isAccount(sig.AccessKeyID) {
		info.Account = sig.AccessKeyID
	}
	info.Principal = credential.RootPrincipal(info.Account, sig.AccessKeyID)
}

func isAccount(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == 12
}

// A family is a group of services that name the same faults the same way.
type family int

const (
	jsonFamily family = iota // AWS JSON and CBOR
	restFamily               // REST JSON, and REST XML other than S3
	queryFamily
	s3Family
)

var restCodecs = [...]protocol.Codec{protocol.CodecFor(&smithy.Service{}, smithy.RESTJSON), protocol.CodecFor(&smithy.Service{}, smithy.RESTXML)}

func familyOf(c *protocol.Call) family {
	switch {
	case isS3(c):
		return s3Family
	case protocol.IsQuery(c.Codec):
		return queryFamily
	case c.Codec == restCodecs[0], c.Codec == restCodecs[1]:
		return restFamily
	}
	return jsonFamily
}

func isS3(c *protocol.Call) bool { return c.Service != nil && c.Service.SigningName == "s3" }

// A fault is an authentication error in the words of each family. An empty message is the error's own.
type fault struct {
	code   string // with "Exception" as JSON and REST have it
	query  string // code in Query, without it
	status int    // in REST and Query; JSON services answer 400 to everything
	s3     s3Fault
	text   string // in all but S3
}

type s3Fault struct {
	code    string
	status  int
	message string
}

const (
	unrecognizedClient = "UnrecognizedClientException"
	invalidSignature   = "InvalidSignatureException"
	incompleteAuth     = "IncompleteSignatureException"
)

var (
	invalidFault = fault{invalidSignature, "SignatureDoesNotMatch", 403, s3Fault{"AuthorizationHeaderMalformed", 400, ""}, ""}
	clockFault   = fault{invalidSignature, "SignatureDoesNotMatch", 403, s3Fault{"RequestTimeTooSkewed", 403, "The difference between the request time and the current time is too large."}, ""}

	unknownKeyFault = fault{unrecognizedClient, "InvalidClientTokenId", 403,
		s3Fault{"InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."}, "The security token included in the request is invalid."}
	invalidTokenFault = fault{unrecognizedClient, "InvalidClientTokenId", 403,
		s3Fault{"InvalidToken", 400, "The provided token is malformed or otherwise invalid."}, "The security token included in the request is invalid."}
	expiredTokenFault = fault{"ExpiredTokenException", "ExpiredToken", 403,
		s3Fault{"ExpiredToken", 400, "The provided token has expired."}, "The security token included in the request is expired"}
)

// faults are the words for each kind of signature error.
var faults = map[sigv4.Kind]fault{
	sigv4.Missing:         {"MissingAuthenticationTokenException", "MissingAuthenticationToken", 403, s3Fault{"AccessDenied", 403, "Access Denied"}, ""},
	sigv4.Incomplete:      {incompleteAuth, "IncompleteSignature", 403, s3Fault{"AuthorizationHeaderMalformed", 400, ""}, ""},
	sigv4.Invalid:         invalidFault,
	sigv4.Expired:         clockFault,
	sigv4.NotYetValid:     clockFault,
	sigv4.URLExpired:      {invalidSignature, "SignatureDoesNotMatch", 403, s3Fault{"AccessDenied", 403, "Request has expired"}, ""},
	sigv4.BadExpires:      {incompleteAuth, "IncompleteSignature", 403, s3Fault{"AuthorizationQueryParametersError", 400, ""}, ""},
	sigv4.Mismatch:        {invalidSignature, "SignatureDoesNotMatch", 403, s3Fault{"SignatureDoesNotMatch", 403, "The request signature we calculated does not match the signature you provided. Check your key and signing method."}, ""},
	sigv4.UnsignedHeaders: {invalidSignature, "SignatureDoesNotMatch", 403, s3Fault{"AccessDenied", 403, ""}, ""},
	sigv4.ContentMismatch: {invalidSignature, "SignatureDoesNotMatch", 403, s3Fault{"XAmzContentSHA256Mismatch", 400, ""}, ""},
	sigv4.IncompleteBody:  {"IncompleteBody", "IncompleteBody", 400, s3Fault{"IncompleteBody", 400, ""}, ""},
	sigv4.Unsupported:     {incompleteAuth, "IncompleteSignature", 400, s3Fault{"InvalidRequest", 400, ""}, ""},
}

// protocolError turns any error from before the gate into the coded error that the client of c expects.
func protocolError(c *protocol.Call, err error) *apierr.Error {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		a := faults[e.Kind].of(familyOf(c), e.Message)
		if e.Kind == sigv4.Missing && a.Code == "MissingAuthenticationToken" {
			a.Message = "Request is missing Authentication Token"
		}
		if e.Kind == sigv4.Mismatch && e.StringToSign != "" {
			a.Cause = errors.New("canonical request:\n" + e.CanonicalRequest + "\nstring to sign:\n" + e.StringToSign)
		}
		return a
	}
	switch {
	case errors.Is(err, credential.ErrUnknownKey):
		return unknownKeyFault.of(familyOf(c), "")
	case errors.Is(err, credential.ErrInvalidToken):
		return invalidTokenFault.of(familyOf(c), "")
	case errors.Is(err, credential.ErrExpiredToken):
		return expiredTokenFault.of(familyOf(c), "")
	}
	return apierr.From(err)
}

func (f fault) of(family family, message string) *apierr.Error {
	if f.text != "" {
		message = f.text
	}
	switch family {
	case jsonFamily:
		return &apierr.Error{Code: f.code, Status: http.StatusBadRequest, Message: message}
	case queryFamily:
		return &apierr.Error{Code: f.query, Status: f.status, Message: message}
	case s3Family:
		if f.s3.message != "" {
			message = f.s3.message
		}
		return &apierr.Error{Code: f.s3.code, Status: f.s3.status, Message: message}
	}
	return &apierr.Error{Code: f.code, Status: f.status, Message: message}
}
