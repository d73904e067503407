package lambda

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// The operations of this file tell what a function has not got, so that tools which refresh their picture of a function
// find AWS's answers.

func (s *Service) getAccountSettings(ctx context.Context, _ *lambdaapi.GetAccountSettingsInput) (*lambdaapi.GetAccountSettingsOutput, error) {
	c := scopeOf(ctx)
	var functions, size int64
	var taken int32
	err := s.db.View(ctx, func(r kv.Reader) error {
		for v, err := range kv.ScanJSON[version](r, c.allVersions()) {
			if err != nil {
				return err
			}
			if v.Value.Number == 0 {
				functions++
			}
			size += v.Value.Deployment.CodeSize
		}
		for v, err := range kv.ScanJSON[layerVersion](r, c.allLayerVersions()) {
			if err != nil {
				return err
			}
			size += v.Value.Size
		}
		all, err := c.claims(r)
		taken = all.sum("")
		return err
	})
	if err != nil {
		return nil, err
	}
	return &lambdaapi.GetAccountSettingsOutput{
		AccountLimit: &lambdaapi.AccountLimit{
			TotalCodeSize:                  new(int64(80_530_636_800)),
			CodeSizeUnzipped:               new(s.limits.UnzippedBytes),
			CodeSizeZipped:                 new(s.limits.ZipBytes),
			ConcurrentExecutions:           new(s.limits.Concurrency),
			UnreservedConcurrentExecutions: new(s.limits.Concurrency - taken),
		},
		AccountUsage: &lambdaapi.AccountUsage{TotalCodeSize: &size, FunctionCount: &functions},
	}, nil
}
