//go:build linux

package linux

import (
	"fmt"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Address is a sandbox's own address on the driver's network.
func Address(in sandbox.Instance) string {
	i := in.(*instance)
	base := i.d.net.addrs.Addr().As4()
	at := int(base[2])<<8 + 4*i.ns.index + 2
	return fmt.Sprintf("%d.%d.%d.%d", base[0], base[1], at>>8, at&0xff)
}
