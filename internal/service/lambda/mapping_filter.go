package lambda

import (
	"fmt"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/lang/eventpattern"
)

// filter sets the patterns of a mapping; criteria without any remove them.
func (m *mapping) filter(kind *sourceKind, in *lambdaapi.FilterCriteria) error {
	if in == nil {
		return nil
	}
	if len(in.Filters) > maxFilters {
		return errMapping("The number of filters exceeds the limit of %d.", maxFilters)
	}
	m.Filters = nil
	for _, f := range in.Filters {
		m.Filters = append(m.Filters, deref(f.Pattern))
	}
	if _, err := compileFilters(kind, m.Filters); err != nil {
		return errMapping("%s", err.Error())
	}
	return nil
}

// patterns implements eventsource.Filter: a record passes if any of them matches.
type patterns []*eventpattern.Pattern

func (p patterns) Match(r *eventsource.Record) bool {
	for _, one := range p {
		if one.MatchRecord(r.JSON, r.Data) {
			return true
		}
	}
	return false
}

// Mismatches implements eventsource.Explainer. Of several filters it speaks of each.
func (p patterns) Mismatches(r *eventsource.Record) (all []string) {
	for i, one := range p {
		why := one.Mismatches(r.JSON, r.Data)
		if len(why) == 0 {
			return nil
		}
		for _, w := range why {
			if len(p) > 1 {
				w = fmt.Sprintf("filter %d: %s", i+1, w)
			}
			all = append(all, w)
		}
	}
	return all
}

// compileFilters returns nil if there are none. Its errors are in AWS's words.
func compileFilters(kind *sourceKind, texts []string) (eventsource.Filter, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	var all patterns
	for _, text := range texts {
		p, err := eventpattern.Parse(kind.dialect, []byte(text))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// ParseFilter compiles a pattern as a mapping of an event source, named by its ARN, would have it.
func ParseFilter(source, pattern string) (eventsource.Filter, error) {
	kind, err := kindOf(source, false)
	if err != nil {
		return nil, err
	}
	return compileFilters(kind, []string{pattern})
}
