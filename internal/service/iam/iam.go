package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// Limits of AWS, per role, policy or account.
const (
	maxTags            = 50
	maxAttached        = 10 // AWS's default quota
	maxVersions        = 5
	maxManagedDocument = 6144 // characters without white space
	maxTrustDocument   = 2048
	defaultMaxSession  = 3600 // seconds
	defaultPage        = 100
)

// Deps is what the service needs.
type Deps struct{ DB kv.DB }

// Service is IAM. Its methods are safe for concurrent use.
type Service struct {
	db       *store
	compiled compiled
	used     uses
	started  time.Time // stands for the time at which the account was made
}

// New returns the service.
func New(d Deps) (*Service, error) {
	if d.DB == nil {
		return nil, errors.New("iam: incomplete Deps")
	}
	s := &Service{db: &store{DB: d.DB}, started: now()}
	s.compiled.clear()
	return s, nil
}

// Register adds the service's operations to mux.
func (s *Service) Register(mux *smithy.Mux) {
	iamapi.CreateRole.Handle(mux, s.createRole)
	iamapi.GetRole.Handle(mux, s.getRole)
	iamapi.ListRoles.Handle(mux, s.listRoles)
	iamapi.UpdateRole.Handle(mux, s.updateRole)
	iamapi.UpdateRoleDescription.Handle(mux, s.updateRoleDescription)
	iamapi.UpdateAssumeRolePolicy.Handle(mux, s.updateAssumeRolePolicy)
	iamapi.DeleteRole.Handle(mux, s.deleteRole)
	iamapi.PutRolePermissionsBoundary.Handle(mux, s.putRolePermissionsBoundary)
	iamapi.DeleteRolePermissionsBoundary.Handle(mux, s.deleteRolePermissionsBoundary)
	iamapi.TagRole.Handle(mux, s.tagRole)
	iamapi.UntagRole.Handle(mux, s.untagRole)
	iamapi.ListRoleTags.Handle(mux, s.listRoleTags)
	iamapi.ListInstanceProfilesForRole.Handle(mux, s.listInstanceProfilesForRole)

	iamapi.PutRolePolicy.Handle(mux, s.putRolePolicy)
	iamapi.GetRolePolicy.Handle(mux, s.getRolePolicy)
	iamapi.ListRolePolicies.Handle(mux, s.listRolePolicies)
	iamapi.DeleteRolePolicy.Handle(mux, s.deleteRolePolicy)
	iamapi.AttachRolePolicy.Handle(mux, s.attachRolePolicy)
	iamapi.DetachRolePolicy.Handle(mux, s.detachRolePolicy)
	iamapi.ListAttachedRolePolicies.Handle(mux, s.listAttachedRolePolicies)

	iamapi.CreateUser.Handle(mux, s.createUser)
	iamapi.GetUser.Handle(mux, s.getUser)
	iamapi.ListUsers.Handle(mux, s.listUsers)
	iamapi.UpdateUser.Handle(mux, s.updateUser)
	iamapi.DeleteUser.Handle(mux, s.deleteUser)
	iamapi.PutUserPermissionsBoundary.Handle(mux, s.putUserPermissionsBoundary)
	iamapi.DeleteUserPermissionsBoundary.Handle(mux, s.deleteUserPermissionsBoundary)
	iamapi.TagUser.Handle(mux, s.tagUser)
	iamapi.UntagUser.Handle(mux, s.untagUser)
	iamapi.ListUserTags.Handle(mux, s.listUserTags)
	iamapi.PutUserPolicy.Handle(mux, s.putUserPolicy)
	iamapi.GetUserPolicy.Handle(mux, s.getUserPolicy)
	iamapi.ListUserPolicies.Handle(mux, s.listUserPolicies)
	iamapi.DeleteUserPolicy.Handle(mux, s.deleteUserPolicy)
	iamapi.AttachUserPolicy.Handle(mux, s.attachUserPolicy)
	iamapi.DetachUserPolicy.Handle(mux, s.detachUserPolicy)
	iamapi.ListAttachedUserPolicies.Handle(mux, s.listAttachedUserPolicies)
	iamapi.ListGroupsForUser.Handle(mux, s.listGroupsForUser)

	iamapi.CreateAccessKey.Handle(mux, s.createAccessKey)
	iamapi.ListAccessKeys.Handle(mux, s.listAccessKeys)
	iamapi.UpdateAccessKey.Handle(mux, s.updateAccessKey)
	iamapi.DeleteAccessKey.Handle(mux, s.deleteAccessKey)
	iamapi.GetAccessKeyLastUsed.Handle(mux, s.getAccessKeyLastUsed)

	iamapi.GetLoginProfile.Handle(mux, s.getLoginProfile)
	iamapi.DeleteLoginProfile.Handle(mux, s.deleteLoginProfile)
	iamapi.GetAccountPasswordPolicy.Handle(mux, s.getAccountPasswordPolicy)
	iamapi.ListMFADevices.Handle(mux, s.listMFADevices)
	iamapi.ListVirtualMFADevices.Handle(mux, s.listVirtualMFADevices)
	iamapi.ListSSHPublicKeys.Handle(mux, s.listSSHPublicKeys)
	iamapi.ListSigningCertificates.Handle(mux, s.listSigningCertificates)
	iamapi.ListServiceSpecificCredentials.Handle(mux, s.listServiceSpecificCredentials)
	iamapi.ListSAMLProviders.Handle(mux, s.listSAMLProviders)
	iamapi.ListServerCertificates.Handle(mux, s.listServerCertificates)

	iamapi.CreateGroup.Handle(mux, s.createGroup)
	iamapi.GetGroup.Handle(mux, s.getGroup)
	iamapi.ListGroups.Handle(mux, s.listGroups)
	iamapi.UpdateGroup.Handle(mux, s.updateGroup)
	iamapi.DeleteGroup.Handle(mux, s.deleteGroup)
	iamapi.AddUserToGroup.Handle(mux, s.addUserToGroup)
	iamapi.RemoveUserFromGroup.Handle(mux, s.removeUserFromGroup)
	iamapi.PutGroupPolicy.Handle(mux, s.putGroupPolicy)
	iamapi.GetGroupPolicy.Handle(mux, s.getGroupPolicy)
	iamapi.ListGroupPolicies.Handle(mux, s.listGroupPolicies)
	iamapi.DeleteGroupPolicy.Handle(mux, s.deleteGroupPolicy)
	iamapi.AttachGroupPolicy.Handle(mux, s.attachGroupPolicy)
	iamapi.DetachGroupPolicy.Handle(mux, s.detachGroupPolicy)
	iamapi.ListAttachedGroupPolicies.Handle(mux, s.listAttachedGroupPolicies)

	iamapi.CreateInstanceProfile.Handle(mux, s.createInstanceProfile)
	iamapi.GetInstanceProfile.Handle(mux, s.getInstanceProfile)
	iamapi.ListInstanceProfiles.Handle(mux, s.listInstanceProfiles)
	iamapi.DeleteInstanceProfile.Handle(mux, s.deleteInstanceProfile)
	iamapi.AddRoleToInstanceProfile.Handle(mux, s.addRoleToInstanceProfile)
	iamapi.RemoveRoleFromInstanceProfile.Handle(mux, s.removeRoleFromInstanceProfile)
	iamapi.TagInstanceProfile.Handle(mux, s.tagInstanceProfile)
	iamapi.UntagInstanceProfile.Handle(mux, s.untagInstanceProfile)
	iamapi.ListInstanceProfileTags.Handle(mux, s.listInstanceProfileTags)

	iamapi.CreateOpenIDConnectProvider.Handle(mux, s.createOpenIDConnectProvider)
	iamapi.GetOpenIDConnectProvider.Handle(mux, s.getOpenIDConnectProvider)
	iamapi.ListOpenIDConnectProviders.Handle(mux, s.listOpenIDConnectProviders)
	iamapi.DeleteOpenIDConnectProvider.Handle(mux, s.deleteOpenIDConnectProvider)
	iamapi.AddClientIDToOpenIDConnectProvider.Handle(mux, s.addClientID)
	iamapi.RemoveClientIDFromOpenIDConnectProvider.Handle(mux, s.removeClientID)
	iamapi.UpdateOpenIDConnectProviderThumbprint.Handle(mux, s.updateThumbprints)
	iamapi.TagOpenIDConnectProvider.Handle(mux, s.tagOpenIDConnectProvider)
	iamapi.UntagOpenIDConnectProvider.Handle(mux, s.untagOpenIDConnectProvider)
	iamapi.ListOpenIDConnectProviderTags.Handle(mux, s.listOpenIDConnectProviderTags)

	iamapi.CreateServiceLinkedRole.Handle(mux, s.createServiceLinkedRole)
	iamapi.DeleteServiceLinkedRole.Handle(mux, s.deleteServiceLinkedRole)
	iamapi.GetServiceLinkedRoleDeletionStatus.Handle(mux, s.getServiceLinkedRoleDeletionStatus)

	iamapi.CreateAccountAlias.Handle(mux, s.createAccountAlias)
	iamapi.DeleteAccountAlias.Handle(mux, s.deleteAccountAlias)
	iamapi.ListAccountAliases.Handle(mux, s.listAccountAliases)
	iamapi.GetAccountSummary.Handle(mux, s.getAccountSummary)
	iamapi.GetAccountAuthorizationDetails.Handle(mux, s.getAccountAuthorizationDetails)

	iamapi.SimulateCustomPolicy.Handle(mux, s.simulateCustomPolicy)
	iamapi.SimulatePrincipalPolicy.Handle(mux, s.simulatePrincipalPolicy)
	iamapi.GetContextKeysForCustomPolicy.Handle(mux, s.getContextKeysForCustomPolicy)
	iamapi.GetContextKeysForPrincipalPolicy.Handle(mux, s.getContextKeysForPrincipalPolicy)

	iamapi.CreatePolicy.Handle(mux, s.createPolicy)
	iamapi.GetPolicy.Handle(mux, s.getPolicy)
	iamapi.ListPolicies.Handle(mux, s.listPolicies)
	iamapi.DeletePolicy.Handle(mux, s.deletePolicy)
	iamapi.CreatePolicyVersion.Handle(mux, s.createPolicyVersion)
	iamapi.GetPolicyVersion.Handle(mux, s.getPolicyVersion)
	iamapi.ListPolicyVersions.Handle(mux, s.listPolicyVersions)
	iamapi.SetDefaultPolicyVersion.Handle(mux, s.setDefaultPolicyVersion)
	iamapi.DeletePolicyVersion.Handle(mux, s.deletePolicyVersion)
	iamapi.ListEntitiesForPolicy.Handle(mux, s.listEntitiesForPolicy)
	iamapi.TagPolicy.Handle(mux, s.tagPolicy)
	iamapi.UntagPolicy.Handle(mux, s.untagPolicy)
	iamapi.ListPolicyTags.Handle(mux, s.listPolicyTags)
}

func account(ctx context.Context) string { return call.From(ctx).Account }

// newID makes a unique identifier with the prefix of its kind, such as AROA, in AWS's form.
func newID(prefix string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var b [17]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = digits[b[i]%32]
	}
	return prefix + string(b[:])
}

// encoded is how IAM returns policy documents: percent-encoded as RFC 3986 has it.
func encoded(document string) *string {
	return new(strings.ReplaceAll(url.QueryEscape(document), "+", "%20"))
}

// checkGrammar parses a document.
func checkGrammar(document string, kind iampolicy.Kind) error {
	if _, err := iampolicy.Parse(document, kind); err != nil {
		return iamapi.ErrMalformedPolicyDocumentException("%s", err.Error())
	}
	return nil
}

// checkDocument parses a document and holds it to a size, counted as IAM does without white space.
func checkDocument(document string, kind iampolicy.Kind, limit int, what string) error {
	if err := checkGrammar(document, kind); err != nil {
		return err
	}
	if size(document) > limit {
		return iamapi.ErrLimitExceededException("Cannot exceed quota for %s: %d", what, limit)
	}
	return nil
}

func size(document string) int {
	n := 0
	for _, r := range document {
		if !strings.ContainsRune(" \t\r\n", r) {
			n++
		}
	}
	return n
}

// path is the optional path of an entity. The model holds it to its form.
func path(p *string) string {
	if p == nil || *p == "" {
		return "/"
	}
	return *p
}

// Tags.

func addTags(have []tag, add []iamapi.Tag) ([]tag, error) {
	have = slices.Clone(have)
	seen := map[string]bool{}
	for _, t := range add {
		if seen[strings.ToLower(*t.Key)] {
			return nil, iamapi.ErrInvalidInputException("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[strings.ToLower(*t.Key)] = true
		if strings.HasPrefix(strings.ToLower(*t.Key), "aws:") {
			return nil, iamapi.ErrInvalidInputException("Tag keys beginning with 'aws:' are reserved and cannot be set.")
		}
		n := tag{*t.Key, *t.Value}
		if i := slices.IndexFunc(have, func(h tag) bool { return strings.EqualFold(h.Key, n.Key) }); i >= 0 {
			have[i] = n
		} else {
			have = append(have, n)
		}
	}
	if len(have) > maxTags {
		return nil, iamapi.ErrLimitExceededException("The number of tags has reached the maximum limit.")
	}
	return have, nil
}

func removeTags(have []tag, keys []string) []tag {
	return slices.DeleteFunc(slices.Clone(have), func(h tag) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, h.Key) })
	})
}

// tagsOut is nil without tags: the element is then left out, as it is in Get and Create answers.
func tagsOut(tags []tag) []iamapi.Tag {
	var out []iamapi.Tag
	for _, t := range tags {
		out = append(out, iamapi.Tag{Key: new(t.Key), Value: new(t.Value)})
	}
	return out
}

// page cuts what a Marker and MaxItems ask for out of a list. Markers are the names of the last items returned.
func page[T any](items []T, name func(T) string, marker *string, max *int32) (out []T, truncated *bool, next *string) {
	if marker != nil {
		i, _ := slices.BinarySearchFunc(items, *marker, func(t T, m string) int { return strings.Compare(name(t), m) })
		if i < len(items) && name(items[i]) == *marker {
			i++
		}
		items = items[i:]
	}
	n := defaultPage
	if max != nil {
		n = int(*max)
	}
	if len(items) > n {
		return items[:n], new(true), new(name(items[n-1]))
	}
	return items, new(false), nil
}

func itself(s string) string { return s }

func entityARN(account, kind, path, name string) string {
	return arn.New("iam", "", account, kind+path+name).String()
}

func noSuchRole(name string) *apierr.Error {
	return iamapi.ErrNoSuchEntityException("The role with name %s cannot be found.", name)
}

func noSuchPolicy(policyARN string) *apierr.Error {
	return iamapi.ErrNoSuchEntityException("Policy %s does not exist or is not attachable.", policyARN)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func versionName(n int) string { return fmt.Sprintf("v%d", n) }

func isNoSuchEntity(err error) bool {
	e, ok := errors.AsType[*apierr.Error](err)
	return ok && e.Code == "NoSuchEntityException"
}

// accessDenied is the answer to who wants to change what belongs to AWS.
func accessDenied(ctx context.Context, resource string) error {
	return apierr.New("AccessDenied", 403, "User: %s is not authorized to perform this action on resource: policy %s", call.From(ctx).Principal.ARN, resource)
}
