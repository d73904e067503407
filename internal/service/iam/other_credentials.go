package iam

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
)

// Users have access keys here and no other credentials. Tools ask for the others before they delete a user: the true answer is that there are none.

// existing reports whether the user is there that an operation means.
func (s *Service) existing(ctx context.Context, userName *string) (string, error) {
	name, err := s.userName(ctx, userName)
	if err == nil {
		_, err = s.readUser(ctx, name)
	}
	return name, err
}

func (s *Service) getLoginProfile(ctx context.Context, in *iamapi.GetLoginProfileInput) (*iamapi.GetLoginProfileOutput, error) {
	return nil, s.noLoginProfile(ctx, in.UserName)
}

func (s *Service) deleteLoginProfile(ctx context.Context, in *iamapi.DeleteLoginProfileInput) (*iamapi.DeleteLoginProfileOutput, error) {
	return nil, s.noLoginProfile(ctx, in.UserName)
}

func (s *Service) noLoginProfile(ctx context.Context, userName *string) error {
	name, err := s.existing(ctx, userName)
	if err != nil {
		return err
	}
	return iamapi.ErrNoSuchEntityException("Login Profile for User %s cannot be found.", name)
}

func (s *Service) getAccountPasswordPolicy(ctx context.Context, _ *iamapi.GetAccountPasswordPolicyInput) (*iamapi.GetAccountPasswordPolicyOutput, error) {
	return nil, iamapi.ErrNoSuchEntityException("The Password Policy with domain name %s cannot be found.", account(ctx))
}

// listMFADevices lists those of the caller if it names no user; root has none either.
func (s *Service) listMFADevices(ctx context.Context, in *iamapi.ListMFADevicesInput) (*iamapi.ListMFADevicesOutput, error) {
	out := &iamapi.ListMFADevicesOutput{MFADevices: []iamapi.MFADevice{}, IsTruncated: new(false)}
	if in.UserName == nil {
		return out, nil
	}
	_, err := s.existing(ctx, in.UserName)
	return out, err
}

func (s *Service) listVirtualMFADevices(context.Context, *iamapi.ListVirtualMFADevicesInput) (*iamapi.ListVirtualMFADevicesOutput, error) {
	return &iamapi.ListVirtualMFADevicesOutput{VirtualMFADevices: []iamapi.VirtualMFADevice{}, IsTruncated: new(false)}, nil
}

func (s *Service) listSSHPublicKeys(ctx context.Context, in *iamapi.ListSSHPublicKeysInput) (*iamapi.ListSSHPublicKeysOutput, error) {
	_, err := s.existing(ctx, in.UserName)
	return &iamapi.ListSSHPublicKeysOutput{SSHPublicKeys: []iamapi.SSHPublicKeyMetadata{}, IsTruncated: new(false)}, err
}

func (s *Service) listSigningCertificates(ctx context.Context, in *iamapi.ListSigningCertificatesInput) (*iamapi.ListSigningCertificatesOutput, error) {
	_, err := s.existing(ctx, in.UserName)
	return &iamapi.ListSigningCertificatesOutput{Certificates: []iamapi.SigningCertificate{}, IsTruncated: new(false)}, err
}

func (s *Service) listServiceSpecificCredentials(ctx context.Context, in *iamapi.ListServiceSpecificCredentialsInput) (*iamapi.ListServiceSpecificCredentialsOutput, error) {
	out := &iamapi.ListServiceSpecificCredentialsOutput{ServiceSpecificCredentials: []iamapi.ServiceSpecificCredentialMetadata{}, IsTruncated: new(false)}
	if in.AllUsers != nil && *in.AllUsers {
		return out, nil
	}
	_, err := s.existing(ctx, in.UserName)
	return out, err
}

func (s *Service) listSAMLProviders(context.Context, *iamapi.ListSAMLProvidersInput) (*iamapi.ListSAMLProvidersOutput, error) {
	return &iamapi.ListSAMLProvidersOutput{SAMLProviderList: []iamapi.SAMLProviderListEntry{}}, nil
}

func (s *Service) listServerCertificates(context.Context, *iamapi.ListServerCertificatesInput) (*iamapi.ListServerCertificatesOutput, error) {
	return &iamapi.ListServerCertificatesOutput{ServerCertificateMetadataList: []iamapi.ServerCertificateMetadata{}, IsTruncated: new(false)}, nil
}
