//go:build linux

package linux

import (
	"fmt"
	"time"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Address is a sandbox's own address on the driver's network.
func Address(in sandbox.Instance) string {
	i := in.(*instance)
	base := i.d.net.addrs.Addr().As4()
	at := int(base[2])<<8 + 4*i.ns.index + 2
	return fmt.Sprintf("%d.%d.%d.%d", base[0], base[1], at>>8, at&0xff)
}

// InitPID is the host's number of a sandbox's process 1.
func InitPID(in sandbox.Instance) int { return in.(*instance).pid }

// AwaitStock waits until the wanted number of sandboxes is prepared.
func (d *Driver) AwaitStock() {
	d.wantStock()
	for {
		d.mu.Lock()
		full := len(d.boxes) >= d.cfg.Prepared && len(d.tmps) >= d.cfg.Prepared
		d.mu.Unlock()
		if full {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// HelperPID is the number of the driver's helper process.
func (d *Driver) HelperPID() int { return d.helper().cmd.Process.Pid }
