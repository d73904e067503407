package sns

import "errors"

// filter decides which messages a subscription gets; nil is all.
type filter struct{}

func parseFilter(policy, scope string) (*filter, error) {
	if policy == "" || policy == "{}" {
		return nil, nil
	}
	return nil, errors.New("Invalid parameter: FilterPolicy: Mayfly does not serve filter policies yet")
}

func (f *filter) takes(m *message, body string) bool { return true }

// filterError is AWS's error for a filter policy, given among the attributes of Subscribe or alone.
func filterError(err error, attributes bool) error { return err }
