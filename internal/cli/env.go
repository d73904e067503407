package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

func (a *app) envCommand() *cobra.Command {
	var role string
	c := &cobra.Command{
		Use:   "env",
		Short: "Print the exports that point AWS tools at the server",
		Long: `Print the exports that point AWS tools at the server: its address, the root user's access key, and the region.
The address is that of the server which last used the data directory.

With --role the key is that of a session of a role, which holds for an hour: what it may do is what the role may.`,
		Example: `  eval "$(mayfly env)"
  eval "$(mayfly env --role arn:aws:iam::000000000000:role/app)"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := a.rootCredentials()
			if err != nil {
				return err
			}
			endpoint, err := a.serverEndpoint()
			if err != nil {
				return err
			}
			list := variables(endpoint, root)
			if role != "" {
				s, err := a.assume(cmd.Context(), root, role)
				if err != nil {
					return err
				}
				list[1][1], list[2][1] = s.AccessKeyID, s.SecretAccessKey
				list = append(list, [2]string{"AWS_SESSION_TOKEN", s.SessionToken})
			}
			if a.json {
				v := map[string]string{}
				for _, kv := range list {
					v[kv[0]] = kv[1]
				}
				return a.printJSON(v)
			}
			fmt.Fprint(a.out, exported(list))
			return nil
		},
	}
	a.dataFlag(c)
	c.Flags().StringVar(&role, "role", "", "ARN of a role whose session the key is, instead of root's")
	return c
}

// assume makes a session of a role. Who can read the installation's credentials needs nobody's permission, so that the role's trust policy is not
// asked.
func (a *app) assume(ctx context.Context, root *credential.Root, roleARN string) (credential.Session, error) {
	t, err := a.target()
	if err != nil {
		return credential.Session{}, err
	}
	name := roleARN[strings.LastIndexByte(roleARN, '/')+1:]
	out, err := iamapi.GetRole.Call(ctx, t.client(), &iamapi.GetRoleInput{RoleName: &name})
	if err != nil {
		return credential.Session{}, err
	}
	if *out.Role.Arn != roleARN {
		return credential.Session{}, fmt.Errorf("there is no role %s, but %s", roleARN, *out.Role.Arn)
	}
	now := time.Now()
	p, err := credential.Role{ARN: roleARN, ID: *out.Role.RoleId}.Assumed("mayfly", call.Session{Issued: now, Expires: now.Add(time.Hour)})
	if err != nil {
		return credential.Session{}, err
	}
	issuer, err := credential.NewIssuer(root.SessionKey)
	if err != nil {
		return credential.Session{}, err
	}
	return issuer.Issue(p)
}

func variables(endpoint string, root *credential.Root) [][2]string {
	return [][2]string{
		{"AWS_ENDPOINT_URL", endpoint},
		{"AWS_ACCESS_KEY_ID", root.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", root.SecretAccessKey},
		{"AWS_REGION", root.Region},
		{"AWS_DEFAULT_REGION", root.Region},
	}
}

// exports is for a shell to evaluate.
func exports(endpoint string, root *credential.Root) string {
	return exported(variables(endpoint, root))
}

func exported(list [][2]string) string {
	var b strings.Builder
	for _, kv := range list {
		fmt.Fprintf(&b, "export %s=%s\n", kv[0], quote(kv[1]))
	}
	return b.String()
}

// quote makes a value safe in a shell; most need nothing.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:+=@%,", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
