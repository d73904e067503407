package iam

import (
	"cmp"
	"context"
	"slices"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// getAccountSummary counts the account's entities, beside AWS's default quotas.
func (s *Service) getAccountSummary(ctx context.Context, _ *iamapi.GetAccountSummaryInput) (*iamapi.GetAccountSummaryOutput, error) {
	counts := map[string]int32{
		"UsersQuota": 5000, "GroupsQuota": 300, "RolesQuota": 1000, "PoliciesQuota": 1500, "InstanceProfilesQuota": 1000, "GroupsPerUserQuota": maxGroups,
		"AccessKeysPerUserQuota": maxKeys, "AttachedPoliciesPerUserQuota": maxAttached, "AttachedPoliciesPerGroupQuota": maxAttached,
		"AttachedPoliciesPerRoleQuota": maxAttached, "UserPolicySizeQuota": int32(ofUser.inline), "GroupPolicySizeQuota": int32(ofGroup.inline),
		"RolePolicySizeQuota": int32(ofRole.inline), "PolicySizeQuota": maxManagedDocument, "VersionsPerPolicyQuota": maxVersions,
		"AssumeRolePolicySizeQuota": maxTrustDocument, "AccountMFAEnabled": 0, "AccountAccessKeysPresent": 1, "MFADevices": 0, "MFADevicesInUse": 0,
		"ServerCertificates": 0, "ServerCertificatesQuota": 20, "SigningCertificatesPerUserQuota": 2, "GlobalEndpointTokenVersion": 2,
	}
	err := s.db.View(ctx, func(r kv.Reader) error {
		for name, where := range map[string]kv.Range{
			"Users": userRange(account(ctx)), "Groups": groupRange(account(ctx)), "Roles": roleRange(account(ctx)), "Policies": policyRange(account(ctx)),
			"InstanceProfiles": profileRange(account(ctx)), "Providers": providerRange(account(ctx)),
		} {
			counts[name] = 0
			for _, err := range r.Scan(where) {
				if err != nil {
					return err
				}
				counts[name]++
			}
		}
		return nil
	})
	return &iamapi.GetAccountSummaryOutput{SummaryMap: counts}, err
}

// detail is one entity of GetAccountAuthorizationDetails: one field is set.
type detail struct {
	key    string
	user   *iamapi.UserDetail
	group  *iamapi.GroupDetail
	role   *iamapi.RoleDetail
	policy *iamapi.ManagedPolicyDetail
}

func (s *Service) getAccountAuthorizationDetails(ctx context.Context, in *iamapi.GetAccountAuthorizationDetailsInput) (*iamapi.GetAccountAuthorizationDetailsOutput, error) {
	wanted := func(kind string) bool { return len(in.Filter) == 0 || slices.Contains(in.Filter, kind) }
	profiles, err := s.profiles(ctx, func(p *instanceProfile) bool { return p.Role != "" })
	if err != nil {
		return nil, err
	}
	var all []detail
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		all = nil
		a := account(ctx)
		if wanted(iamapi.EntityTypeUser) {
			err = each(r, userRange(a), func(u *user) {
				o := u.out(a)
				all = append(all, detail{key: "user/" + u.Name, user: &iamapi.UserDetail{
					Path: o.Path, UserName: o.UserName, UserId: o.UserId, Arn: o.Arn, CreateDate: o.CreateDate, UserPolicyList: u.details(), GroupList: u.Groups,
					AttachedManagedPolicies: u.attached(nil), PermissionsBoundary: o.PermissionsBoundary, Tags: o.Tags,
				}})
			})
		}
		if err == nil && wanted(iamapi.EntityTypeGroup) {
			err = each(r, groupRange(a), func(g *group) {
				o := g.out(a)
				all = append(all, detail{key: "group/" + g.Name, group: &iamapi.GroupDetail{
					Path: o.Path, GroupName: o.GroupName, GroupId: o.GroupId, Arn: o.Arn, CreateDate: o.CreateDate, GroupPolicyList: g.details(),
					AttachedManagedPolicies: g.attached(nil),
				}})
			})
		}
		if err == nil && wanted(iamapi.EntityTypeRole) {
			err = each(r, roleRange(a), func(v *role) {
				o := v.out(a)
				held := []iamapi.InstanceProfile{}
				for _, p := range profiles {
					if *p.Roles[0].RoleName == v.Name {
						held = append(held, p)
					}
				}
				all = append(all, detail{key: "role/" + v.Name, role: &iamapi.RoleDetail{
					Path: o.Path, RoleName: o.RoleName, RoleId: o.RoleId, Arn: o.Arn, CreateDate: o.CreateDate, AssumeRolePolicyDocument: o.AssumeRolePolicyDocument,
					InstanceProfileList: held, RolePolicyList: v.details(), AttachedManagedPolicies: v.attached(nil), PermissionsBoundary: o.PermissionsBoundary,
					Tags: o.Tags, RoleLastUsed: &iamapi.RoleLastUsed{},
				}})
			})
		}
		if err == nil && wanted(iamapi.EntityTypeLocalManagedPolicy) {
			err = each(r, policyRange(a), func(p *policy) { all = append(all, p.detail(a)) })
		}
		if err == nil && wanted(iamapi.EntityTypeAWSManagedPolicy) {
			var used map[string]*policy
			used, err = managedIn(r, a)
			for _, p := range used {
				if p.Attachments+p.Boundaries > 0 { // AWS shows those that the account uses
					all = append(all, p.detail(awsAccount))
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	byKey := func(d detail) string { return d.key }
	slices.SortFunc(all, func(a, b detail) int { return cmp.Compare(a.key, b.key) })
	out := &iamapi.GetAccountAuthorizationDetailsOutput{
		UserDetailList: []iamapi.UserDetail{}, GroupDetailList: []iamapi.GroupDetail{}, RoleDetailList: []iamapi.RoleDetail{}, Policies: []iamapi.ManagedPolicyDetail{},
	}
	all, out.IsTruncated, out.Marker = page(all, byKey, in.Marker, in.MaxItems)
	for _, d := range all {
		switch {
		case d.user != nil:
			out.UserDetailList = append(out.UserDetailList, *d.user)
		case d.group != nil:
			out.GroupDetailList = append(out.GroupDetailList, *d.group)
		case d.role != nil:
			out.RoleDetailList = append(out.RoleDetailList, *d.role)
		case d.policy != nil:
			out.Policies = append(out.Policies, *d.policy)
		}
	}
	return out, nil
}

// each calls f with every record of a range.
func each[T any](r kv.Reader, where kv.Range, f func(*T)) error {
	for rec, err := range kv.ScanJSON[T](r, where) {
		if err != nil {
			return err
		}
		f(&rec.Value)
	}
	return nil
}

func (p *permissions) details() []iamapi.PolicyDetail {
	list := []iamapi.PolicyDetail{}
	for _, name := range p.inlineNames() {
		list = append(list, iamapi.PolicyDetail{PolicyName: new(name), PolicyDocument: encoded(p.Inline[name])})
	}
	return list
}

func (p *policy) detail(owner string) detail {
	o := p.out(owner)
	d := &iamapi.ManagedPolicyDetail{
		PolicyName: o.PolicyName, PolicyId: o.PolicyId, Arn: o.Arn, Path: o.Path, DefaultVersionId: o.DefaultVersionId, AttachmentCount: o.AttachmentCount,
		PermissionsBoundaryUsageCount: o.PermissionsBoundaryUsageCount, IsAttachable: o.IsAttachable, Description: o.Description,
		CreateDate: o.CreateDate, UpdateDate: o.UpdateDate,
	}
	for _, v := range slices.Backward(p.Versions) {
		d.PolicyVersionList = append(d.PolicyVersionList, *p.versionOut(v, true))
	}
	return detail{key: "policy/" + *o.Arn, policy: d}
}
