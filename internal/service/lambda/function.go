package lambda

import (
	"context"
	"errors"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	codeURLValid = 10 * time.Minute // as on AWS
	maxPage      = 50               // items in one page of a list, whatever is asked for
)

func (s *Service) createFunction(ctx context.Context, in *lambdaapi.CreateFunctionInput) (*lambdaapi.FunctionConfiguration, error) {
	c, ref, err := locate(ctx, "CreateFunction", in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if len(ref.name) > 64 {
		return nil, lambdaapi.ErrInvalidParameterValueException(
			"1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64", ref.name)
	}
	d, err := s.created(in, ref.name, c)
	if err != nil {
		return nil, err
	}
	var code lambdaapi.FunctionCode
	assign(&code, in.Code)
	if err := checkSource(code.ZipFile, code.S3Bucket, code.S3Key, code.ImageUri, code.SourceKMSKeyArn, "creating"); err != nil {
		return nil, err
	}
	if err := s.checkRole(ctx, c, ref.name, in.Role); err != nil {
		return nil, err
	}
	if err := s.checkDeadLetterRole(ctx, c, ref.name, d.Role, d.DeadLetter); err != nil {
		return nil, err
	}
	d.Unzipped = unzippedSize(code.ZipFile)
	// Unpacking is dear, so it is not done for a name that is taken or with layers that will not do.
	var signing string
	may := func(r kv.Reader) error {
		if err := nameFree(r, c, ref.name); err != nil {
			return err
		}
		if deref(in.CodeSigningConfigArn) != "" {
			bound, err := bindable(ctx, r, in.CodeSigningConfigArn)
			if err != nil {
				return err
			}
			signing = bound.ID
			if err := c.checkSigned(r, &function{Name: ref.name, CodeSigning: signing}); err != nil {
				return err
			}
		}
		return s.attach(ctx, r, &d, in.Layers)
	}
	if err := s.db.View(ctx, may); err != nil {
		return nil, err
	}
	digest, release, err := s.addCode(ctx, code.ZipFile)
	if err != nil {
		return nil, err
	}
	defer release()
	d.CodeDigest, d.CodeSize, d.ID = digest, int64(len(code.ZipFile)), call.NewRequestID()

	// AWS tells the runtime's version at once. One that is not to be had is told by the function's state.
	runtimeID, err := s.runtimes.Check(ctx, d.Runtime, d.Architecture)
	if err != nil {
		runtimeID = ""
	}

	defer s.targets.change(c, ref.name)()
	shown := newVersion(ref.name, d, s.now())
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		if err := may(tx); err != nil {
			return err
		}
		f := &function{Name: ref.name, Tags: in.Tags}
		c.bind(tx, f, signing)
		v := newVersion(ref.name, d, s.now())
		v.RuntimeID = runtimeID
		shown = v
		if in.Publish != nil && *in.Publish {
			f.LastVersion = 1
			p := v.publish(1, nil, v.LastModified)
			if err := putVersion(tx, c, nil, p); err != nil {
				return err
			}
			shown = p
		}
		if err := putVersion(tx, c, nil, v); err != nil {
			return err
		}
		return kv.SetJSON(tx, c.functionKey(f.Name), f)
	})
	if err != nil {
		return nil, err
	}
	// AWS: the ARN has no qualifier even if a version was published (recorded 2025-11).
	return c.describe(shown, "", false), nil
}

// checkRole refuses a role that Lambda cannot assume for a function, and roles of other accounts.
func (s *Service) checkRole(ctx context.Context, c scope, name string, role *string) error {
	if s.roles == nil || role == nil {
		return nil
	}
	if a, err := arn.Parse(*role); err != nil || a.Account != c.account {
		return errForeignRole()
	}
	ok, err := s.roles.Assumable(ctx, *role, c.qualifiedARN(name, ""))
	if err == nil && !ok {
		err = lambdaapi.ErrInvalidParameterValueException("The role defined for the function cannot be assumed by Lambda.")
	}
	return err
}

func nameFree(r kv.Reader, c scope, name string) error {
	f, err := getFunction(r, c, name)
	if err == nil && f != nil {
		err = lambdaapi.ErrResourceConflictException("Function already exist: %s", name)
	}
	return err
}

// created is the configuration that a CreateFunction asks for, without code.
func (s *Service) created(in *lambdaapi.CreateFunctionInput, name string, c scope) (deployment, error) {
	d := defaults(name)
	zip := in.PackageType == nil || *in.PackageType == lambdaapi.PackageTypeZip
	switch {
	case !zip:
		return d, errNotServed("PackageType Image: functions from container images are")
	case in.PublishTo != nil:
		return d, errNotServed("PublishTo: Lambda Managed Instances are")
	case in.Runtime == nil || in.Handler == nil || *in.Handler == "":
		return d, lambdaapi.ErrInvalidParameterValueException("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	case len(in.Architectures) > 0:
		d.Architecture = in.Architectures[0]
	}
	if err := checkTags(in.Tags, s.limits.Tags); err != nil {
		return d, err
	}
	if in.TenancyConfig != nil {
		assign(&d.Tenancy, in.TenancyConfig.TenantIsolationMode)
	}
	err := s.configure(&d, &settings{
		Role: in.Role, Handler: in.Handler, Description: in.Description, Timeout: in.Timeout, MemorySize: in.MemorySize,
		VpcConfig: in.VpcConfig, Environment: in.Environment, Runtime: in.Runtime, DeadLetterConfig: in.DeadLetterConfig,
		KMSKeyArn: in.KMSKeyArn, TracingConfig: in.TracingConfig, Layers: in.Layers, FileSystemConfigs: in.FileSystemConfigs,
		ImageConfig: in.ImageConfig, EphemeralStorage: in.EphemeralStorage, SnapStart: in.SnapStart, LoggingConfig: in.LoggingConfig,
		CapacityProviderConfig: in.CapacityProviderConfig, DurableConfig: in.DurableConfig,
	}, c)
	if in.Environment != nil && d.Environment == nil {
		d.Environment = &map[string]string{} // AWS: shown if it was sent (recorded 2025-11)
	}
	return d, err
}

// checkSource checks where code comes from: it must be a ZipFile. doing is "creating" or "updating".
func checkSource(zip []byte, bucket, key, image, kms *string, doing string) error {
	switch {
	case zip != nil && (bucket != nil || key != nil):
		return lambdaapi.ErrInvalidParameterValueException("Please do not provide other FunctionCode parameters when providing a ZipFile.")
	case image != nil:
		return lambdaapi.ErrInvalidParameterValueException("Please don't provide ImageUri when %s a function with packageType Zip.", doing)
	case bucket != nil || key != nil:
		return errNotServed("S3Bucket and S3Key: send the archive as ZipFile. Code from Amazon S3 is")
	case kms != nil && *kms != "":
		return errNotServed("SourceKMSKeyArn: encrypted archives are")
	case zip == nil:
		return lambdaapi.ErrInvalidParameterValueException("Please provide a source for function code.")
	}
	return nil
}

// addCode is codeStore.add with AWS's errors.
func (s *Service) addCode(ctx context.Context, zip []byte) (digest string, release func(), err error) {
	digest, release, err = s.code.add(ctx, zip)
	switch {
	case errors.Is(err, errZipTooBig):
		err = apierr.New("RequestEntityTooLargeException", 413, "Zipped size must be smaller than %d bytes", s.limits.ZipBytes)
	case errors.Is(err, errArchiveTooBig):
		err = lambdaapi.ErrInvalidParameterValueException("Unzipped size must be smaller than %d bytes", s.limits.UnzippedBytes)
	case errors.Is(err, errEmptyArchive):
		err = lambdaapi.ErrInvalidParameterValueException("Uploaded file must be a non-empty zip")
	case errors.Is(err, errBadArchive):
		err = lambdaapi.ErrInvalidParameterValueException("Could not unzip uploaded file. Please check your file, then try to upload again.").Because(err)
	}
	return digest, release, err
}

func (s *Service) getFunction(ctx context.Context, in *lambdaapi.GetFunctionInput) (*lambdaapi.GetFunctionOutput, error) {
	c, ref, err := locate(ctx, "GetFunction", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	var v *version
	var f *function
	var own *reservation
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		if v, err = c.find(r, ref.name, ref.qualifier); err != nil {
			return err
		}
		if f, err = getFunction(r, c, ref.name); err != nil {
			return err
		}
		own, err = get[reservation](r, c.reservedKey(ref.name))
		return err
	})
	if err != nil {
		return nil, err
	}
	url, err := s.codeURL(ctx, v.Deployment.CodeDigest)
	if err != nil {
		return nil, err
	}
	out := &lambdaapi.GetFunctionOutput{
		Configuration: c.describe(v, ref.qualifier, false),
		Code:          &lambdaapi.FunctionCodeLocation{RepositoryType: new("S3"), Location: &url},
	}
	if f != nil && len(f.Tags) > 0 {
		out.Tags = f.Tags
	}
	if own != nil {
		out.Concurrency = &lambdaapi.Concurrency{ReservedConcurrentExecutions: &own.Executions}
	}
	return out, nil
}

func (s *Service) getFunctionConfiguration(ctx context.Context, in *lambdaapi.GetFunctionConfigurationInput) (*lambdaapi.FunctionConfiguration, error) {
	c, ref, err := locate(ctx, "GetFunctionConfiguration", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	v, err := s.lookup(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	return c.describe(v, ref.qualifier, false), nil
}

func (s *Service) listFunctions(ctx context.Context, in *lambdaapi.ListFunctionsInput) (*lambdaapi.ListFunctionsOutput, error) {
	all := in.FunctionVersion != nil
	if in.MasterRegion != nil {
		if !all {
			return nil, lambdaapi.ErrInvalidParameterValueException("FunctionVersion must be set to ALL when MasterRegion is specified.")
		}
		if *in.MasterRegion != "ALL" {
			return &lambdaapi.ListFunctionsOutput{Functions: []lambdaapi.FunctionConfiguration{}}, nil // nothing is replicated
		}
	}
	c := scopeOf(ctx)
	rg := c.functions()
	if all {
		rg = c.allVersions()
	}
	out := &lambdaapi.ListFunctionsOutput{Functions: []lambdaapi.FunctionConfiguration{}}
	err := s.db.View(ctx, func(r kv.Reader) error {
		entries, next, err := page(r, rg, in.Marker, in.MaxItems)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, e := range entries {
			key, qualifier := e.Key, ""
			if !all {
				var name string
				if err := kv.Decode(e.Key, nil, nil, nil, nil, &name); err != nil {
					return err
				}
				key = c.versionKey(name, 0)
			}
			v, err := get[version](r, key)
			if err != nil {
				return err
			}
			if v == nil {
				continue
			}
			if all {
				qualifier = v.name()
			}
			out.Functions = append(out.Functions, *c.describe(v, qualifier, true))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pick goes through a range from marker on until take has taken a page of it. next is nil after the last page.
func pick(r kv.Reader, rg kv.Range, marker *string, maxItems *int32, take func(kv.Entry) (bool, error)) (next *string, err error) {
	return pickUpTo(r, rg, marker, maxItems, maxPage, take)
}

// pickUpTo is pick for pages of at most limit items.
func pickUpTo(r kv.Reader, rg kv.Range, marker *string, maxItems *int32, limit int, take func(kv.Entry) (bool, error)) (next *string, err error) {
	if maxItems != nil {
		limit = min(limit, max(1, int(*maxItems)))
	}
	rest, err := rg.Resume(deref(marker))
	if errors.Is(err, kv.ErrMarker) {
		return nil, lambdaapi.ErrInvalidParameterValueException("Invalid pagination token")
	}
	taken, last := 0, []byte(nil)
	for e, err := range r.Scan(rest) {
		if err != nil {
			return nil, err
		}
		if taken == limit {
			return new(rg.Marker(last)), nil
		}
		ok, err := take(e)
		if err != nil {
			return nil, err
		}
		if ok {
			taken++
		}
		last = e.Key
	}
	return nil, nil
}

// page returns one page of a range. next is nil after the last page.
func page(r kv.Reader, rg kv.Range, marker *string, maxItems *int32) (entries []kv.Entry, next *string, err error) {
	next, err = pick(r, rg, marker, maxItems, func(e kv.Entry) (bool, error) {
		entries = append(entries, e)
		return true, nil
	})
	return entries, next, err
}

func (s *Service) updateFunctionCode(ctx context.Context, in *lambdaapi.UpdateFunctionCodeInput) (*lambdaapi.FunctionConfiguration, error) {
	c, ref, err := locateUnqualified(ctx, "UpdateFunctionCode", in.FunctionName)
	if err != nil {
		return nil, err
	}
	if in.PublishTo != nil {
		return nil, errNotServed("PublishTo: Lambda Managed Instances are")
	}
	size := unzippedSize(in.ZipFile)
	check := func(r kv.Reader) (*version, error) {
		v, err := c.changeable(r, ref.name, in.RevisionId)
		if err != nil {
			return nil, err
		}
		f, err := c.function(r, ref.name)
		if err != nil {
			return nil, err
		}
		if err := c.checkSigned(r, f); err != nil {
			return nil, err
		}
		d := v.Deployment
		d.Unzipped = size
		return v, s.checkSize(&d)
	}
	if err := s.db.View(ctx, func(r kv.Reader) error { _, err := check(r); return err }); err != nil {
		return nil, err
	}
	if err := checkSource(in.ZipFile, in.S3Bucket, in.S3Key, in.ImageUri, in.SourceKMSKeyArn, "updating"); err != nil {
		return nil, err
	}
	digest, release, err := s.addCode(ctx, in.ZipFile)
	if err != nil {
		return nil, err
	}
	defer release()

	id := call.NewRequestID()
	change := func(v *version) {
		d := v.Deployment
		d.ID, d.CodeDigest, d.CodeSize, d.Unzipped = id, digest, int64(len(in.ZipFile)), size
		if len(in.Architectures) > 0 {
			d.Architecture = in.Architectures[0]
		}
		v.deploy(d, s.now())
	}
	if in.DryRun != nil && *in.DryRun {
		var v *version
		err := s.db.View(ctx, func(r kv.Reader) (err error) { v, err = check(r); return err })
		if err != nil {
			return nil, err
		}
		state, update, revision, modified := v.State, v.Update, v.RevisionID, v.LastModified
		change(v)
		v.State, v.Update, v.RevisionID, v.LastModified = state, update, revision, modified
		return c.describe(v, "", false), nil
	}
	defer s.targets.change(c, ref.name)()
	var shown *version
	var qualifier string
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		v, err := check(tx)
		if err != nil {
			return err
		}
		before := *v
		change(v)
		shown, qualifier = v, ""
		if in.Publish != nil && *in.Publish {
			p, _, err := c.publishNext(tx, v, nil, s.now())
			if err != nil {
				return err
			}
			shown, qualifier = p, p.name()
		}
		return putVersion(tx, c, &before, v)
	})
	if err != nil {
		return nil, err
	}
	return c.describe(shown, qualifier, false), nil
}

func (s *Service) updateFunctionConfiguration(ctx context.Context, in *lambdaapi.UpdateFunctionConfigurationInput) (*lambdaapi.FunctionConfiguration, error) {
	c, ref, err := locateUnqualified(ctx, "UpdateFunctionConfiguration", in.FunctionName)
	if err != nil {
		return nil, err
	}
	if in.Role != nil {
		if _, err := s.lookup(ctx, c, ref); err != nil { // what AWS says first
			return nil, err
		}
		if err := s.checkRole(ctx, c, ref.name, in.Role); err != nil {
			return nil, err
		}
	}
	if in.Role != nil || in.DeadLetterConfig != nil {
		v, err := s.lookup(ctx, c, ref)
		if err != nil {
			return nil, err
		}
		role, target := v.serves().Role, v.serves().DeadLetter
		assign(&role, in.Role)
		if in.DeadLetterConfig != nil {
			assign(&target, in.DeadLetterConfig.TargetArn)
		}
		if arn.Is(target) { // else it is refused as what it is
			if err := s.checkDeadLetterRole(ctx, c, ref.name, role, target); err != nil {
				return nil, err
			}
		}
	}
	defer s.targets.change(c, ref.name)()
	id := call.NewRequestID()
	var v *version
	err = s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if v, err = c.changeable(tx, ref.name, in.RevisionId); err != nil {
			return err
		}
		before := *v
		d := v.Deployment
		if err := s.configure(&d, in, c); err != nil {
			return err
		}
		if err := s.attach(ctx, tx, &d, in.Layers); err != nil {
			return err
		}
		if len(in.Layers) > 0 {
			f, err := c.function(tx, ref.name)
			if err != nil {
				return err
			}
			if err := c.checkSigned(tx, f); err != nil {
				return err
			}
		}
		d.ID = id
		v.deploy(d, s.now())
		return putVersion(tx, c, &before, v)
	})
	if err != nil {
		return nil, err
	}
	return c.describe(v, "", false), nil
}

// changeable returns $LATEST of a function, if a caller may change it now. revision is what the caller believes the RevisionId to be, or nil.
func (c scope) changeable(r kv.Reader, name string, revision *string) (*version, error) {
	v, err := c.find(r, name, "")
	if err != nil {
		return nil, err
	}
	if err := v.mayChange(c.qualifiedARN(name, "")); err != nil {
		return nil, err
	}
	return v, v.mustBe(revision)
}

// mustBe checks a RevisionId precondition.
func (v *version) mustBe(revision *string) error { return sameRevision(v.RevisionID, revision) }

func sameRevision(have string, want *string) error {
	if want == nil || *want == have {
		return nil
	}
	return lambdaapi.ErrPreconditionFailedException(
		"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
}

func (s *Service) deleteFunction(ctx context.Context, in *lambdaapi.DeleteFunctionInput) (*lambdaapi.DeleteFunctionOutput, error) {
	c, ref, err := locate(ctx, "DeleteFunction", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	defer s.targets.change(c, ref.name)()
	switch {
	case ref.qualifier == "":
		err = s.db.Update(ctx, func(tx kv.Tx) error { return c.deleteAll(tx, ref.name) })
	case ref.qualifier == latest:
		err = lambdaapi.ErrInvalidParameterValueException("$LATEST version cannot be deleted without deleting the function.")
	default:
		err = s.db.Update(ctx, func(tx kv.Tx) error { return c.deleteOne(tx, ref.name, ref.qualifier) })
	}
	if err != nil {
		return nil, err
	}
	s.code.nudge()
	if err := s.applyReserved(ctx, c, ref.name); err != nil {
		return nil, err
	}
	s.invoker.Retire(c.qualifiedARN(ref.name, ""))
	return &lambdaapi.DeleteFunctionOutput{StatusCode: new(int32(204))}, nil
}

// deleteAll removes a function with its versions and aliases.
func (c scope) deleteAll(tx kv.Tx, name string) error {
	f, err := getFunction(tx, c, name)
	if err != nil {
		return err
	}
	if f == nil {
		return errNoFunction(c.qualifiedARN(name, ""))
	}
	for v, err := range kv.ScanJSON[version](tx, c.versions(name)) {
		if err != nil {
			return err
		}
		if err := putVersion(tx, c, &v.Value, nil); err != nil {
			return err
		}
	}
	for e, err := range tx.Scan(c.aliases(name)) {
		if err != nil {
			return err
		}
		tx.Delete(e.Key)
	}
	tx.Delete(c.reservedKey(name))
	for e, err := range tx.Scan(c.provisionedOf(name)) {
		if err != nil {
			return err
		}
		tx.Delete(e.Key)
	}
	if err := c.concurrencyGuard().Depend(tx); err != nil {
		return err
	}
	c.bind(tx, f, "")
	if err := c.unhang(tx, name, nil); err != nil {
		return err
	}
	// Versions are only added by transactions that write this key, aliases by those that change this guard.
	tx.Delete(c.functionKey(name))
	return c.aliasGuard(name).Depend(tx)
}

// deleteOne removes one published version. One that does not exist is no error.
func (c scope) deleteOne(tx kv.Tx, name, qualifier string) error {
	f, err := getFunction(tx, c, name)
	if err != nil {
		return err
	}
	if f == nil {
		return errNoFunction(c.qualifiedARN(name, ""))
	}
	number, ok := versionNumber(qualifier)
	if !ok {
		// AWS: said even where no such alias exists (recorded 2024-08).
		return lambdaapi.ErrInvalidParameterValueException("Deletion of aliases is not currently supported.")
	}
	v, err := getVersion(tx, c, name, number)
	if err != nil || v == nil {
		return err
	}
	for a, err := range kv.ScanJSON[alias](tx, c.aliases(name)) {
		if err != nil {
			return err
		}
		if _, weighted := a.Value.Weights[qualifier]; weighted || a.Value.Version == number {
			return lambdaapi.ErrResourceConflictException(
				"Failed to delete version %s of function %s because it is referenced by alias %s.", qualifier, name, a.Value.Name)
		}
	}
	if err := c.aliasGuard(name).Depend(tx); err != nil {
		return err
	}
	tx.Delete(c.provisionedKey(name, qualifier))
	if err := c.unhang(tx, name, &qualifier); err != nil {
		return err
	}
	return putVersion(tx, c, v, nil)
}

func (s *Service) codeURL(ctx context.Context, digest string) (string, error) {
	d, err := blob.ParseDigest(digest)
	if err != nil {
		return "", err
	}
	return s.downloads.URL(ctx, d, codeURLValid)
}
