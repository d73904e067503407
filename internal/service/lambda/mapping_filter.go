package lambda

import "github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"

// filter sets the patterns of a mapping.
func (m *mapping) filter(kind *sourceKind, in *lambdaapi.FilterCriteria) error {
	if in == nil {
		return nil
	}
	if len(in.Filters) > 0 {
		return errNotServed("FilterCriteria: filters are")
	}
	m.Filters = nil
	return nil
}
