package iam

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// AWS's limits for identity providers.
const (
	maxClientIDs   = 100
	maxThumbprints = 5
)

// providerHost returns the host and path of an issuer's URL, under which the provider is known and to which tokens must agree to the letter, or "" if the URL will not do. AWS wants
// https; plain http is taken for loopback, where an installation's own issuer may run.
func providerHost(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return ""
	}
	switch u.Scheme {
	case "https":
	case "http":
		if h := u.Hostname(); h != "localhost" && h != "127.0.0.1" && h != "::1" {
			return ""
		}
	default:
		return ""
	}
	return u.Host + u.Path
}

func providerARN(account, host string) string {
	return arn.New("iam", "", account, "oidc-provider/"+host).String()
}

// getProvider reads the provider with an ARN of the account.
func getProvider(r kv.Reader, account, providerARN string) (*oidcProvider, error) {
	a, err := arn.Parse(providerARN)
	host, ok := strings.CutPrefix(a.Resource, "oidc-provider/")
	if err != nil || !ok || a.Service != "iam" {
		return nil, iamapi.ErrInvalidInputException("Invalid ARN: %s", providerARN)
	}
	rec, ok, err := kv.GetJSON[oidcProvider](r, providerKey(account, host))
	if err != nil {
		return nil, err
	}
	if !ok || a.Account != account {
		return nil, iamapi.ErrNoSuchEntityException("OpenIDConnect Provider not found for arn %s", providerARN)
	}
	return &rec, nil
}

func (s *Service) changeProvider(ctx context.Context, providerARN string, f func(p *oidcProvider) error) error {
	return s.db.Update(ctx, func(tx kv.Tx) error {
		p, err := getProvider(tx, account(ctx), providerARN)
		if err != nil {
			return err
		}
		if err := f(p); err != nil {
			return err
		}
		return kv.SetJSON(tx, providerKey(account(ctx), p.Host), p)
	})
}

func (s *Service) readProvider(ctx context.Context, providerARN string) (p *oidcProvider, err error) {
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		p, err = getProvider(r, account(ctx), providerARN)
		return err
	})
	return p, err
}

func (p *oidcProvider) check() error {
	if len(p.ClientIDs) > maxClientIDs {
		return iamapi.ErrLimitExceededException("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: %d", maxClientIDs)
	}
	if len(p.Thumbprints) > maxThumbprints {
		return iamapi.ErrInvalidInputException("Thumbprint list must contain fewer than %d entries.", maxThumbprints)
	}
	return nil
}

func (s *Service) createOpenIDConnectProvider(ctx context.Context, in *iamapi.CreateOpenIDConnectProviderInput) (*iamapi.CreateOpenIDConnectProviderOutput, error) {
	host := providerHost(*in.Url)
	if host == "" {
		return nil, iamapi.ErrInvalidInputException("Invalid Open ID Connect Provider URL")
	}
	tags, err := addTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	scheme, _, _ := strings.Cut(*in.Url, "://")
	p := &oidcProvider{Host: host, Scheme: scheme, ClientIDs: in.ClientIDList, Thumbprints: in.ThumbprintList, Created: now(), Tags: tags}
	if err := p.check(); err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		key := providerKey(account(ctx), host)
		if _, ok, err := tx.Get(key); err != nil {
			return err
		} else if ok {
			return iamapi.ErrEntityAlreadyExistsException("Provider with url %s already exists.", *in.Url)
		}
		return kv.SetJSON(tx, key, p)
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateOpenIDConnectProviderOutput{OpenIDConnectProviderArn: new(providerARN(account(ctx), host)), Tags: tagsOut(tags)}, nil
}

func (s *Service) getOpenIDConnectProvider(ctx context.Context, in *iamapi.GetOpenIDConnectProviderInput) (*iamapi.GetOpenIDConnectProviderOutput, error) {
	p, err := s.readProvider(ctx, *in.OpenIDConnectProviderArn)
	if err != nil {
		return nil, err
	}
	shown := p.Host // AWS leaves the scheme out, which is always https there
	if p.Scheme == "http" {
		shown = "http://" + p.Host
	}
	return &iamapi.GetOpenIDConnectProviderOutput{
		Url: &shown, ClientIDList: p.ClientIDs, ThumbprintList: p.Thumbprints, CreateDate: &p.Created, Tags: tagsOut(p.Tags),
	}, nil
}

func (s *Service) listOpenIDConnectProviders(ctx context.Context, _ *iamapi.ListOpenIDConnectProvidersInput) (*iamapi.ListOpenIDConnectProvidersOutput, error) {
	out := &iamapi.ListOpenIDConnectProvidersOutput{}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		out.OpenIDConnectProviderList = []iamapi.OpenIDConnectProviderListEntry{}
		for rec, err := range kv.ScanJSON[oidcProvider](r, providerRange(account(ctx))) {
			if err != nil {
				return err
			}
			entry := iamapi.OpenIDConnectProviderListEntry{Arn: new(providerARN(account(ctx), rec.Value.Host))}
			out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList, entry)
		}
		return nil
	})
}

// deleteOpenIDConnectProvider answers well for a provider that is not there, as AWS does.
func (s *Service) deleteOpenIDConnectProvider(ctx context.Context, in *iamapi.DeleteOpenIDConnectProviderInput) (*iamapi.DeleteOpenIDConnectProviderOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		p, err := getProvider(tx, account(ctx), *in.OpenIDConnectProviderArn)
		if isNoSuchEntity(err) {
			return nil
		}
		if err == nil {
			tx.Delete(providerKey(account(ctx), p.Host))
		}
		return err
	})
}

func (s *Service) addClientID(ctx context.Context, in *iamapi.AddClientIDToOpenIDConnectProviderInput) (*iamapi.AddClientIDToOpenIDConnectProviderOutput, error) {
	return nil, s.changeProvider(ctx, *in.OpenIDConnectProviderArn, func(p *oidcProvider) error {
		if !slices.Contains(p.ClientIDs, *in.ClientID) {
			p.ClientIDs = append(p.ClientIDs, *in.ClientID)
		}
		return p.check()
	})
}

func (s *Service) removeClientID(ctx context.Context, in *iamapi.RemoveClientIDFromOpenIDConnectProviderInput) (*iamapi.RemoveClientIDFromOpenIDConnectProviderOutput, error) {
	return nil, s.changeProvider(ctx, *in.OpenIDConnectProviderArn, func(p *oidcProvider) error {
		p.ClientIDs = slices.DeleteFunc(p.ClientIDs, func(id string) bool { return id == *in.ClientID })
		return nil
	})
}

func (s *Service) updateThumbprints(ctx context.Context, in *iamapi.UpdateOpenIDConnectProviderThumbprintInput) (*iamapi.UpdateOpenIDConnectProviderThumbprintOutput, error) {
	return nil, s.changeProvider(ctx, *in.OpenIDConnectProviderArn, func(p *oidcProvider) error {
		p.Thumbprints = in.ThumbprintList
		return p.check()
	})
}

// Tags.

func (s *Service) tagOpenIDConnectProvider(ctx context.Context, in *iamapi.TagOpenIDConnectProviderInput) (*iamapi.TagOpenIDConnectProviderOutput, error) {
	return nil, s.changeProvider(ctx, *in.OpenIDConnectProviderArn, func(p *oidcProvider) (err error) {
		p.Tags, err = addTags(p.Tags, in.Tags)
		return err
	})
}

func (s *Service) untagOpenIDConnectProvider(ctx context.Context, in *iamapi.UntagOpenIDConnectProviderInput) (*iamapi.UntagOpenIDConnectProviderOutput, error) {
	return nil, s.changeProvider(ctx, *in.OpenIDConnectProviderArn, func(p *oidcProvider) error {
		p.Tags = removeTags(p.Tags, in.TagKeys)
		return nil
	})
}

func (s *Service) listOpenIDConnectProviderTags(ctx context.Context, in *iamapi.ListOpenIDConnectProviderTagsInput) (*iamapi.ListOpenIDConnectProviderTagsOutput, error) {
	p, err := s.readProvider(ctx, *in.OpenIDConnectProviderArn)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListOpenIDConnectProviderTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker = pageTags(p.Tags, in.Marker, in.MaxItems)
	return out, nil
}

// Account alias.

func (s *Service) createAccountAlias(ctx context.Context, in *iamapi.CreateAccountAliasInput) (*iamapi.CreateAccountAliasOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		owner, taken, err := kv.GetJSON[string](tx, aliasOwnerKey(*in.AccountAlias))
		if err != nil {
			return err
		}
		if taken && owner != account(ctx) {
			return iamapi.ErrEntityAlreadyExistsException("The account alias %s already exists.", *in.AccountAlias)
		}
		old, ok, err := kv.GetJSON[string](tx, aliasKey(account(ctx))) // an account has one: a new one replaces it
		if err != nil {
			return err
		}
		if ok {
			tx.Delete(aliasOwnerKey(old))
		}
		return cmp.Or(kv.SetJSON(tx, aliasKey(account(ctx)), *in.AccountAlias), kv.SetJSON(tx, aliasOwnerKey(*in.AccountAlias), account(ctx)))
	})
}

func (s *Service) deleteAccountAlias(ctx context.Context, in *iamapi.DeleteAccountAliasInput) (*iamapi.DeleteAccountAliasOutput, error) {
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		alias, ok, err := kv.GetJSON[string](tx, aliasKey(account(ctx)))
		if err != nil {
			return err
		}
		if !ok || alias != *in.AccountAlias {
			return iamapi.ErrNoSuchEntityException("The account alias with name %s cannot be found.", *in.AccountAlias)
		}
		tx.Delete(aliasKey(account(ctx)))
		tx.Delete(aliasOwnerKey(alias))
		return nil
	})
}

func (s *Service) listAccountAliases(ctx context.Context, _ *iamapi.ListAccountAliasesInput) (*iamapi.ListAccountAliasesOutput, error) {
	out := &iamapi.ListAccountAliasesOutput{AccountAliases: []string{}, IsTruncated: new(false)}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		alias, ok, err := kv.GetJSON[string](r, aliasKey(account(ctx)))
		if ok {
			out.AccountAliases = []string{alias}
		}
		return err
	})
}
