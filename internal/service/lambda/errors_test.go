package lambda

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
)

// TestErrorsFromOutside sends what clients send and looks at what they see: status, the header with the class, the text, and whether the
// body says that the caller is to blame. It has every class of error of functions, versions, aliases, layers, code signing
// and tags.
func TestErrorsFromOutside(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.Config.UnzippedBytes, d.Config.ZipBytes = 5000, 4000 })
	w.run()
	at := w.serve()
	ctx := t.Context()

	// f has version 1 with an alias, a layer and a configuration that only warns; "strict" is bound to one that enforces; "pending" stays so.
	layer := w.layer("l", strings.Repeat("x", 4900))
	must(lambdaapi.AddLayerVersionPermission.Call(ctx, w, &lambdaapi.AddLayerVersionPermissionInput{
		LayerName: new("l"), VersionNumber: new(int64(1)), StatementId: new("s"), Action: new("lambda:GetLayerVersion"), Principal: new("*")}))(t)
	w.layer("private", "x")
	config := func(policy string) string {
		return *must(lambdaapi.CreateCodeSigningConfig.Call(ctx, w, &lambdaapi.CreateCodeSigningConfigInput{
			AllowedPublishers:   &lambdaapi.AllowedPublishers{SigningProfileVersionArns: []string{"arn:aws:signer:eu-central-1:111122223333:/signing-profiles/p/1"}},
			CodeSigningPolicies: &lambdaapi.CodeSigningPolicies{UntrustedArtifactOnDeployment: &policy},
		}))(t).CodeSigningConfig.CodeSigningConfigArn
	}
	warn, enforce := config("Warn"), config("Enforce")
	w.created("f", func(in *lambdaapi.CreateFunctionInput) {
		in.Layers, in.CodeSigningConfigArn = []string{*layer.LayerVersionArn}, &warn
	})
	w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")})
	must(lambdaapi.CreateAlias.Call(ctx, w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("a"), FunctionVersion: new("1")}))(t)
	w.created("strict")
	must(lambdaapi.PutFunctionCodeSigningConfig.Call(ctx, w, &lambdaapi.PutFunctionCodeSigningConfigInput{FunctionName: new("strict"), CodeSigningConfigArn: &enforce}))(t)
	w.stop()
	w.create("pending")

	const (
		param, missing, conflict = "InvalidParameterValueException", "ResourceNotFoundException", "ResourceConflictException"
		validation, stale        = "ValidationException", "PreconditionFailedException"
		staleText                = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
		fns, layers, tags        = "/2015-03-31/functions/", "/2018-10-31/layers", "/2017-03-31/tags/"
		gone                     = "arn:aws:lambda:eu-central-1:111122223333:code-signing-config:csc-0123456789abcdef0"
	)
	type m = map[string]any
	code := func(n int) string {
		return base64.StdEncoding.EncodeToString(zipped(t, strings.Repeat("#", n)))
	}
	function := func(change m) m {
		in := m{"FunctionName": "new", "Role": testRole, "Runtime": "provided.al2023", "Handler": "h", "Code": m{"ZipFile": code(1)}}
		for k, v := range change {
			in[k] = v
		}
		return in
	}
	many := m{}
	for i := range 51 {
		many["k"+strings.Repeat("k", i)] = "v"
	}
	signing := func(arn string) string { return "/2020-04-22/code-signing-configs/" + url.PathEscape(arn) }
	tag := func(arn string) string { return tags + url.PathEscape(arn) }
	layersOf := func(names ...string) m {
		var l []string
		for _, n := range names {
			l = append(l, testLayerARN+n)
		}
		return m{"Layers": l}
	}

	for _, c := range []struct {
		what, method, path string
		body               any
		status             int
		class, text        string
	}{
		// Functions.
		{"name taken", "POST", fns, function(m{"FunctionName": "f"}), 409, conflict, "Function already exist: f"},
		{"role", "POST", fns, function(m{"Role": "r1"}), 400, validation, "1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: "},
		{"no code", "POST", fns, function(m{"Code": m{}}), 400, param, "Please provide a source for function code."},
		{"bad zip", "POST", fns, function(m{"Code": m{"ZipFile": "eA=="}}), 400, param, "Could not unzip uploaded file. Please check your file, then try to upload again."},
		{"big zip", "POST", fns, function(m{"Code": m{"ZipFile": base64.StdEncoding.EncodeToString(make([]byte, 4001))}}), 413, "RequestEntityTooLargeException", "Zipped size must be smaller than 4000 bytes"},
		{"big contents", "POST", fns, function(m{"Code": m{"ZipFile": code(5001)}}), 400, param, "Unzipped size must be smaller than 5000 bytes"},
		{"runtime", "POST", fns, function(m{"Runtime": "cobol"}), 400, param, "Value cobol at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["},
		{"two architectures", "POST", fns, function(m{"Architectures": []string{"x86_64", "arm64"}}), 400, validation, "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"},
		{"environment", "POST", fns, function(m{"Environment": m{"Variables": m{"BIG": strings.Repeat("x", 4096)}}}), 400, param, "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {"},
		{"body", "POST", fns, "{", 400, "SerializationException", ""},
		{"not there", "GET", fns + "nope", nil, 404, missing, "Function not found: " + testARN + "nope"},
		{"alias not there", "GET", fns + "f?Qualifier=b", nil, 404, missing, "Function not found: " + testARN + "f:b"},
		{"other region", "GET", fns + url.PathEscape("arn:aws:lambda:us-west-2:111122223333:function:f"), nil, 404, missing, "Functions from 'us-west-2' are not reachable in this region ('eu-central-1')"},
		{"other account", "GET", fns + "444455556666:function:f/policy", nil, 403, "AccessDeniedException", "User: arn:aws:iam::111122223333:root is not authorized to perform: lambda:GetPolicy on resource: "},
		{"qualifiers", "GET", fns + "f:1?Qualifier=2", nil, 400, param, "The derived qualifier from the function name does not match the specified qualifier."},
		{"pending", "PUT", fns + "pending/code", m{"ZipFile": code(2)}, 409, conflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending"},
		{"pending invocation", "POST", fns + "pending/invocations", nil, 409, conflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending"},
		{"stale code", "PUT", fns + "f/code", m{"ZipFile": code(2), "RevisionId": "old"}, 412, stale, staleText},
		{"stale configuration", "PUT", fns + "f/configuration", m{"Timeout": 9, "RevisionId": "old"}, 412, stale, staleText},
		{"delete $LATEST", "DELETE", fns + "f?Qualifier=$LATEST", nil, 400, param, "$LATEST version cannot be deleted without deleting the function."},
		{"delete not there", "DELETE", fns + "nope", nil, 404, missing, "Function not found: " + testARN + "nope"},
		{"list", "GET", fns + "?FunctionVersion=SOME", nil, 400, validation, "1 validation error detected: Value 'SOME' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"},
		{"marker", "GET", fns + "?Marker=%21", nil, 400, param, "Invalid pagination token"},
		{"image", "PUT", fns + "f/code", m{"ImageUri": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/r:t"}, 400, param, "Please don't provide ImageUri when updating a function with packageType Zip."},

		// Versions.
		{"hash", "POST", fns + "f/versions", m{"CodeSha256": "x"}, 400, param, "CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ("},
		{"stale version", "POST", fns + "f/versions", m{"RevisionId": "old"}, 412, stale, staleText},
		{"publish pending", "POST", fns + "pending/versions", m{}, 409, conflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending"},
		{"publish not there", "POST", fns + "nope/versions", m{}, 404, missing, "Function not found: " + testARN + "nope"},
		{"publish an alias", "POST", fns + "f:a/versions", m{}, 400, param, "This operation is permitted on Lambda functions only."},
		{"versions not there", "GET", fns + "nope/versions", nil, 404, missing, "Function not found: " + testARN + "nope"},
		{"version in use", "DELETE", fns + "f?Qualifier=1", nil, 409, conflict, "Failed to delete version 1 of function f because it is referenced by alias a."},
		{"delete an alias", "DELETE", fns + "f?Qualifier=a", nil, 400, param, "Deletion of aliases is not currently supported."},

		// Aliases.
		{"alias taken", "POST", fns + "f/aliases", m{"Name": "a", "FunctionVersion": "1"}, 409, conflict, "Alias already exists: " + testARN + "f:a"},
		{"alias of nothing", "POST", fns + "f/aliases", m{"Name": "b", "FunctionVersion": "10"}, 404, missing, "Function not found: " + testARN + "f:10"},
		{"alias like a version", "POST", fns + "f/aliases", m{"Name": "7", "FunctionVersion": "1"}, 400, validation, "1 validation error detected: Value '7' at 'name' failed to satisfy constraint: "},
		{"weights", "POST", fns + "f/aliases", m{"Name": "b", "FunctionVersion": "1", "RoutingConfig": m{"AdditionalVersionWeights": m{"1": 0.1, "2": 0.1}}}, 400, param, "Number of items in AdditionalVersionWeights cannot be greater than 1"},
		{"weight", "POST", fns + "f/aliases", m{"Name": "b", "FunctionVersion": "1", "RoutingConfig": m{"AdditionalVersionWeights": m{"2": 1.1}}}, 400, validation, "1 validation error detected: Value "},
		{"weight of $LATEST", "POST", fns + "f/aliases", m{"Name": "b", "FunctionVersion": "1", "RoutingConfig": m{"AdditionalVersionWeights": m{"$LATEST": 0.1}}}, 400, validation, "1 validation error detected: Value "},
		{"same version", "POST", fns + "f/aliases", m{"Name": "b", "FunctionVersion": "1", "RoutingConfig": m{"AdditionalVersionWeights": m{"1": 0.1}}}, 400, param, "Invalid function version 1. Function version 1 is already included in routing configuration."},
		{"$LATEST with routing", "POST", fns + "f/aliases", m{"Name": "b", "FunctionVersion": "$LATEST", "RoutingConfig": m{"AdditionalVersionWeights": m{"1": 0.1}}}, 400, param, "$LATEST is not supported for an alias pointing to more than 1 version"},
		{"alias not found", "GET", fns + "f/aliases/b", nil, 404, missing, "Cannot find alias arn: " + testARN + "f:b"},
		{"update of no alias", "PUT", fns + "f/aliases/b", m{}, 404, missing, "Alias not found: " + testARN + "f:b"},
		{"stale alias", "PUT", fns + "f/aliases/a", m{"RevisionId": "old"}, 412, stale, staleText},
		{"aliases not there", "GET", fns + "nope/aliases", nil, 404, missing, "Function not found: " + testARN + "nope"},

		// Layers.
		{"layer compatibility", "POST", layers + "/z/versions", m{"Content": m{"ZipFile": code(1)}, "CompatibleRuntimes": []string{"cobol"}, "CompatibleArchitectures": []string{"mips"}}, 400, validation, "2 validation errors detected: "},
		{"layer without content", "POST", layers + "/z/versions", m{"Content": m{}}, 400, param, "Please provide a source for layer content."},
		{"layer's zip", "POST", layers + "/z/versions", m{"Content": m{"ZipFile": "eA=="}}, 400, param, "Could not unzip uploaded file. Please check your file, then try to upload again."},
		{"big layer", "POST", layers + "/z/versions", m{"Content": m{"ZipFile": code(5001)}}, 400, param, "Unzipped size must be smaller than 5000 bytes"},
		{"layer from S3", "POST", layers + "/z/versions", m{"Content": m{"S3Bucket": "bucket", "S3Key": "k"}}, 400, param, "S3Bucket and S3Key: send the archive as ZipFile. Layers from Amazon S3 are not served by Mayfly yet."},
		{"layer of others", "POST", layers + "/" + url.PathEscape("arn:aws:lambda:eu-central-1:444455556666:layer:l") + "/versions", m{"Content": m{"ZipFile": code(1)}}, 403, "AccessDeniedException", "User: arn:aws:iam::111122223333:root is not authorized to perform: lambda:PublishLayerVersion on resource: "},
		{"layer version 0", "GET", layers + "/l/versions/0", nil, 400, param, "Layer Version Cannot be less than 1"},
		{"no layer version", "GET", layers + "/l/versions/2", nil, 404, missing, "The resource you requested does not exist."},
		{"no layer", "GET", layers + "?find=LayerVersion&Arn=" + testLayerARN + "no:1", nil, 404, missing, "The resource you requested does not exist."},
		{"layer without version", "GET", layers + "?find=LayerVersion&Arn=" + testLayerARN + "l", nil, 400, validation, "1 validation error detected: Value '" + testLayerARN + "l' at 'arn' failed to satisfy constraint: Member must satisfy regular expression pattern: "},
		{"six layers", "POST", fns, function(layersOf("a:1", "b:1", "c:1", "d:1", "e:1", "f:1")), 400, param, "Cannot reference more than 5 layers."},
		{"layer twice", "POST", fns, function(layersOf("l:1", "l:1")), 400, param, "Two different versions of the same layer are not allowed to be referenced in the same function. " + testLayerARN + "l:1 and " + testLayerARN + "l:1 are versions of the same layer."},
		{"missing layer", "POST", fns, function(layersOf("l:2")), 400, param, "Layer version " + testLayerARN + "l:2 does not exist."},
		{"layer 0", "POST", fns, function(layersOf("l:0")), 400, param, "Layer version " + testLayerARN + "l:0 does not exist."},
		{"unversioned layer", "POST", fns, function(layersOf("l")), 400, validation, "1 validation error detected: Value '[" + testLayerARN + "l]' at 'layers' failed to satisfy constraint: "},
		{"layer elsewhere", "POST", fns, function(m{"Layers": []string{"arn:aws:lambda:us-east-1:111122223333:layer:l:1"}}), 400, param, "Layers are not in the same region as the function. Layers are expected to be in region eu-central-1."},
		{"others' layer", "POST", fns, function(m{"Layers": []string{"arn:aws:lambda:eu-central-1:444455556666:layer:l:1"}}), 403, "AccessDeniedException", "User: arn:aws:iam::111122223333:root is not authorized to perform: lambda:GetLayerVersion on resource: arn:aws:lambda:eu-central-1:444455556666:layer:l:1 because no resource-based policy allows the lambda:GetLayerVersion action"},
		{"too big with layers", "PUT", fns + "f/code", m{"ZipFile": code(200)}, 400, param, "Function code combined with layers exceeds the maximum allowed size of 5000 bytes. The actual size is 5100 bytes."},
		{"statement taken", "POST", layers + "/l/versions/1/policy", m{"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}, 409, conflict, "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement."},
		{"layer action", "POST", layers + "/l/versions/1/policy", m{"StatementId": "t", "Action": "lambda:InvokeFunction", "Principal": "*"}, 400, validation, "1 validation error detected: Value 'lambda:InvokeFunction' at 'action' failed to satisfy constraint: "},
		{"layer principal", "POST", layers + "/l/versions/1/policy", m{"StatementId": "t", "Action": "lambda:GetLayerVersion", "Principal": "you"}, 400, validation, "1 validation error detected: Value 'you' at 'principal' failed to satisfy constraint: "},
		{"stale policy", "POST", layers + "/l/versions/1/policy?RevisionId=old", m{"StatementId": "t", "Action": "lambda:GetLayerVersion", "Principal": "*"}, 412, stale, "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id"},
		{"policy of no layer", "GET", layers + "/l/versions/2/policy", nil, 404, missing, "Layer version " + testLayerARN + "l:2 does not exist."},
		{"no policy", "GET", layers + "/private/versions/1/policy", nil, 404, missing, "No policy is associated with the given resource."},
		{"no statement", "DELETE", layers + "/l/versions/1/policy/t", nil, 404, missing, "Statement t is not found in resource policy."},
		{"stale removal", "DELETE", layers + "/l/versions/1/policy/s?RevisionId=old", nil, 412, stale, "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id"},

		// Code signing.
		{"no publishers", "POST", "/2020-04-22/code-signing-configs", m{"AllowedPublishers": m{"SigningProfileVersionArns": []string{}}}, 400, validation, "1 validation error detected: Value '[]' at 'allowedPublishers.signingProfileVersionArns' failed to satisfy constraint: "},
		{"signing policy", "POST", "/2020-04-22/code-signing-configs", m{"AllowedPublishers": m{"SigningProfileVersionArns": []string{"arn:aws:signer:eu-central-1:111122223333:/signing-profiles/p/1"}}, "CodeSigningPolicies": m{"UntrustedArtifactOnDeployment": "Ask"}}, 400, validation, "1 validation error detected: Value 'Ask' at 'codeSigningPolicies.untrustedArtifactOnDeployment' failed to satisfy constraint: "},
		{"no configuration", "GET", signing(gone), nil, 404, missing, "The Lambda code signing configuration " + gone + " can not be found."},
		{"configuration in use", "DELETE", signing(warn), nil, 409, conflict, "The code signing configuration " + warn + " is attached to functions."},
		{"binding to nothing", "PUT", "/2020-06-30/functions/nope/code-signing-config", m{"CodeSigningConfigArn": gone}, 404, "CodeSigningConfigNotFoundException", "The code signing configuration cannot be found. Check that the provided configuration is not deleted: " + gone + "."},
		{"binding of nothing", "PUT", "/2020-06-30/functions/nope/code-signing-config", m{"CodeSigningConfigArn": warn}, 404, missing, "Function not found: " + testARN + "nope"},
		{"unsigned function", "POST", fns, function(m{"CodeSigningConfigArn": enforce}), 400, "CodeVerificationFailedException", "Lambda cannot deploy the function."},
		{"unsigned code", "PUT", fns + "strict/code", m{"ZipFile": code(2)}, 400, "CodeVerificationFailedException", "Lambda cannot deploy the function."},

		// Tags.
		{"tags of a version", "POST", tag(testARN + "f:1"), m{"Tags": m{"a": "b"}}, 400, param, "Tags on function aliases and versions are not supported. Please specify a function ARN."},
		{"no tags", "POST", tag(testARN + "f"), m{"Tags": m{}}, 400, param, "An error occurred and the request cannot be processed."},
		{"many tags", "POST", tag(testARN + "f"), m{"Tags": many}, 400, param, "Number of tags exceeds resource tag limit."},
		{"no keys", "DELETE", tag(testARN + "f"), nil, 400, validation, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"},
		{"tags of nothing", "GET", tag(testARN + "nope"), nil, 404, missing, "Function not found: " + testARN + "nope"},
		{"tags of no configuration", "GET", tag(gone), nil, 404, missing, "The Lambda code signing configuration " + gone + " can not be found."},
		{"tags of a layer", "GET", tag(testLayerARN + "l"), nil, 400, validation, "1 validation error detected: Value '" + testLayerARN + "l' at 'resource' failed to satisfy constraint: "},
		{"tags of a mapping", "GET", tag("arn:aws:lambda:eu-central-1:111122223333:event-source-mapping:01234567-0123-0123-0123-0123456789ab"), nil, 404, missing, ""},

		// What runs where, and for whom.
		{"pin without a version", "PUT", "/2021-07-20/functions/f/runtime-management-config", m{"UpdateRuntimeOn": "Manual"}, 400, param, "RuntimeVersionArn is required when UpdateRuntimeOn is Manual."},
		{"scaling without instances", "GET", "/2025-11-30/functions/f/function-scaling-config?Qualifier=1", nil, 400, param, "Function scaling configuration is supported only for functions with a capacity provider: " + testARN + "f:1 has none."},
	} {
		t.Run(c.what, func(t *testing.T) {
			body, isText := c.body.(string)
			if !isText && c.body != nil {
				body = mustJSON(c.body)
			}
			req := must(http.NewRequestWithContext(ctx, c.method, at+c.path, strings.NewReader(body)))(t)
			req.Header.Set("Content-Type", "application/json")
			res := must(http.DefaultClient.Do(req))(t)
			defer res.Body.Close()
			answer := must(io.ReadAll(res.Body))(t)
			var said map[string]any
			if err := json.Unmarshal(answer, &said); err != nil {
				t.Fatalf("%s answered %d %q", c.path, res.StatusCode, answer)
			}
			text, _ := said["message"].(string)
			if text == "" {
				text, _ = said["Message"].(string)
			}
			class := res.Header.Get("x-amzn-ErrorType")
			if res.StatusCode != c.status || class != c.class || !strings.HasPrefix(text, c.text) {
				t.Errorf("%d %s: %s\nwant\n%d %s: %s", res.StatusCode, class, text, c.status, c.class, c.text)
			}
			wantUser := class != validation && class != "SerializationException" && class != "AccessDeniedException" && class != "RequestEntityTooLargeException" &&
				c.what != "$LATEST with routing" // as recorded
			if user := said["Type"] == "User"; user != wantUser {
				t.Errorf("Type is %v in %s", said["Type"], answer)
			}
		})
	}
}
