package lambda

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const maxPolicy = 20_480 // bytes of the policy of one resource

// allows reports whether the policy of a layer version lets another account use it. No account is in an organization here, so that a statement
// for one lets nobody in.
func (v *layerVersion) allows(account string) bool {
	return slices.ContainsFunc(v.Policy.Statements, func(p permission) bool {
		return p.OrganizationID == "" && (p.Principal == "*" || p.Principal == account || p.Principal == rootARN(account))
	})
}

func rootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings
	}
	return string(b)
}

// LayerPolicy returns the policy of a layer version with an ARN as JSON, "" if it has none or does not exist. The error is trouble of
// the store.
func (s *Service) LayerPolicy(ctx context.Context, arn string) (policy string, err error) {
	c, name, number, ok := parseLayerVersion(arn)
	if !ok {
		return "", nil
	}
	err = s.db.View(ctx, func(r kv.Reader) error {
		v, err := getLayerVersion(r, c, name, number)
		if err == nil && v != nil && len(v.Policy.Statements) > 0 {
			policy = v.Policy.document(arn)
		}
		return err
	})
	return policy, err
}

// changeLayer changes the policy of a layer version of the caller's account.
func (s *Service) changeLayer(ctx context.Context, operation string, given *string, number *int64, change func(v *layerVersion, arn string) error) error {
	c, name, n, err := locateLayerVersion(ctx, given, number)
	resource := c.layerVersionARN(name, n)
	if err == nil && c.account != call.From(ctx).Account {
		err = errDenied(ctx, operation, resource)
	}
	if err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		v, err := getLayerVersion(tx, c, name, n)
		if err != nil {
			return err
		}
		if v == nil {
			return lambdaapi.ErrResourceNotFoundException("Layer version %s does not exist.", resource)
		}
		if err := change(v, resource); err != nil {
			return err
		}
		v.PolicyRevision = call.NewRequestID()
		return kv.SetJSON(tx, c.layerVersionKey(name, n), v)
	})
}

func samePolicyRevision(have string, want *string) error {
	if want == nil || *want == have {
		return nil
	}
	return lambdaapi.ErrPreconditionFailedException(
		"The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id")
}

func (s *Service) addLayerVersionPermission(ctx context.Context, in *lambdaapi.AddLayerVersionPermissionInput) (*lambdaapi.AddLayerVersionPermissionOutput, error) {
	added := permission{ID: deref(in.StatementId), Action: deref(in.Action), Principal: deref(in.Principal), OrganizationID: deref(in.OrganizationId)}
	var changed *layerVersion
	var statement string
	err := s.changeLayer(ctx, "AddLayerVersionPermission", in.LayerName, in.VersionNumber, func(v *layerVersion, arn string) error {
		if err := samePolicyRevision(v.PolicyRevision, in.RevisionId); err != nil {
			return err
		}
		if slices.ContainsFunc(v.Policy.Statements, func(p permission) bool { return p.ID == added.ID }) {
			return lambdaapi.ErrResourceConflictException(
				"The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", added.ID)
		}
		v.Policy.Statements = append(v.Policy.Statements, added)
		if size := len(v.Policy.document(arn)); size > maxPolicy {
			return lambdaapi.ErrPolicyLengthExceededException("The final policy size (%d) is bigger than the limit (%d).", size, maxPolicy)
		}
		changed, statement = v, mustJSON(added.document(arn))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.AddLayerVersionPermissionOutput{Statement: &statement, RevisionId: &changed.PolicyRevision}, nil
}

func (s *Service) removeLayerVersionPermission(ctx context.Context, in *lambdaapi.RemoveLayerVersionPermissionInput) (*lambdaapi.RemoveLayerVersionPermissionOutput, error) {
	return nil, s.changeLayer(ctx, "RemoveLayerVersionPermission", in.LayerName, in.VersionNumber, func(v *layerVersion, _ string) error {
		if len(v.Policy.Statements) == 0 {
			return errNoPolicy()
		}
		if err := samePolicyRevision(v.PolicyRevision, in.RevisionId); err != nil {
			return err
		}
		i := slices.IndexFunc(v.Policy.Statements, func(p permission) bool { return p.ID == deref(in.StatementId) })
		if i < 0 {
			return lambdaapi.ErrResourceNotFoundException("Statement %s is not found in resource policy.", deref(in.StatementId))
		}
		v.Policy.Statements = slices.Delete(v.Policy.Statements, i, i+1)
		return nil
	})
}

func errNoPolicy() error {
	return lambdaapi.ErrResourceNotFoundException("No policy is associated with the given resource.")
}

func (s *Service) getLayerVersionPolicy(ctx context.Context, in *lambdaapi.GetLayerVersionPolicyInput) (*lambdaapi.GetLayerVersionPolicyOutput, error) {
	c, name, number, err := locateLayerVersion(ctx, in.LayerName, in.VersionNumber)
	resource := c.layerVersionARN(name, number)
	if err == nil && c.account != call.From(ctx).Account {
		err = errDenied(ctx, "GetLayerVersionPolicy", resource)
	}
	if err != nil {
		return nil, err
	}
	var v *layerVersion
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		v, err = getLayerVersion(r, c, name, number)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case v == nil:
		return nil, lambdaapi.ErrResourceNotFoundException("Layer version %s does not exist.", resource)
	case len(v.Policy.Statements) == 0:
		return nil, errNoPolicy()
	}
	return &lambdaapi.GetLayerVersionPolicyOutput{Policy: new(v.Policy.document(resource)), RevisionId: &v.PolicyRevision}, nil
}
