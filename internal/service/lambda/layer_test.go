package lambda

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

const testLayerARN = "arn:aws:lambda:eu-central-1:111122223333:layer:"

func (w *world) layer(name, body string, change ...func(*lambdaapi.PublishLayerVersionInput)) *lambdaapi.PublishLayerVersionOutput {
	w.t.Helper()
	in := &lambdaapi.PublishLayerVersionInput{
		LayerName: &name, Content: &lambdaapi.LayerVersionContentInput{ZipFile: makeZip(w.t, file{name: "lib/" + name, body: body})},
	}
	for _, c := range change {
		c(in)
	}
	return must(lambdaapi.PublishLayerVersion.Call(w.t.Context(), w, in))(w.t)
}

func TestLayers(t *testing.T) {
	w := newWorld(t)
	one := w.layer("l", "1", func(in *lambdaapi.PublishLayerVersionInput) {
		in.Description, in.LicenseInfo = new("does"), new("MIT")
		in.CompatibleRuntimes, in.CompatibleArchitectures = []string{"python3.13"}, []string{"arm64"}
	})
	if *one.LayerArn != testLayerARN+"l" || *one.LayerVersionArn != testLayerARN+"l:1" || *one.Version != 1 || *one.LicenseInfo != "MIT" ||
		*one.Description != "does" || *one.Content.CodeSize == 0 || !strings.HasSuffix(*one.CreatedDate, "+0000") || !strings.HasPrefix(*one.Content.Location, "http://") {
		t.Errorf("PublishLayerVersion: %+v %+v", one, one.Content)
	}
	two := w.layer(testLayerARN+"l", "2", func(in *lambdaapi.PublishLayerVersionInput) { in.CompatibleRuntimes = []string{"nodejs22.x"} })
	w.layer("m", "m")
	if *two.Version != 2 || *two.Description != "" || *two.Content.CodeSha256 == *one.Content.CodeSha256 {
		t.Errorf("the second version: %+v", two)
	}
	got := must(lambdaapi.GetLayerVersion.Call(t.Context(), w, &lambdaapi.GetLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(1))}))(t)
	if d := cmp.Diff(*one, lambdaapi.PublishLayerVersionOutput(*got)); d != "" {
		t.Error("GetLayerVersion (-published +got)", d)
	}
	byARN := must(lambdaapi.GetLayerVersionByArn.Call(t.Context(), w, &lambdaapi.GetLayerVersionByArnInput{Arn: one.LayerVersionArn}))(t)
	if d := cmp.Diff(got, byARN); d != "" {
		t.Error("GetLayerVersionByArn (-want +got)", d)
	}

	versions := func(in lambdaapi.ListLayerVersionsInput) (all []int64) {
		t.Helper()
		in.LayerName = new("l")
		for {
			out := must(lambdaapi.ListLayerVersions.Call(t.Context(), w, &in))(t)
			for _, v := range out.LayerVersions {
				all = append(all, *v.Version)
			}
			if in.Marker = out.NextMarker; in.Marker == nil {
				return all
			}
		}
	}
	for name, c := range map[string]struct {
		in   lambdaapi.ListLayerVersionsInput
		want []int64
	}{
		"all":          {lambdaapi.ListLayerVersionsInput{}, []int64{2, 1}},
		"paged":        {lambdaapi.ListLayerVersionsInput{MaxItems: new(int32(1))}, []int64{2, 1}},
		"runtime":      {lambdaapi.ListLayerVersionsInput{CompatibleRuntime: new("python3.13")}, []int64{1}},
		"architecture": {lambdaapi.ListLayerVersionsInput{CompatibleArchitecture: new("arm64"), MaxItems: new(int32(1))}, []int64{1}},
		"none":         {lambdaapi.ListLayerVersionsInput{CompatibleArchitecture: new("x86_64")}, nil},
	} {
		if got := versions(c.in); !slices.Equal(got, c.want) {
			t.Errorf("ListLayerVersions, %s: %v, want %v", name, got, c.want)
		}
	}
	layers := func(in lambdaapi.ListLayersInput) (all []string) {
		t.Helper()
		for {
			out := must(lambdaapi.ListLayers.Call(t.Context(), w, &in))(t)
			for _, l := range out.Layers {
				all = append(all, fmt.Sprint(*l.LayerName, ":", *l.LatestMatchingVersion.Version))
			}
			if in.Marker = out.NextMarker; in.Marker == nil {
				return all
			}
		}
	}
	for name, c := range map[string]struct {
		in   lambdaapi.ListLayersInput
		want []string
	}{
		"all":     {lambdaapi.ListLayersInput{MaxItems: new(int32(1))}, []string{"l:2", "m:1"}},
		"runtime": {lambdaapi.ListLayersInput{CompatibleRuntime: new("python3.13")}, []string{"l:1"}},
	} {
		if got := layers(c.in); !slices.Equal(got, c.want) {
			t.Errorf("ListLayers, %s: %v, want %v", name, got, c.want)
		}
	}

	remove := func(name string, number int64) {
		t.Helper()
		must(lambdaapi.DeleteLayerVersion.Call(t.Context(), w, &lambdaapi.DeleteLayerVersionInput{LayerName: &name, VersionNumber: &number}))(t)
	}
	remove("l", 2)
	remove("l", 2) // no error
	remove("never", 1)
	if got := versions(lambdaapi.ListLayerVersionsInput{}); !slices.Equal(got, []int64{1}) {
		t.Error("after the deletion:", got)
	}
	if v := w.layer("l", "2"); *v.Version != 3 {
		t.Error("a number was used again:", *v.Version)
	}
	remove("m", 1)
	if got := layers(lambdaapi.ListLayersInput{}); !slices.Equal(got, []string{"l:3"}) {
		t.Error("a layer without versions is listed:", got)
	}
}

func TestFunctionsWithLayers(t *testing.T) {
	w := newWorld(t)
	w.run()
	a, b := w.layer("a", "first"), w.layer("b", "second, and longer")
	arns := []string{*b.LayerVersionArn, *a.LayerVersionArn}
	f := w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Layers = arns })
	shown := func(layers []lambdaapi.Layer) (all []string) {
		for _, l := range layers {
			all = append(all, fmt.Sprint(*l.Arn, " ", *l.CodeSize))
		}
		return all
	}
	want := []string{fmt.Sprint(arns[0], " ", *b.Content.CodeSize), fmt.Sprint(arns[1], " ", *a.Content.CodeSize)}
	if got := shown(f.Layers); !slices.Equal(got, want) {
		t.Errorf("Layers %v, want %v", got, want)
	}
	settings := must(lambdaapi.GetAccountSettings.Call(t.Context(), w, &lambdaapi.GetAccountSettingsInput{}))(t)
	if sum := *f.CodeSize + *a.Content.CodeSize + *b.Content.CodeSize; *settings.AccountUsage.TotalCodeSize != sum {
		t.Errorf("TotalCodeSize %d, want %d", *settings.AccountUsage.TotalCodeSize, sum)
	}
	dirs := func() []string {
		w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f")})
		return w.invoker.last.Layers
	}
	first := dirs()
	if len(first) != 2 || !strings.HasSuffix(first[0], hexDigest(t, *b.Content.CodeSha256)) || !strings.HasSuffix(first[1], hexDigest(t, *a.Content.CodeSha256)) {
		t.Error("the fleet got", first)
	}
	// Two layers with the same contents are one, in the place of the last.
	same := w.layer("same", "x")
	again := w.layer("again", "x", func(in *lambdaapi.PublishLayerVersionInput) {
		in.Content.ZipFile = makeZip(t, file{name: "lib/same", body: "x"})
	})
	w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: []string{*same.LayerVersionArn, *a.LayerVersionArn, *again.LayerVersionArn}})
	if got := dirs(); len(got) != 2 || got[0] != first[1] || !strings.HasSuffix(got[1], hexDigest(t, *again.Content.CodeSha256)) {
		t.Error("with the same layer twice the fleet got", got)
	}
	w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: arns})
	published := w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")})

	// A function holds what was deleted, over changes that do not name layers and a restart too.
	for _, l := range []string{"a", "b"} {
		must(lambdaapi.DeleteLayerVersion.Call(t.Context(), w, &lambdaapi.DeleteLayerVersionInput{LayerName: &l, VersionNumber: new(int64(1))}))(t)
	}
	if left := must(w.code.collect(t.Context()))(t); left != 0 {
		t.Error(left, "archives are left over")
	}
	w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Description: new("other")})
	w.restart()
	w.run()
	if again := dirs(); !slices.Equal(again, first) {
		t.Error("after the layers were deleted the fleet got", again)
	}
	_, err := lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: arns})
	wantError(t, err, "InvalidParameterValueException", 400, "Layer version "+arns[0]+" does not exist.")
	settled := w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: []string{}})
	if len(settled.Layers) > 0 || len(dirs()) > 0 {
		t.Error("layers were not removed:", settled.Layers)
	}
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f"), Qualifier: published.Version})
	if !slices.Equal(w.invoker.last.Layers, first) {
		t.Error("the version has", w.invoker.last.Layers)
	}
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	w.restart() // what was lent is not
	must(w.code.collect(t.Context()))(t)
	if dirs := w.codeDirs(); len(dirs) != 1 { // the layers that are the same
		t.Error("unpacked archives are left:", dirs)
	}
	if w.blobExists(hexDigest(t, *a.Content.CodeSha256)) {
		t.Error("a layer's blob is left")
	}
}

func TestLayerErrors(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.Config.UnzippedBytes = 1000 })
	l := w.layer("l", strings.Repeat("x", 990))
	w.layer("small", "x")
	const param, missing, invalid = "InvalidParameterValueException", "ResourceNotFoundException", "ValidationException"
	ctx := t.Context()
	for name, c := range map[string]struct {
		call   func() error
		code   string
		status int
		text   string
	}{
		"negative version": {func() error {
			_, err := lambdaapi.GetLayerVersion.Call(ctx, w, &lambdaapi.GetLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(-1))})
			return err
		}, param, 400, "Layer Version Cannot be less than 1"},
		"delete negative version": {func() error {
			_, err := lambdaapi.DeleteLayerVersion.Call(ctx, w, &lambdaapi.DeleteLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(0))})
			return err
		}, param, 400, "Layer Version Cannot be less than 1"},
		"missing version": {func() error {
			_, err := lambdaapi.GetLayerVersion.Call(ctx, w, &lambdaapi.GetLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(9))})
			return err
		}, missing, 404, "The resource you requested does not exist."},
		"missing by ARN": {func() error {
			_, err := lambdaapi.GetLayerVersionByArn.Call(ctx, w, &lambdaapi.GetLayerVersionByArnInput{Arn: new(testLayerARN + "no:1")})
			return err
		}, missing, 404, "The resource you requested does not exist."},
		"unversioned ARN": {func() error {
			_, err := lambdaapi.GetLayerVersionByArn.Call(ctx, w, &lambdaapi.GetLayerVersionByArnInput{Arn: new(testLayerARN + "no")})
			return err
		}, invalid, 400, "1 validation error detected: Value '" + testLayerARN + "no' at 'arn' failed to satisfy constraint: Member must satisfy regular expression pattern: "},
		"other account": {func() error {
			_, err := lambdaapi.GetLayerVersionByArn.Call(as(ctx, "444455556666", testRegion), w, &lambdaapi.GetLayerVersionByArnInput{Arn: l.LayerVersionArn})
			return err
		}, "AccessDeniedException", 403, "User: arn:aws:iam::444455556666:root is not authorized to perform: lambda:GetLayerVersion on resource: " + testLayerARN + "l:1 because"},
		"bad zip": {func() error {
			_, err := lambdaapi.PublishLayerVersion.Call(ctx, w, &lambdaapi.PublishLayerVersionInput{LayerName: new("z"), Content: &lambdaapi.LayerVersionContentInput{ZipFile: []byte("zip")}})
			return err
		}, param, 400, "Could not unzip uploaded file."},
		"big zip": {func() error {
			_, err := lambdaapi.PublishLayerVersion.Call(ctx, w, &lambdaapi.PublishLayerVersionInput{LayerName: new("z"), Content: &lambdaapi.LayerVersionContentInput{ZipFile: makeZip(t, file{name: "a", body: strings.Repeat("a", 1001)})}})
			return err
		}, param, 400, "Unzipped size must be smaller than 1000 bytes"},
		"S3": {func() error {
			_, err := lambdaapi.PublishLayerVersion.Call(ctx, w, &lambdaapi.PublishLayerVersionInput{LayerName: new("z"), Content: &lambdaapi.LayerVersionContentInput{S3Bucket: new("bucket"), S3Key: new("k")}})
			return err
		}, param, 400, "S3Bucket and S3Key: send the archive as ZipFile. Layers from Amazon S3 are not served"},
		"nothing": {func() error {
			_, err := lambdaapi.PublishLayerVersion.Call(ctx, w, &lambdaapi.PublishLayerVersionInput{LayerName: new("z"), Content: &lambdaapi.LayerVersionContentInput{}})
			return err
		}, param, 400, "Please provide a source for layer content."},
		"architecture and runtime": {func() error {
			_, err := lambdaapi.PublishLayerVersion.Call(ctx, w, &lambdaapi.PublishLayerVersionInput{LayerName: new("z"), Content: &lambdaapi.LayerVersionContentInput{ZipFile: zipped(t, "")}, CompatibleRuntimes: []string{"cobol"}, CompatibleArchitectures: []string{"mips"}})
			return err
		}, invalid, 400, "2 validation errors detected: "},
	} {
		err := c.call()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		t.Run(name, func(t *testing.T) { wantError(t, err, c.code, c.status, c.text) })
	}
	in := w.input("f")
	in.Code.ZipFile = zipped(t, strings.Repeat("#", 11))
	in.Layers = []string{*l.LayerVersionArn}
	_, err := lambdaapi.CreateFunction.Call(ctx, w, in)
	wantError(t, err, param, 400, "Function code combined with layers exceeds the maximum allowed size of 1000 bytes. The actual size is 1001 bytes.")
	in.Code.ZipFile = zipped(t, strings.Repeat("#", 10))
	must(lambdaapi.CreateFunction.Call(ctx, w, in))(t)
	w.run()
	w.settled("f")
	_, err = lambdaapi.UpdateFunctionCode.Call(ctx, w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, strings.Repeat("#", 12))})
	wantError(t, err, param, 400, "Function code combined with layers exceeds the maximum allowed size of 1000 bytes. The actual size is 1002 bytes.")
	_, err = lambdaapi.UpdateFunctionConfiguration.Call(ctx, w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: []string{*l.LayerVersionArn, testLayerARN + "small:1"}})
	wantError(t, err, param, 400, "Function code combined with layers exceeds the maximum allowed size of 1000 bytes. The actual size is 1001 bytes.")
}

func TestLayerPolicy(t *testing.T) {
	w := newWorld(t)
	l := w.layer("l", "1")
	const other = "444455556666"
	elsewhere := as(t.Context(), other, testRegion)
	add := func(ctx context.Context, change func(*lambdaapi.AddLayerVersionPermissionInput)) (*lambdaapi.AddLayerVersionPermissionOutput, error) {
		in := &lambdaapi.AddLayerVersionPermissionInput{
			LayerName: new("l"), VersionNumber: new(int64(1)), StatementId: new("s"), Action: new("lambda:GetLayerVersion"), Principal: new(other),
		}
		if change != nil {
			change(in)
		}
		return lambdaapi.AddLayerVersionPermission.Call(ctx, w, in)
	}
	policy := func() (*lambdaapi.GetLayerVersionPolicyOutput, error) {
		return lambdaapi.GetLayerVersionPolicy.Call(t.Context(), w, &lambdaapi.GetLayerVersionPolicyInput{LayerName: new("l"), VersionNumber: new(int64(1))})
	}
	remove := func(id string, revision *string) error {
		_, err := lambdaapi.RemoveLayerVersionPermission.Call(t.Context(), w, &lambdaapi.RemoveLayerVersionPermissionInput{
			LayerName: new("l"), VersionNumber: new(int64(1)), StatementId: &id, RevisionId: revision})
		return err
	}
	const missing, stale = "ResourceNotFoundException", "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id"
	_, err := policy()
	wantError(t, err, missing, 404, "No policy is associated with the given resource.")
	wantError(t, remove("s", nil), missing, 404, "No policy is associated with the given resource.")
	_, err = add(t.Context(), func(in *lambdaapi.AddLayerVersionPermissionInput) { in.VersionNumber = new(int64(2)) })
	wantError(t, err, missing, 404, "Layer version "+testLayerARN+"l:2 does not exist.")
	_, err = add(t.Context(), func(in *lambdaapi.AddLayerVersionPermissionInput) { in.Action = new("lambda:*") })
	wantError(t, err, "ValidationException", 400, "1 validation error detected: Value 'lambda:*' at 'action'")
	_, err = add(t.Context(), func(in *lambdaapi.AddLayerVersionPermissionInput) { in.Principal = new("lambda.amazonaws.com") })
	wantError(t, err, "ValidationException", 400, "1 validation error detected: Value 'lambda.amazonaws.com' at 'principal'")

	use := func(ctx context.Context) error {
		in := w.input("f")
		in.Role = new("arn:aws:iam::" + other + ":role/r")
		in.Layers = []string{*l.LayerVersionArn}
		_, err := lambdaapi.CreateFunction.Call(ctx, w, in)
		return err
	}
	denied := "User: arn:aws:iam::444455556666:root is not authorized to perform: lambda:GetLayerVersion on resource: " + testLayerARN + "l:1 because no resource-based policy allows the lambda:GetLayerVersion action"
	wantError(t, use(elsewhere), "AccessDeniedException", 403, denied)
	org, err := add(t.Context(), func(in *lambdaapi.AddLayerVersionPermissionInput) {
		in.StatementId, in.Principal, in.OrganizationId = new("org"), new("*"), new("o-0123456789")
	})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, use(elsewhere), "AccessDeniedException", 403, denied)
	out := must(add(t.Context(), nil))(t)
	if want := `{"Sid":"s","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":"lambda:GetLayerVersion","Resource":"` + testLayerARN + `l:1"}`; *out.Statement != want {
		t.Errorf("Statement %s, want %s", *out.Statement, want)
	}
	_, err = add(t.Context(), nil)
	wantError(t, err, "ResourceConflictException", 409, "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement.")
	_, err = add(t.Context(), func(in *lambdaapi.AddLayerVersionPermissionInput) {
		in.StatementId, in.RevisionId = new("t"), org.RevisionId
	})
	wantError(t, err, "PreconditionFailedException", 412, stale)
	_, err = add(elsewhere, func(in *lambdaapi.AddLayerVersionPermissionInput) { in.LayerName = l.LayerArn })
	wantError(t, err, "AccessDeniedException", 403, "User: arn:aws:iam::444455556666:root is not authorized to perform: lambda:AddLayerVersionPermission on resource: ")
	if err := use(elsewhere); err != nil {
		t.Error("a shared layer:", err)
	}

	p := must(policy())(t)
	if *p.RevisionId != *out.RevisionId {
		t.Error("the revision is", *p.RevisionId, "not", *out.RevisionId)
	}
	var document struct {
		Version, Id string
		Statement   []json.RawMessage
	}
	if err := json.Unmarshal([]byte(*p.Policy), &document); err != nil || document.Version != "2012-10-17" || document.Id != "default" || len(document.Statement) != 2 {
		t.Error("the policy is", *p.Policy)
	}
	wantError(t, remove("none", nil), missing, 404, "Statement none is not found in resource policy.")
	wantError(t, remove("s", org.RevisionId), "PreconditionFailedException", 412, stale)
	if err := remove("s", p.RevisionId); err != nil {
		t.Fatal(err)
	}
	if got := must(policy())(t); *got.RevisionId == *p.RevisionId {
		t.Error("the revision is the same after a removal")
	}
	for i := range 200 {
		if _, err = add(t.Context(), func(in *lambdaapi.AddLayerVersionPermissionInput) { in.StatementId = new(fmt.Sprint("n", i)) }); err != nil {
			break
		}
	}
	wantError(t, err, "PolicyLengthExceededException", 400, "The final policy size (")
}

// hexDigest is the archive's digest of a CodeSha256.
func hexDigest(t testing.TB, sha string) string {
	t.Helper()
	return hex.EncodeToString(must(base64.StdEncoding.DecodeString(sha))(t))
}

// TestLayersComeAndGo lets many publish, delete and attach layers while functions run and archives are collected: what a function runs from is there.
func TestLayersComeAndGo(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.CodeInUse = func(string) bool { return false } })
	w.invoker.serve = func(fn *fleet.Function, _ *fleet.Request) (*fleet.Response, error) {
		for _, dir := range fn.Layers {
			if _, err := os.Stat(filepath.Join(dir, "lib")); err != nil {
				t.Error(err)
			}
		}
		return &fleet.Response{}, nil
	}
	w.run()
	w.created("f")
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := range 40 {
				l := w.layer("l", fmt.Sprint(n%3))
				var err error
				switch (i + n) % 3 {
				case 0:
					_, err = lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: []string{*l.LayerVersionArn}})
				case 1:
					_, err = lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: []string{}})
				}
				if code := apierr.Code(err); err != nil && code != "ResourceConflictException" {
					t.Error(err)
				}
				must(lambdaapi.DeleteLayerVersion.Call(t.Context(), w, &lambdaapi.DeleteLayerVersionInput{LayerName: new("l"), VersionNumber: l.Version}))(t)
				w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f")})
				if n%5 == 0 {
					must(w.code.collect(t.Context()))(t)
				}
			}
		})
	}
	wg.Wait()
	w.settled("f")
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	w.stop()
	must(w.code.collect(t.Context()))(t)
	if dirs := w.codeDirs(); len(dirs) > 0 {
		t.Error("unpacked archives are left:", dirs)
	}
	if keys := w.keys(); len(keys) != 1 { // the layer, which remembers its numbers
		t.Errorf("left behind: %q", keys)
	}
}

// FuzzParseLayerVersion: what is read of an ARN is what the ARN says.
func FuzzParseLayerVersion(f *testing.F) {
	for _, s := range []string{"arn:aws:lambda:us-east-1:111122223333:layer:l:1", "arn:aws:lambda:us-east-1:111122223333:layer:l", "arn:aws:lambda:us-east-1:111122223333:layer:l:01",
		"arn:aws:lambda:us-east-1:111122223333:layer:l:9223372036854775808", "arn:aws:lambda:us-east-1:111122223333:function:l:1", "arn:aws:lambda:::layer::0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, name, number, ok := parseLayerVersion(s)
		if !ok {
			return
		}
		if number < 1 {
			t.Fatalf("parseLayerVersion(%q) is version %d", s, number)
		}
		a, err := arn.Parse(s)
		said, version, _ := strings.Cut(strings.TrimPrefix(a.Resource, "layer:"), ":")
		if err != nil || a.Account != c.account || a.Region != c.region || said != name || strings.TrimLeft(version, "0") != versionName(number) {
			t.Fatalf("parseLayerVersion(%q) = %+v %q %d", s, c, name, number)
		}
	})
}
