package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/server"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can isolate and run, and what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := server.Diagnose(cmd.Context(), server.Config{})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			fmt.Fprintln(a.out, a.style.bold("Sandbox: "+d.Sandbox.Driver))
			for _, i := range d.Sandbox.Items {
				a.finding(i.OK, i.Name, i.Detail)
				if !i.OK && i.Remedy != "" {
					fmt.Fprintf(a.out, "    %s\n", i.Remedy)
				}
			}
			fmt.Fprintln(a.out, a.style.bold("Runtimes"))
			for _, r := range d.Runtimes {
				detail := r.Detail
				if detail == "" {
					detail = r.Found
				}
				a.finding(r.OK, r.Runtime, detail)
			}
			fmt.Fprintf(a.out, "%s %d MB for environments\n", a.style.bold("Memory:"), d.MemoryMB)
			return nil
		},
	}
}

func (a *app) finding(ok bool, name, detail string) {
	mark := a.style.green("ok     ")
	if !ok {
		mark = a.style.red("missing")
	}
	fmt.Fprintf(a.out, "  %s %-16s %s\n", mark, name, detail)
}
