package iam

import (
	_ "embed"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

//go:embed managed.json
var managedJSON []byte

// awsAccount is what stands for the account in the ARNs of AWS-managed policies.
const awsAccount = "aws"

// managed returns the AWS-managed policies by name. They are parsed when somebody first asks.
var managed = sync.OnceValue(func() map[string]*policy {
	var rows []struct {
		Name, Path, Version, Created, Updated string
		Document                              json.RawMessage
	}
	if err := json.Unmarshal(managedJSON, &rows); err != nil {
		panic("iam: managed.json: " + err.Error())
	}
	all := map[string]*policy{}
	for _, r := range rows {
		created, _ := time.Parse(time.RFC3339, r.Created)
		updated, _ := time.Parse(time.RFC3339, r.Updated)
		n, _ := strconv.Atoi(strings.TrimPrefix(r.Version, "v"))
		// AWS makes no secret of the IDs, but has no list of them: ours are made from the name.
		all[r.Name] = &policy{
			Name: r.Name, ID: managedID(r.Name), Path: r.Path, Created: created.UTC(), Updated: updated.UTC(), Default: n, Last: n,
			Versions: []version{{Number: n, Document: string(r.Document), Created: updated.UTC()}},
		}
	}
	return all
})

func managedID(name string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	id := []byte("ANPA")
	h := uint64(14695981039346656037)
	for i := range 17 {
		for _, c := range []byte(name) {
			h = (h ^ uint64(c) ^ uint64(i)) * 1099511628211
		}
		id = append(id, digits[h>>59])
	}
	return string(id)
}

// managedIn returns the AWS-managed policies with their numbers of attachments in an account.
func managedIn(r kv.Reader, account string) (map[string]*policy, error) {
	attachments, boundaries := map[string]int32{}, map[string]int32{}
	count := func(p *permissions, boundary string) {
		for _, policyARN := range p.Attached {
			attachments[policyARN]++
		}
		boundaries[boundary]++
	}
	if err := each(r, userRange(account), func(u *user) { count(&u.permissions, u.Boundary) }); err != nil {
		return nil, err
	}
	if err := each(r, groupRange(account), func(g *group) { count(&g.permissions, "") }); err != nil {
		return nil, err
	}
	if err := each(r, roleRange(account), func(v *role) { count(&v.permissions, v.Boundary) }); err != nil {
		return nil, err
	}
	all := make(map[string]*policy, len(managed()))
	for name, p := range managed() {
		counted, policyARN := *p, entityARN(awsAccount, "policy", p.Path, p.Name)
		counted.Attachments, counted.Boundaries = attachments[policyARN], boundaries[policyARN]
		all[name] = &counted
	}
	return all, nil
}

// inAccount returns an AWS-managed policy with its numbers of attachments in an account.
func (p *policy) inAccount(r kv.Reader, account string) (*policy, error) {
	all, err := managedIn(r, account)
	return all[p.Name], err
}
