//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// network makes the sandboxes' network namespaces. With egress each has a pair
// of virtual interfaces, one end inside and one on the host, with addresses
// from a range of the driver's own; a table of netfilter rules translates what
// leaves and drops what is meant for the host or for another sandbox.
//
// Namespaces are used again for other sandboxes once all processes of one are
// gone, since to delete a pair takes the kernel twenty milliseconds. Nothing
// of the former can be left in it: its sockets died with their processes, and
// no process inside may change interfaces, routes or rules.
type network struct {
	slot   int
	addrs  netip.Prefix // of the driver's sandboxes
	prefix string       // of interface names on the host
	egress bool

	nft   *nftables.Conn
	table *nftables.Table

	mu      sync.Mutex
	idle    []*namespace
	free    []int // indexes given back
	next    int
	uplinks map[string]bool // whether we switched forwarding on
	closed  bool
}

// maxIdle bounds the namespaces that are kept for another use.
const maxIdle = 32

// slots are the address ranges, a /18 each: 4096 sandboxes. A driver holds one
// by binding an abstract socket, which nobody has to clean up.
const slots = 24

// slotRange spreads over three private ranges, since a host may well have a
// route for the whole of one.
func slotRange(slot int) netip.Prefix {
	start := [][2]byte{{10, 213}, {172, 28}, {198, 18}}[slot/8]
	slot %= 8
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{start[0], start[1] + byte(slot/4), byte(slot % 4 * 64), 0}), 18)
}

// takeSlot reserves a slot, if possible one whose addresses nothing on the
// host uses, and says whether it is.
func takeSlot() (slot, fd int, clear bool, err error) {
	used := usedRanges()
	for _, clear := range []bool{true, false} {
		for slot := range slots {
			if clear == slices.ContainsFunc(used, slotRange(slot).Overlaps) {
				continue
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return 0, -1, false, err
			}
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@mayfly-sandbox-%d", slot)})
			if err == nil {
				return slot, fd, clear, nil
			}
			unix.Close(fd)
			if err != unix.EADDRINUSE {
				return 0, -1, false, err
			}
		}
	}
	return 0, -1, false, fmt.Errorf("%d sandbox drivers run on this machine already", slots)
}

// usedRanges are the host's routes and addresses, default routes left out.
func usedRanges() []netip.Prefix {
	var out []netip.Prefix
	routes, _ := netlink.RouteList(nil, netlink.FAMILY_V4)
	for _, r := range routes {
		if r.Dst != nil {
			if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
				out = append(out, p)
			}
		}
	}
	addrs, _ := netlink.AddrList(nil, netlink.FAMILY_V4)
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			out = append(out, p)
		}
	}
	return out
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits).Masked(), ok
}

// newNetwork sets up the rules. If that fails, namespaces have no egress, and
// the error says why.
func newNetwork(slot int, clear bool, owner string) (*network, error) {
	n := &network{
		slot:    slot,
		addrs:   slotRange(slot),
		prefix:  fmt.Sprintf("mf%dx", slot),
		uplinks: map[string]bool{},
	}
	if !clear {
		return n, errors.New("the host's routes leave no range of addresses for sandboxes")
	}
	if err := n.rules("mayfly-" + owner); err != nil {
		return n, fmt.Errorf("nftables: %w", err)
	}
	n.egress = true
	n.forwardUplinks()
	return n, nil
}

// rules makes the table. Tables of dead owners are removed on the way.
func (n *network) rules(name string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if o, ok := strings.CutPrefix(t.Name, "mayfly-"); ok && ownerDead(o) {
			c.DelTable(t)
		}
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: name})
	accept, drop := &expr.Verdict{Kind: expr.VerdictAccept}, &expr.Verdict{Kind: expr.VerdictDrop}

	// Interface names compare by their first bytes.
	ours := func(key expr.MetaKey, op expr.CmpOp) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: key, Register: 1},
			&expr.Cmp{Op: op, Register: 1, Data: []byte(n.prefix)},
		}
	}
	// An IPv4 address of the header, at 12 the source and at 16 the
	// destination, lies in a range.
	in := func(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
		a := p.Masked().Addr().As4()
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
			&expr.Cmp{Op: op, Register: 1, Data: a[:]},
		}
	}
	established := []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(parts...)})
	}
	verdict := func(v *expr.Verdict) []expr.Any { return []expr.Any{v} }
	linkLocal := netip.MustParsePrefix("169.254.0.0/16")
	multicast := netip.MustParsePrefix("224.0.0.0/3")

	input := c.AddChain(&nftables.Chain{Name: "input", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	rule(input, ours(expr.MetaKeyIIFNAME, expr.CmpOpEq), verdict(drop))

	forward := c.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	from := ours(expr.MetaKeyIIFNAME, expr.CmpOpEq)
	to := ours(expr.MetaKeyOIFNAME, expr.CmpOpEq)
	rule(forward, from, to, verdict(drop))
	rule(forward, from, in(12, n.addrs, expr.CmpOpNeq), verdict(drop))
	rule(forward, from, in(16, linkLocal, expr.CmpOpEq), verdict(drop))
	rule(forward, from, in(16, multicast, expr.CmpOpEq), verdict(drop))
	rule(forward, from, verdict(accept))
	rule(forward, to, established, verdict(accept))
	rule(forward, to, verdict(drop))

	nat := c.AddChain(&nftables.Chain{Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	rule(nat, in(12, n.addrs, expr.CmpOpEq), ours(expr.MetaKeyOIFNAME, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
	if err := c.Flush(); err != nil {
		return err
	}
	n.nft, n.table = c, t
	return nil
}

// guardUplink keeps the host from becoming a router for its neighbours by the
// forwarding that we switch on: what comes in by the uplink may only go to a
// sandbox.
func (n *network) guardUplink(name string) error {
	iface := make([]byte, unix.IFNAMSIZ)
	copy(iface, name)
	n.nft.AddRule(&nftables.Rule{Table: n.table, Chain: &nftables.Chain{Name: "forward", Table: n.table}, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: iface},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte(n.prefix)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return n.nft.Flush()
}

func forwardingFile(iface string) string {
	return filepath.Join("/proc/sys/net/ipv4/conf", iface, "forwarding")
}

// forwardUplinks switches forwarding on for the interfaces that lead to the
// world, so that answers find their way back. Called again when namespaces are
// made, it follows a laptop from one network to the next.
func (n *network) forwardUplinks() {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			continue
		}
		name := link.Attrs().Name
		if _, done := n.uplinks[name]; done || n.closed {
			continue
		}
		file := forwardingFile(name)
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		off := strings.TrimSpace(string(b)) == "0"
		if off {
			if n.guardUplink(name) != nil || os.WriteFile(file, []byte("1"), 0) != nil {
				continue
			}
		}
		n.uplinks[name] = off
	}
}

// blocked names a chain of somebody else that drops forwarded packets unless
// one of its own rules lets them pass, as Docker and some firewalls set up.
func (n *network) blocked() string {
	chains, err := n.nft.ListChains()
	if err != nil {
		return ""
	}
	for _, ch := range chains {
		if ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Type == nftables.ChainTypeFilter &&
			ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop &&
			(ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyINet) {
			return ch.Table.Name + " " + ch.Name
		}
	}
	return ""
}

// namespace is a network namespace.
type namespace struct {
	fd     int
	index  int // of its addresses; -1 without egress
	egress bool
}

// get gives a namespace that no process is in.
func (n *network) get(egress bool) (*namespace, error) {
	n.mu.Lock()
	for i, ns := range n.idle {
		if ns.egress == egress {
			n.idle = slices.Delete(n.idle, i, i+1)
			n.mu.Unlock()
			return ns, nil
		}
	}
	index := -1
	if egress {
		if len(n.free) > 0 {
			index = n.free[len(n.free)-1]
			n.free = n.free[:len(n.free)-1]
		} else if n.next < 1<<(32-n.addrs.Bits())/4 {
			index = n.next
			n.next++
		} else {
			n.mu.Unlock()
			return nil, errors.New("all addresses for sandboxes are in use")
		}
	}
	n.mu.Unlock()
	if egress {
		n.forwardUplinks()
	}
	ns, err := n.make(index)
	if err != nil {
		n.giveBack(index)
		return nil, fmt.Errorf("network: %w", err)
	}
	return ns, nil
}

func (n *network) giveBack(index int) {
	if index >= 0 {
		n.mu.Lock()
		n.free = append(n.free, index)
		n.mu.Unlock()
	}
}

// put takes a namespace back whose processes and listeners are all gone.
func (n *network) put(ns *namespace) {
	n.mu.Lock()
	if !n.closed && len(n.idle) < maxIdle {
		n.idle = append(n.idle, ns)
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	n.drop(ns)
}

// drop lets the namespace go; the kernel removes it and its interfaces.
func (n *network) drop(ns *namespace) {
	unix.Close(ns.fd)
	if ns.index < 0 {
		return
	}
	// The index can be used again when the host's end is gone. Deleting it
	// says when that is; the kernel may have been faster.
	if link, err := netlink.LinkByName(n.hostName(ns.index)); err == nil {
		netlink.LinkDel(link)
	}
	n.giveBack(ns.index)
}

func (n *network) hostName(index int) string { return fmt.Sprintf("%s%d", n.prefix, index) }

// make builds a namespace, with a pair of interfaces if index is not negative.
func (n *network) make(index int) (*namespace, error) {
	ns := &namespace{fd: -1, index: index, egress: index >= 0}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		ns.fd = fd
		for _, which := range []string{"all", "default"} {
			os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0)
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
	if err == nil && ns.egress {
		err = n.connect(ns)
	}
	if err != nil {
		if ns.fd >= 0 {
			unix.Close(ns.fd)
		}
		return nil, err
	}
	return ns, nil
}

// connect gives the namespace its interface, address and route.
func (n *network) connect(ns *namespace) error {
	base := n.addrs.Addr().As4()
	at := uint32(base[2])<<8 | uint32(base[3])
	at += uint32(4 * ns.index)
	host := net.IPv4(base[0], base[1], byte(at>>8), byte(at)+1)
	inside := net.IPv4(base[0], base[1], byte(at>>8), byte(at)+2)
	mask := net.CIDRMask(30, 32)

	name := n.hostName(ns.index)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add interface %s: %w", name, err)
	}
	fail := func(what string, err error) error {
		netlink.LinkDel(veth)
		return fmt.Errorf("%s: %w", what, err)
	}
	os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err := os.WriteFile(forwardingFile(name), []byte("1"), 0); err != nil {
		return fail("forwarding", err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fail("interface "+name, err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: host, Mask: mask}}); err != nil {
		return fail("address", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fail("set up", err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return fail("enter namespace", err)
	}
	defer h.Close()
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return fail("interface inside", err)
	}
	if err := h.AddrAdd(eth, &netlink.Addr{IPNet: &net.IPNet{IP: inside, Mask: mask}}); err != nil {
		return fail("address inside", err)
	}
	if err := h.LinkSetUp(eth); err != nil {
		return fail("set up inside", err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: host}); err != nil {
		return fail("route inside", err)
	}
	return nil
}

// close drops what is idle and undoes what was changed on the host.
func (n *network) close() error {
	n.mu.Lock()
	n.closed = true
	idle := n.idle
	n.idle = nil
	n.mu.Unlock()
	for _, ns := range idle {
		n.drop(ns)
	}
	if !n.egress {
		return nil
	}
	n.nft.DelTable(n.table)
	err := n.nft.Flush()
	// Another Mayfly may have come to rely on the forwarding.
	if tables, listErr := n.nft.ListTablesOfFamily(nftables.TableFamilyIPv4); listErr == nil &&
		!slices.ContainsFunc(tables, func(t *nftables.Table) bool { return strings.HasPrefix(t.Name, "mayfly-") }) {
		for name, changed := range n.uplinks {
			if changed {
				os.WriteFile(forwardingFile(name), []byte("0"), 0)
			}
		}
	}
	return err
}

// onOwnThread runs f on a thread that is thrown away, so that f may put it
// into other namespaces.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// inside runs f in the namespace, on a thread that comes back. If it cannot
// come back, it is never used again.
func (ns *namespace) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer unix.Close(home)
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("setns: %w", err)
			return
		}
		err = f()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// listen opens listeners inside: all or none.
func (ns *namespace) listen(addrs []string) (ls []net.Listener, err error) {
	err = ns.inside(func() error {
		for _, a := range addrs {
			l, err := net.Listen("tcp4", a)
			if err != nil {
				return err
			}
			ls = append(ls, l)
		}
		return nil
	})
	if err != nil {
		for _, l := range ls {
			l.Close()
		}
		return nil, err
	}
	return ls, nil
}

// dial connects to a literal address inside. Only the socket has to be made
// there, which net.Dialer does at once for a literal address.
func (ns *namespace) dial(ctx context.Context, addr string) (c net.Conn, err error) {
	err = ns.inside(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, "tcp4", addr)
		return err
	})
	return c, err
}
