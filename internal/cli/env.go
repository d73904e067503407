package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/credential"
)

func (a *app) envCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "env",
		Short: "Print the exports that point AWS tools at the server",
		Long: `Print the exports that point AWS tools at the server: its address, the root user's access key, and the region.
The address is that of the server which last used the data directory.`,
		Example: `  eval "$(mayfly env)"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := a.rootCredentials()
			if err != nil {
				return err
			}
			endpoint, err := a.serverEndpoint()
			if err != nil {
				return err
			}
			if a.json {
				v := map[string]string{}
				for _, kv := range variables(endpoint, root) {
					v[kv[0]] = kv[1]
				}
				return a.printJSON(v)
			}
			fmt.Fprint(a.out, exports(endpoint, root))
			return nil
		},
	}
	a.dataFlag(c)
	return c
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
	var b strings.Builder
	for _, kv := range variables(endpoint, root) {
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
