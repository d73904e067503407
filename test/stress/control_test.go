package stress

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// control is what a client of the control plane was told, by its own counting.
type control struct {
	mu       sync.Mutex
	versions map[string]string // number to Description
	layers   map[int64]string  // number to CodeSha256
	aliases  map[string]string // name to version
	allowed  undecided[bool]   // whether the user may look at the function
	wanted   undecided[int32]  // provisioned environments, 0 for none
}

// undecided is a value that was acknowledged, and if the server died over a change the value that may have taken its place.
type undecided[T comparable] struct {
	acknowledged, next T
	changing           bool
}

func (u *undecided[T]) may(is T) bool {
	return is == u.acknowledged || u.changing && is == u.next
}

// change notes what happens to u when do changes it to next.
func (c *control) change(do func() error, begin, acknowledge func()) error {
	c.mu.Lock()
	begin()
	c.mu.Unlock()
	err := do()
	if err == nil {
		c.mu.Lock()
		acknowledge()
		c.mu.Unlock()
	}
	return err
}

// TestControlPlaneSurvivesKills kills the server again and again while versions, layers and aliases are made, provisioned concurrency
// changes and policies come and go. What was acknowledged is there and enforced, and what is there is whole.
func TestControlPlaneSurvivesKills(t *testing.T) {
	needSandboxes(t)
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	s := newInstance(t)
	f := provided
	f.files, f.timeout = map[string][]byte{"bootstrap": bootstrap}, 10
	c := &control{versions: map[string]string{}, layers: map[int64]string{}, aliases: map[string]string{}}
	var key credentials.StaticCredentialsProvider
	for round := range rounds {
		s.start()
		if round == 0 {
			key = s.prepare(f)
		}
		s.checkControl(c, key)
		var dead atomic.Bool
		var wg sync.WaitGroup
		client := func(f func(n int)) {
			wg.Go(func() {
				for n := 0; !dead.Load(); n++ {
					f(n)
				}
			})
		}
		ctx := t.Context()
		client(func(n int) {
			description := fmt.Sprintf("%d-%d", round, n)
			if _, err := s.lambda().UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: new("versions"), Description: &description}); err != nil {
				return
			}
			s.updated(ctx, "versions")
			if out, err := s.lambda().PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: new("versions")}); err == nil {
				c.mu.Lock()
				c.versions[*out.Version] = *out.Description
				c.mu.Unlock()
			}
		})
		client(func(n int) {
			content := layerArchive(fmt.Sprintf("%d-%d", round, n))
			if out, err := s.lambda().PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{LayerName: new("layer"), Content: &types.LayerVersionContentInput{ZipFile: content}}); err == nil {
				c.mu.Lock()
				c.layers[out.Version] = *out.Content.CodeSha256
				c.mu.Unlock()
			}
		})
		client(func(n int) {
			name := fmt.Sprintf("a%d-%d", round, n)
			if out, err := s.lambda().CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: new("stable"), Name: &name, FunctionVersion: new("1")}); err == nil {
				c.mu.Lock()
				c.aliases[name] = *out.FunctionVersion
				c.mu.Unlock()
			}
		})
		client(func(int) { s.alternate(ctx, c) })
		client(func(int) { s.provision(ctx, c) })
		time.Sleep(time.Duration(500+rand.N(1500)) * time.Millisecond)
		s.kill()
		dead.Store(true)
		wg.Wait()
	}
	s.start()
	s.checkControl(c, key)
	t.Logf("%d kills; acknowledged %d versions, %d layer versions, %d aliases", rounds, len(c.versions), len(c.layers), len(c.aliases))
	if len(c.versions) == 0 || len(c.layers) == 0 || len(c.aliases) == 0 {
		t.Error("nothing was at stake")
	}
	s.stop()
	s.awaitNothing(s.pids)
}

// prepare makes the functions and the user of the test, and returns the user's key.
func (s *instance) prepare(f function) credentials.StaticCredentialsProvider {
	s.t.Helper()
	ctx := s.t.Context()
	s.create("versions", f)
	s.create("stable", f)
	must := func(err error) {
		if err != nil {
			s.t.Helper()
			s.t.Fatal(err)
		}
	}
	_, err := s.lambda().PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: new("stable")})
	must(err)
	_, err = s.lambda().CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: new("stable"), Name: new("live"), FunctionVersion: new("1")})
	must(err)
	c := iam.NewFromConfig(s.config)
	_, err = c.CreateUser(ctx, &iam.CreateUserInput{UserName: new("someone")})
	must(err)
	out, err := c.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: new("someone")})
	must(err)
	return credentials.NewStaticCredentialsProvider(*out.AccessKey.AccessKeyId, *out.AccessKey.SecretAccessKey, "")
}

// alternate gives the user a permission, or takes it away.
func (s *instance) alternate(ctx context.Context, c *control) {
	on := !c.allowed.acknowledged
	c.change(func() (err error) {
		client := iam.NewFromConfig(s.config)
		if on {
			_, err = client.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: new("someone"), PolicyName: new("p"), PolicyDocument: new(
				`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:GetFunctionConfiguration","Resource":"*"}}`)})
			return err
		}
		_, err = client.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: new("someone"), PolicyName: new("p")})
		return err
	}, func() { c.allowed.next, c.allowed.changing = on, true }, func() { c.allowed = undecided[bool]{acknowledged: on} })
}

// provision asks for another number of provisioned environments, or none.
func (s *instance) provision(ctx context.Context, c *control) {
	n := (c.wanted.acknowledged + 1) % 3
	c.change(func() (err error) {
		if n > 0 {
			_, err = s.lambda().PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: new("stable"), Qualifier: new("live"), ProvisionedConcurrentExecutions: &n})
			return err
		}
		_, err = s.lambda().DeleteProvisionedConcurrencyConfig(ctx, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: new("stable"), Qualifier: new("live")})
		return err
	}, func() { c.wanted.next, c.wanted.changing = n, true }, func() { c.wanted = undecided[int32]{acknowledged: n} })
	time.Sleep(time.Duration(rand.N(300)) * time.Millisecond) // environments get anywhere from nowhere to ready
}

// checkControl looks at everything that was acknowledged, and at everything that is there.
func (s *instance) checkControl(c *control, key credentials.StaticCredentialsProvider) {
	s.t.Helper()
	ctx := s.t.Context()
	s.checkVersions(ctx, c)
	s.checkLayers(ctx, c)

	aliases := map[string]string{}
	for p := lambda.NewListAliasesPaginator(s.lambda(), &lambda.ListAliasesInput{FunctionName: new("stable")}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, a := range page.Aliases {
			aliases[*a.Name] = *a.FunctionVersion
		}
	}
	for name, version := range c.aliases {
		if aliases[name] != version {
			s.t.Errorf("alias %s is of %q, acknowledged was %s", name, aliases[name], version)
		}
	}

	user := s.config
	user.Credentials = key
	_, err := lambda.NewFromConfig(user).GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: new("stable")})
	if allowed := err == nil; !c.allowed.may(allowed) || !allowed && code(err) != "AccessDeniedException" {
		s.t.Errorf("the user may: %v (%v); acknowledged was %+v", allowed, err, c.allowed)
	}
	c.allowed = undecided[bool]{acknowledged: err == nil}

	var got int32
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, err := s.lambda().GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: new("stable"), Qualifier: new("live")})
		if code(err) == "ProvisionedConcurrencyConfigNotFoundException" {
			break
		}
		if err != nil {
			s.t.Error("provisioned concurrency:", err)
			break
		}
		if got = *out.RequestedProvisionedConcurrentExecutions; out.Status == types.ProvisionedConcurrencyStatusEnumReady && *out.AllocatedProvisionedConcurrentExecutions == got {
			break
		}
		if time.Now().After(deadline) {
			s.t.Errorf("provisioned concurrency after a minute: %+v", out)
			break
		}
	}
	if !c.wanted.may(got) {
		s.t.Errorf("%d environments are provisioned; acknowledged was %+v", got, c.wanted)
	}
	c.wanted = undecided[int32]{acknowledged: got}
}

func (s *instance) checkVersions(ctx context.Context, c *control) {
	s.t.Helper()
	there, last := map[string]string{}, ""
	for p := lambda.NewListVersionsByFunctionPaginator(s.lambda(), &lambda.ListVersionsByFunctionInput{FunctionName: new("versions")}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, v := range page.Versions {
			there[*v.Version] = *v.Description
			last = *v.Version
		}
	}
	for number, description := range c.versions {
		if there[number] != description {
			s.t.Errorf("version %s is %q, acknowledged was %q", number, there[number], description)
		}
	}
	if last == "" || last == "$LATEST" {
		return
	}
	w := lambda.NewFunctionActiveV2Waiter(s.lambda(), func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	if err := w.Wait(ctx, &lambda.GetFunctionInput{FunctionName: new("versions"), Qualifier: &last}, time.Minute); err != nil {
		s.t.Errorf("version %s: %v", last, err)
		return
	}
	out, err := s.lambda().Invoke(ctx, &lambda.InvokeInput{FunctionName: new("versions"), Qualifier: &last, Payload: []byte(`{"do":"version","token":"again"}`)})
	if err != nil || out.FunctionError != nil || *out.ExecutedVersion != last {
		s.t.Errorf("version %s after the restart: %v %+v", last, err, out)
	}
}

func (s *instance) checkLayers(ctx context.Context, c *control) {
	s.t.Helper()
	there := map[int64]bool{}
	for p := lambda.NewListLayerVersionsPaginator(s.lambda(), &lambda.ListLayerVersionsInput{LayerName: new("layer")}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, v := range page.LayerVersions {
			there[v.Version] = true
		}
	}
	newest := int64(0)
	for number := range there {
		newest = max(newest, number)
		if number+10 < int64(len(there)) && c.layers[number] == "" {
			continue // was looked at before
		}
		out, err := s.lambda().GetLayerVersion(ctx, &lambda.GetLayerVersionInput{LayerName: new("layer"), VersionNumber: &number})
		if err != nil {
			s.t.Errorf("layer version %d: %v", number, err)
			continue
		}
		if want := c.layers[number]; want != "" && *out.Content.CodeSha256 != want {
			s.t.Errorf("layer version %d has content %s, acknowledged was %s", number, *out.Content.CodeSha256, want)
		}
		if got := download(ctx, *out.Content.Location); got != *out.Content.CodeSha256 {
			s.t.Errorf("layer version %d is downloaded as %s, not %s", number, got, *out.Content.CodeSha256)
		}
	}
	for number := range c.layers {
		if !there[number] {
			s.t.Errorf("layer version %d is lost; the newest is %d", number, newest)
		}
	}
}

// download returns the digest of what is at an address, or why there is none.
func download(ctx context.Context, url string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, res.Body); err != nil {
		return err.Error()
	}
	if res.StatusCode != http.StatusOK {
		return res.Status
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func layerArchive(content string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("content")
	if err != nil {
		panic(err) // memory takes it
	}
	io.WriteString(w, content)
	z.Close()
	return b.Bytes()
}
