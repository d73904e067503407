package lambda

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const maxLayers = 5 // of a function

// locateLayer reads a LayerName, which may be an ARN. The region must be the caller's; the account need not be.
func locateLayer(ctx context.Context, given *string) (scope, string, error) {
	c := scopeOf(ctx)
	name := deref(given)
	if !strings.HasPrefix(name, "arn:") {
		return c, name, nil
	}
	a, err := arn.Parse(name)
	if err != nil {
		return c, "", errNoLayer()
	}
	if a.Region != c.region {
		return c, "", lambdaapi.ErrInvalidParameterValueException("Layers from '%s' are not reachable in this region ('%s')", a.Region, c.region)
	}
	return scope{a.Account, a.Region}, strings.TrimPrefix(a.Resource, "layer:"), nil
}

// locateOwnLayer is locateLayer for operations that only the layer's account has.
func locateOwnLayer(ctx context.Context, operation string, given *string) (scope, string, error) {
	c, name, err := locateLayer(ctx, given)
	if err == nil && c.account != call.From(ctx).Account {
		err = errDenied(ctx, operation, c.layerARN(name))
	}
	return c, name, err
}

// locateLayerVersion reads the name and number of a layer version.
func locateLayerVersion(ctx context.Context, given *string, number *int64) (scope, string, int64, error) {
	c, name, err := locateLayer(ctx, given)
	if err == nil && deref(number) < 1 {
		err = lambdaapi.ErrInvalidParameterValueException("Layer Version Cannot be less than 1")
	}
	return c, name, deref(number), err
}

// parseLayerVersion reads the ARN of a layer version, whose pattern was checked.
func parseLayerVersion(s string) (c scope, name string, number int64, ok bool) {
	a, err := arn.Parse(s)
	if err != nil {
		return c, "", 0, false
	}
	name, version, ok := strings.Cut(strings.TrimPrefix(a.Resource, "layer:"), ":")
	if !ok {
		return c, "", 0, false
	}
	number, ok = versionNumber(version)
	return scope{a.Account, a.Region}, name, number, ok
}

func errNoLayer() error {
	return lambdaapi.ErrResourceNotFoundException("The resource you requested does not exist.")
}

// errDenied is what AWS says to those that no policy of a resource lets in.
func errDenied(ctx context.Context, operation, resource string) error {
	return apierr.New("AccessDeniedException", 403,
		"User: %s is not authorized to perform: lambda:%s on resource: %s because no resource-based policy allows the lambda:%s action",
		call.From(ctx).Principal.ARN, operation, resource, operation)
}

func (c scope) layerARN(name string) string {
	return arn.New("lambda", c.region, c.account, "layer:"+name).String()
}

func (c scope) layerVersionARN(name string, number int64) string {
	return c.layerARN(name) + ":" + versionName(number)
}

func (s *Service) publishLayerVersion(ctx context.Context, in *lambdaapi.PublishLayerVersionInput) (*lambdaapi.PublishLayerVersionOutput, error) {
	c, name, err := locateOwnLayer(ctx, "PublishLayerVersion", in.LayerName)
	if err != nil {
		return nil, err
	}
	var content lambdaapi.LayerVersionContentInput
	assign(&content, in.Content)
	switch {
	case content.S3Bucket != nil || content.S3Key != nil || content.S3ObjectVersion != nil:
		if content.ZipFile != nil {
			return nil, lambdaapi.ErrInvalidParameterValueException("Please do not provide other Content parameters when providing a ZipFile.")
		}
		return nil, errNotServed("S3Bucket and S3Key: send the archive as ZipFile. Layers from Amazon S3 are")
	case content.ZipFile == nil:
		return nil, lambdaapi.ErrInvalidParameterValueException("Please provide a source for layer content.")
	}
	digest, release, err := s.addCode(ctx, content.ZipFile)
	if err != nil {
		return nil, err
	}
	defer release()
	var v *layerVersion
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		l, err := get[layer](tx, c.layerKey(name))
		if err != nil {
			return err
		}
		if l == nil {
			l = &layer{}
		}
		l.LastVersion++
		v = &layerVersion{
			Layer: name, Number: l.LastVersion, Description: deref(in.Description), License: in.LicenseInfo, Created: s.now(),
			Digest: digest, Size: int64(len(content.ZipFile)), Unzipped: unzippedSize(content.ZipFile),
			Runtimes: in.CompatibleRuntimes, Architectures: in.CompatibleArchitectures,
		}
		tx.Set(c.layerUseKey(digest, name, v.Number), nil)
		useGuard(digest).Change(tx)
		if err := kv.SetJSON(tx, c.layerVersionKey(name, v.Number), v); err != nil {
			return err
		}
		return kv.SetJSON(tx, c.layerKey(name), l)
	})
	if err != nil {
		return nil, err
	}
	out, err := s.describeLayer(ctx, c, v)
	if err != nil {
		return nil, err
	}
	return new(lambdaapi.PublishLayerVersionOutput(*out)), nil
}

func (s *Service) getLayerVersion(ctx context.Context, in *lambdaapi.GetLayerVersionInput) (*lambdaapi.GetLayerVersionResponse, error) {
	c, name, number, err := locateLayerVersion(ctx, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	return s.readLayer(ctx, c, name, number)
}

func (s *Service) getLayerVersionByArn(ctx context.Context, in *lambdaapi.GetLayerVersionByArnInput) (*lambdaapi.GetLayerVersionResponse, error) {
	c, name, number, ok := parseLayerVersion(deref(in.Arn))
	if !ok {
		return nil, lambdaapi.ErrInvalidParameterValueException("Layer Version Cannot be less than 1")
	}
	if here := call.From(ctx).Region; c.region != here {
		return nil, lambdaapi.ErrInvalidParameterValueException("Layers from '%s' are not reachable in this region ('%s')", c.region, here)
	}
	return s.readLayer(ctx, c, name, number)
}

func (s *Service) readLayer(ctx context.Context, c scope, name string, number int64) (*lambdaapi.GetLayerVersionResponse, error) {
	var v *layerVersion
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		v, err = c.visibleLayer(ctx, r, name, number)
		return err
	})
	if err == nil && v == nil {
		err = errNoLayer()
	}
	if err != nil {
		return nil, err
	}
	return s.describeLayer(ctx, c, v)
}

// visibleLayer reads a layer version that the caller's account may use; nil if there is none. To other accounts those that are missing and
// those that are not shared look the same.
func (c scope) visibleLayer(ctx context.Context, r kv.Reader, name string, number int64) (*layerVersion, error) {
	v, err := getLayerVersion(r, c, name, number)
	if err != nil {
		return nil, err
	}
	if account := call.From(ctx).Account; account != c.account && (v == nil || !v.allows(account)) {
		return nil, errDenied(ctx, "GetLayerVersion", c.layerVersionARN(name, number))
	}
	return v, nil
}

func (s *Service) listLayers(ctx context.Context, in *lambdaapi.ListLayersInput) (*lambdaapi.ListLayersOutput, error) {
	c := scopeOf(ctx)
	out := &lambdaapi.ListLayersOutput{Layers: []lambdaapi.LayersListItem{}}
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		out.NextMarker, err = pick(r, c.layers(), in.Marker, in.MaxItems, func(e kv.Entry) (bool, error) {
			var name string
			if err := kv.Decode(e.Key, nil, nil, nil, nil, &name); err != nil {
				return false, err
			}
			for v, err := range kv.ScanJSON[layerVersion](r, c.layerVersions(name).Backward()) {
				if err != nil {
					return false, err
				}
				if v.Value.suits(in.CompatibleRuntime, in.CompatibleArchitecture) {
					out.Layers = append(out.Layers, lambdaapi.LayersListItem{
						LayerName: &name, LayerArn: new(c.layerARN(name)), LatestMatchingVersion: new(c.layerItem(&v.Value)),
					})
					return true, nil
				}
			}
			return false, nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) listLayerVersions(ctx context.Context, in *lambdaapi.ListLayerVersionsInput) (*lambdaapi.ListLayerVersionsOutput, error) {
	c, name, err := locateOwnLayer(ctx, "ListLayerVersions", in.LayerName)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.ListLayerVersionsOutput{LayerVersions: []lambdaapi.LayerVersionsListItem{}}
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		// AWS: the newest first.
		out.NextMarker, err = pick(r, c.layerVersions(name).Backward(), in.Marker, in.MaxItems, func(e kv.Entry) (bool, error) {
			v, err := get[layerVersion](r, e.Key)
			if err != nil || !v.suits(in.CompatibleRuntime, in.CompatibleArchitecture) {
				return false, err
			}
			out.LayerVersions = append(out.LayerVersions, c.layerItem(v))
			return true, nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// deleteLayerVersion deletes a layer version; one that does not exist is no error, as on AWS. Functions that hold it go on with it.
func (s *Service) deleteLayerVersion(ctx context.Context, in *lambdaapi.DeleteLayerVersionInput) (*lambdaapi.DeleteLayerVersionOutput, error) {
	c, name, number, err := locateLayerVersion(ctx, in.LayerName, in.VersionNumber)
	if err == nil && c.account != call.From(ctx).Account {
		err = errDenied(ctx, "DeleteLayerVersion", c.layerVersionARN(name, number))
	}
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		v, err := getLayerVersion(tx, c, name, number)
		if err != nil || v == nil {
			return err
		}
		tx.Delete(c.layerVersionKey(name, number))
		tx.Delete(c.layerUseKey(v.Digest, name, number))
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.code.nudge()
	return nil, nil
}

func (s *Service) describeLayer(ctx context.Context, c scope, v *layerVersion) (*lambdaapi.GetLayerVersionResponse, error) {
	url, err := s.codeURL(ctx, v.Digest)
	if err != nil {
		return nil, err
	}
	i := c.layerItem(v)
	return &lambdaapi.GetLayerVersionResponse{
		Content:  &lambdaapi.LayerVersionContentOutput{Location: &url, CodeSha256: new(digestBase64(v.Digest)), CodeSize: &v.Size},
		LayerArn: new(c.layerARN(v.Layer)), LayerVersionArn: i.LayerVersionArn, Description: i.Description, CreatedDate: i.CreatedDate,
		Version: i.Version, CompatibleRuntimes: i.CompatibleRuntimes, LicenseInfo: i.LicenseInfo, CompatibleArchitectures: i.CompatibleArchitectures,
	}, nil
}

func (c scope) layerItem(v *layerVersion) lambdaapi.LayerVersionsListItem {
	return lambdaapi.LayerVersionsListItem{
		LayerVersionArn: new(c.layerVersionARN(v.Layer, v.Number)), Version: &v.Number, Description: &v.Description,
		CreatedDate: new(v.Created.UTC().Format(timeFormat)), LicenseInfo: v.License,
		CompatibleRuntimes: v.Runtimes, CompatibleArchitectures: v.Architectures,
	}
}

// suits reports whether a layer version was published for a runtime and an architecture; nil asks for none. AWS uses
// what a layer is compatible with for nothing but this: a function may have any layer.
func (v *layerVersion) suits(runtime, architecture *string) bool {
	return (runtime == nil || slices.Contains(v.Runtimes, *runtime)) && (architecture == nil || slices.Contains(v.Architectures, *architecture))
}

// checkLayers checks what needs no look at the layers themselves, in the order and words of AWS.
func checkLayers(layers []string, c scope) error {
	if len(layers) > maxLayers {
		return lambdaapi.ErrInvalidParameterValueException("Cannot reference more than %d layers.", maxLayers)
	}
	seen := map[string]string{}
	for _, l := range layers {
		a, err := arn.Parse(l)
		if err != nil {
			return errLayerMissing(l)
		}
		if a.Region != c.region {
			return lambdaapi.ErrInvalidParameterValueException(
				"Layers are not in the same region as the function. Layers are expected to be in region %s.", c.region)
		}
		layer := l[:strings.LastIndexByte(l, ':')]
		if other, dup := seen[layer]; dup {
			return lambdaapi.ErrInvalidParameterValueException(
				"Two different versions of the same layer are not allowed to be referenced in the same function. %s and %s are versions of the same layer.", other, l)
		}
		seen[layer] = l
	}
	return nil
}

func errLayerMissing(arn string) error {
	return lambdaapi.ErrInvalidParameterValueException("Layer version %s does not exist.", arn)
}

// attach gives d the layers that a caller names, if it names any, instead of those that it has, and checks the size of code and layers
// together.
func (s *Service) attach(ctx context.Context, r kv.Reader, d *deployment, layers []string) error {
	if layers != nil {
		d.Layers = nil
	}
	for _, l := range layers {
		c, name, number, ok := parseLayerVersion(l)
		if !ok {
			return errLayerMissing(l)
		}
		v, err := c.visibleLayer(ctx, r, name, number)
		if err != nil {
			return err
		}
		if v == nil {
			return errLayerMissing(l)
		}
		d.Layers = append(d.Layers, attached{ARN: l, Digest: v.Digest, Size: v.Size, Unzipped: v.Unzipped})
	}
	return s.checkSize(d)
}

// checkSize checks the size of code and layers together.
func (s *Service) checkSize(d *deployment) error {
	sum := d.Unzipped
	for _, l := range d.Layers {
		sum += l.Unzipped
	}
	if len(d.Layers) > 0 && sum > s.limits.UnzippedBytes {
		return lambdaapi.ErrInvalidParameterValueException(
			"Function code combined with layers exceeds the maximum allowed size of %d bytes. The actual size is %d bytes.", s.limits.UnzippedBytes, sum)
	}
	return nil
}

// layer is what all versions of a layer share. It stays when they are deleted.
type layer struct {
	LastVersion int64 `json:"lastVersion"` // highest number ever published; none is used twice
}

// layerVersion is a published version of a layer.
type layerVersion struct {
	Layer         string    `json:"layer"`
	Number        int64     `json:"number"`
	Description   string    `json:"description,omitempty"`
	License       *string   `json:"license,omitempty"`
	Created       time.Time `json:"created"`
	Digest        string    `json:"digest"`   // hex SHA-256 of the archive
	Size          int64     `json:"size"`     // bytes zipped
	Unzipped      int64     `json:"unzipped"` // bytes
	Runtimes      []string  `json:"runtimes,omitempty"`
	Architectures []string  `json:"architectures,omitempty"`

	Policy         policy `json:"policy,omitzero"`
	PolicyRevision string `json:"policyRevision,omitempty"`
}

// attached is a layer version as a deployment has it. It needs no more than this when the layer version is deleted.
type attached struct {
	ARN      string `json:"arn"`
	Digest   string `json:"digest"`
	Size     int64  `json:"size"`     // bytes zipped
	Unzipped int64  `json:"unzipped"` // bytes
}

func getLayerVersion(r kv.Reader, c scope, name string, number int64) (*layerVersion, error) {
	return get[layerVersion](r, c.layerVersionKey(name, number))
}
