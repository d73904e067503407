package protocol_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/protocol"
)

// notBotocore are operations and members that botocore's model has otherwise: deprecated doubles that our contracts drop, checksums of messages that it
// verifies, and what our models correct.
var notBotocore = regexp.MustCompile(`\b(GetBucketLifecycle|PutBucketLifecycle|GetBucketNotification|PutBucketNotification|ListDirectoryBuckets|CreateSession|WriteGetObjectResponse` +
	`|ReceiveMessage|SendMessage|SendMessageBatch|PartNumberMarker|Expires)\b`)

// TestBotocore has botocore, the client of the AWS CLI and boto3, call every operation of every service, and looks at what it makes of our answers.
func TestBotocore(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	if err := exec.Command("python3", "-c", "import botocore").Run(); err != nil {
		t.Skip("python3 with botocore is missing")
	}
	router := protocol.NewRouter(services...)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("X-Operation")
		req := protocol.NewRequest(r)
		req.Body, _ = io.ReadAll(r.Body)
		signing := ""
		if scope := strings.Split(r.Header.Get("Authorization"), "/"); len(scope) > 3 {
			signing = scope[3]
		}
		call, err := router.Match(req, signing)
		if err == nil {
			if call.Op.Name != name && !notBotocore.MatchString(name) {
				t.Errorf("%s matched %s", name, call.Op)
			}
			if err = call.Decode(call.Op.NewInput()); err == nil {
				out := call.Op.NewOutput()
				fill(out, call.Op.Output)
				_ = call.Encode(out, "id").WriteTo(w)
				return
			}
		}
		if !notBotocore.MatchString(name) {
			t.Errorf("%s: %s %s: %v", name, r.Method, r.URL, err)
		}
		_ = call.EncodeError(err, "id").WriteTo(w)
	}))
	defer s.Close()
	args := []string{"testdata/call_all.py", s.URL}
	for _, svc := range services {
		args = append(args, svc.Name)
	}
	out, err := exec.CommandContext(t.Context(), "python3", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if !notBotocore.MatchString(line) {
			t.Error(line)
		}
	}
}
