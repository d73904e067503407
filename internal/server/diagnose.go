package server

import (
	"context"
	"os"

	"github.com/mayflyhq/mayfly/internal/runtimes"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Diagnosis is what this machine can do for functions.
type Diagnosis struct {
	Sandbox  sandbox.Report  `json:"sandbox"`
	Runtimes []RuntimeStatus `json:"runtimes"`
	MemoryMB int             `json:"memoryMB"` // for all environments together
}

// RuntimeStatus says whether functions of a runtime can run.
type RuntimeStatus struct {
	Runtime string `json:"runtime"`
	OK      bool   `json:"ok"`
	Found   string `json:"found,omitempty"` // the version of the language on this machine
	Detail  string `json:"detail,omitempty"`
}

// Diagnose looks at the machine and starts nothing that stays.
func Diagnose(ctx context.Context, config Config) (*Diagnosis, error) {
	config.Ephemeral = true
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "mayfly-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	config.DataDir = temp
	config.Prepared = -1
	d, err := openDriver(config)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	finder, err := runtimes.New(runtimes.Options{Dir: temp})
	if err != nil {
		return nil, err
	}
	diagnosis := &Diagnosis{Sandbox: d.Report(), MemoryMB: config.MemoryMB}
	for _, name := range runtimes.Creatable() {
		if info, ok := runtimes.Lookup(name); !ok || !info.Served() {
			continue
		}
		status := RuntimeStatus{Runtime: name}
		launch, err := finder.Resolve(ctx, name, "")
		if err != nil {
			status.Detail = err.Error()
		} else {
			status.OK, status.Found, status.Detail = true, launch.FoundVersion, launch.Warning
		}
		diagnosis.Runtimes = append(diagnosis.Runtimes, status)
	}
	return diagnosis, nil
}
