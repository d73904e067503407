package logs

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// deliveryRetention is the retention in days that groups of class DELIVERY always have.
const deliveryRetention = 2

func (s *Service) createLogGroup(ctx context.Context, in *logsapi.CreateLogGroupInput) (*logsapi.CreateLogGroupOutput, error) {
	sc := scopeOf(ctx)
	name := *in.LogGroupName
	if len(name) >= 4 && strings.EqualFold(name[:4], "aws/") {
		return nil, logsapi.ErrInvalidParameterException("Log groups starting with AWS/ are reserved for AWS.")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	g := &logGroup{
		ID: newID(), Name: name, Created: time.Now().UnixMilli(), Class: logsapi.LogGroupClassStandard,
		KMSKey: str(in.KmsKeyId), Protected: is(in.DeletionProtectionEnabled), Tags: in.Tags,
	}
	if c := str(in.LogGroupClass); c != "" {
		g.Class = c
	}
	if g.Class == logsapi.LogGroupClassDelivery {
		g.Retention = deliveryRetention
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		if _, exists, err := tx.Get(sc.groupKey(name)); err != nil {
			return err
		} else if exists {
			return logsapi.ErrResourceAlreadyExistsException("The specified log group already exists")
		}
		return sc.setGroup(tx, g)
	})
}

func (s *Service) deleteLogGroup(ctx context.Context, in *logsapi.DeleteLogGroupInput) (*logsapi.DeleteLogGroupOutput, error) {
	sc := scopeOf(ctx)
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		g, err := sc.getGroup(tx, *in.LogGroupName)
		if err != nil {
			return err
		}
		if err := g.checkDeletable(); err != nil {
			return err
		}
		tx.Delete(sc.groupKey(g.Name))
		tx.Set(sc.deletedKey(g.ID, 0), nil)
		return nil
	})
}

func (g *logGroup) checkDeletable() error {
	if !g.Protected {
		return nil
	}
	return logsapi.ErrValidationException("The log group %s has deletion protection enabled. Disable it before deleting.", g.Name)
}

// updateGroup changes a group in a transaction. It is the whole of every operation that sets one property.
func (s *Service) updateGroup(ctx context.Context, name string, change func(*logGroup) error) error {
	sc := scopeOf(ctx)
	return s.db.Update(ctx, func(tx kv.Tx) error {
		g, err := sc.getGroup(tx, name)
		if err != nil {
			return err
		}
		if err := change(g); err != nil {
			return err
		}
		return sc.setGroup(tx, g)
	})
}

func (s *Service) putLogGroupDeletionProtection(ctx context.Context, in *logsapi.PutLogGroupDeletionProtectionInput) (*logsapi.PutLogGroupDeletionProtectionOutput, error) {
	name, err := scopeOf(ctx).groupName(*in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	return nil, s.updateGroup(ctx, name, func(g *logGroup) error {
		g.Protected = *in.DeletionProtectionEnabled
		return nil
	})
}

func (s *Service) associateKMSKey(ctx context.Context, in *logsapi.AssociateKmsKeyInput) (*logsapi.AssociateKmsKeyOutput, error) {
	return nil, s.setKMSKey(ctx, in.LogGroupName, in.ResourceIdentifier, *in.KmsKeyId)
}

func (s *Service) disassociateKMSKey(ctx context.Context, in *logsapi.DisassociateKmsKeyInput) (*logsapi.DisassociateKmsKeyOutput, error) {
	return nil, s.setKMSKey(ctx, in.LogGroupName, in.ResourceIdentifier, "")
}

func (s *Service) setKMSKey(ctx context.Context, groupName, resource *string, key string) error {
	name := str(groupName)
	switch {
	case (groupName == nil) == (resource == nil):
		return logsapi.ErrInvalidParameterException("Exactly one of logGroupName and resourceIdentifier must be specified.")
	case resource != nil:
		if a, err := arn.Parse(*resource); err == nil && strings.HasPrefix(a.Resource, "query-result:") {
			return logsapi.ErrInvalidParameterException("Mayfly does not serve keys for query results yet.")
		}
		var err error
		if name, err = scopeOf(ctx).groupName(*resource); err != nil {
			return err
		}
	}
	return s.updateGroup(ctx, name, func(g *logGroup) error {
		g.KMSKey = key
		return nil
	})
}

func (s *Service) describeLogGroups(ctx context.Context, in *logsapi.DescribeLogGroupsInput) (*logsapi.DescribeLogGroupsOutput, error) {
	sc := scopeOf(ctx)
	prefix, pattern := str(in.LogGroupNamePrefix), str(in.LogGroupNamePattern)
	if prefix != "" && pattern != "" {
		return nil, logsapi.ErrInvalidParameterException("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	if err := sc.checkAccounts(in.AccountIdentifiers); err != nil {
		return nil, err
	}
	out := &logsapi.DescribeLogGroupsOutput{LogGroups: []logsapi.LogGroup{}}
	if in.LogGroupIdentifiers != nil {
		if prefix != "" || pattern != "" || in.NextToken != nil || in.Limit != nil || in.LogGroupClass != nil {
			return nil, logsapi.ErrInvalidParameterException("logGroupIdentifiers can only be combined with includeLinkedAccounts.")
		}
		return out, s.db.View(ctx, func(r kv.Reader) error { return s.describeNamed(r, sc, in.LogGroupIdentifiers, out) })
	}
	class := str(in.LogGroupClass)
	return out, s.db.View(ctx, func(r kv.Reader) error {
		next, err := sc.pageGroups(r, prefix, in.NextToken, int(num(in.Limit, 50)), func(g *logGroup) (bool, error) {
			if class != "" && g.Class != class || !strings.Contains(g.Name, pattern) {
				return false, nil
			}
			d, err := s.describe(r, sc, g, pattern == "")
			out.LogGroups = append(out.LogGroups, d)
			return true, err
		})
		out.NextToken = next
		return err
	})
}

// describeNamed appends the groups with these names or ARNs, in the order of their names, leaving out what does not exist.
func (s *Service) describeNamed(r kv.Reader, sc scope, identifiers []string, out *logsapi.DescribeLogGroupsOutput) error {
	var names []string
	for _, id := range identifiers {
		name, err := sc.groupName(id)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		g, ok, err := kv.GetJSON[logGroup](r, sc.groupKey(name))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		g.Name = name
		d, err := s.describe(r, sc, &g, true)
		if err != nil {
			return err
		}
		out.LogGroups = append(out.LogGroups, d)
	}
	return nil
}

// describe returns a group as the API shows it; a search by pattern shows only a part.
func (s *Service) describe(r kv.Reader, sc scope, g *logGroup, whole bool) (logsapi.LogGroup, error) {
	a := sc.groupARN(g.Name)
	d := logsapi.LogGroup{
		LogGroupName: &g.Name, Arn: new(a + ":*"), LogGroupArn: &a, LogGroupClass: &g.Class, CreationTime: &g.Created,
		MetricFilterCount: new(int32(0)),
	}
	if !whole {
		return d, nil
	}
	stored, err := s.counts.stored(r, sc, g.ID)
	d.StoredBytes, d.KmsKeyId, d.DeletionProtectionEnabled = &stored, some(g.KMSKey), &g.Protected
	if g.Retention > 0 {
		d.RetentionInDays = &g.Retention
	}
	return d, err
}

// pageGroups calls take with the groups whose names begin with prefix, behind token, until it has said true limit times. It
// returns the token of the rest, nil if there is none.
func (sc scope) pageGroups(r kv.Reader, prefix string, token *string, limit int, take func(*logGroup) (bool, error)) (*string, error) {
	all := sc.groups(prefix)
	rest, err := all.Resume(str(token))
	if err != nil {
		return nil, pageError(err)
	}
	taken := 0
	var lastTaken []byte
	for rec, err := range kv.ScanJSON[logGroup](r, rest) {
		if err != nil {
			return nil, err
		}
		if taken == limit {
			return new(all.Marker(lastTaken)), nil
		}
		if _, rec.Value.Name, err = decodeGroupKey(rec.Key); err != nil {
			return nil, err
		}
		ok, err := take(&rec.Value)
		if err != nil {
			return nil, err
		}
		if ok {
			taken++
			lastTaken = rec.Key
		}
	}
	return nil, nil
}

func (s *Service) listLogGroups(ctx context.Context, in *logsapi.ListLogGroupsInput) (*logsapi.ListLogGroupsOutput, error) {
	sc := scopeOf(ctx)
	switch {
	case in.DataSources != nil:
		return nil, logsapi.ErrInvalidParameterException("Mayfly does not serve the filter dataSources yet.")
	case in.FieldIndexNames != nil:
		return nil, logsapi.ErrInvalidParameterException("Mayfly does not serve the filter fieldIndexNames yet.")
	}
	if err := sc.checkAccounts(in.AccountIdentifiers); err != nil {
		return nil, err
	}
	class := str(in.LogGroupClass)
	out := &logsapi.ListLogGroupsOutput{LogGroups: []logsapi.LogGroupSummary{}}
	return out, s.db.View(ctx, func(r kv.Reader) error {
		next, err := sc.pageGroups(r, "", in.NextToken, int(num(in.Limit, 50)), func(g *logGroup) (bool, error) {
			if class != "" && g.Class != class || !matchesName(str(in.LogGroupNamePattern), g.Name) || !matchesTags(in.LogGroupTags, g.Tags) {
				return false, nil
			}
			out.LogGroups = append(out.LogGroups, logsapi.LogGroupSummary{
				LogGroupName: &g.Name, LogGroupArn: new(sc.groupARN(g.Name)), LogGroupClass: &g.Class,
			})
			return true, nil
		})
		out.NextToken = next
		return err
	})
}

// matchesName matches a name with alternatives separated by |, each a substring, or a prefix if it begins with ^.
func matchesName(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	for alt := range strings.SplitSeq(pattern, "|") {
		if prefix, ok := strings.CutPrefix(alt, "^"); ok && strings.HasPrefix(name, prefix) || !ok && strings.Contains(name, alt) {
			return true
		}
	}
	return false
}

// matchesTags reports whether every filter is met: its key is there, with one of its values if it has any. In a value, * stands
// for anything at the start and the end, and ! in front turns the sense.
func matchesTags(filters []logsapi.TagFilter, tags map[string]string) bool {
	for _, f := range filters {
		value, ok := tags[*f.Key]
		if !ok {
			return false
		}
		if len(f.Values) > 0 && !slices.ContainsFunc(f.Values, func(want string) bool {
			want, not := strings.CutPrefix(want, "!")
			want, left := strings.CutPrefix(want, "*")
			want, right := strings.CutSuffix(want, "*")
			var hit bool
			switch {
			case left && right:
				hit = strings.Contains(value, want)
			case left:
				hit = strings.HasSuffix(value, want)
			case right:
				hit = strings.HasPrefix(value, want)
			default:
				hit = value == want
			}
			return hit != not
		}) {
			return false
		}
	}
	return true
}

// groupName returns the name of the group that an identifier names, which is a name or an ARN, with or without the :* at its
// end. A group in another account or region does not exist as far as this one can see.
func (sc scope) groupName(identifier string) (string, error) {
	if !strings.HasPrefix(identifier, "arn:") {
		return identifier, nil
	}
	a, err := arn.Parse(identifier)
	name, ok := strings.CutPrefix(a.Resource, "log-group:")
	name = strings.TrimSuffix(name, ":*")
	if err != nil || !ok || a.Service != "logs" || name == "" || strings.Contains(name, ":") {
		return "", logsapi.ErrInvalidParameterException("The ARN %s is not the ARN of a log group.", identifier)
	}
	if a.Account != sc.account || a.Region != sc.region {
		return "", errNoGroup()
	}
	return name, nil
}

// namedGroup returns the name of the group in a request that has it by name or by identifier.
func (sc scope) namedGroup(name, identifier *string) (string, error) {
	switch {
	case name != nil && identifier != nil:
		return "", logsapi.ErrValidationException("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
	case name != nil:
		return *name, nil
	case identifier != nil:
		return sc.groupName(*identifier)
	}
	return "", logsapi.ErrValidationException("LogGroup name or LogGroup ARN must be specified.")
}

// checkAccounts refuses other accounts than the caller's own, since none are linked to it.
func (sc scope) checkAccounts(ids []string) error {
	for _, id := range ids {
		if id != sc.account {
			return logsapi.ErrInvalidParameterException("Account %s is not linked to account %s.", id, sc.account)
		}
	}
	return nil
}

// counts holds how many bytes groups store, which is the sum over their streams. A sum is used again for a hundred times
// as long as adding it up took, so that it is current where it is cheap and never costs more than a hundredth of the time.
type counts struct {
	mu     sync.Mutex
	groups map[int64]count
}

type count struct {
	bytes int64
	until time.Time
}

func (c *counts) stored(r kv.Reader, sc scope, group int64) (int64, error) {
	start := time.Now()
	c.mu.Lock()
	n, ok := c.groups[group]
	c.mu.Unlock()
	if ok && start.Before(n.until) {
		return n.bytes, nil
	}
	n = count{}
	for rec, err := range kv.ScanJSON[logStream](r, sc.streams(group, "")) {
		if err != nil {
			return 0, err
		}
		n.bytes += rec.Value.Bytes
	}
	now := time.Now()
	took := now.Sub(start)
	if took < time.Millisecond {
		return n.bytes, nil
	}
	n.until = now.Add(100 * took)
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, old := range c.groups { // what is out of date goes, deleted groups with it
		if now.After(old.until) {
			delete(c.groups, id)
		}
	}
	if c.groups == nil {
		c.groups = map[int64]count{}
	}
	c.groups[group] = n
	return n.bytes, nil
}
