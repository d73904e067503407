//go:build linux

// Package linux is the sandbox driver that isolates with what the Linux kernel
// has: own mount, pid, ipc, uts, net, user and cgroup namespaces, a read-only
// root, a /tmp of exact size, a user of its own without capabilities, a system
// call filter, and limits of memory, CPU and processes in cgroups of version 1
// or 2. It needs root, Linux 5.12 or later, and no other program.
//
// How a sandbox comes to be: the driver keeps one small helper process, the
// zygote (zygote.go), whose mount namespace holds nothing but the sandboxes'
// root. Process 1 of a sandbox is a fork of it (init.go) in new namespaces,
// which never executes a program and does what the driver tells it in lists of
// system calls (program.go, root.go). All this can be done ahead: a prepared
// sandbox only gets its limits, its /tmp and its code attached, and gives up
// its rights, when it is created.
package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Config configures a driver.
type Config struct {
	// Dir is where the sandboxes' /tmp take their space, best on a disk. It
	// is made if missing. No file in it has a name.
	Dir string

	// Prepared is how many sandboxes are kept ready for Create. Each costs
	// about 0.3 MiB of memory.
	Prepared int

	// Listen are the addresses that every sandbox's Listen will be asked
	// for; prepared sandboxes have them open.
	Listen []string

	// TmpBytes is the size of /tmp that is prepared; other sizes are made
	// when they are asked for. 0 means sandbox.DefaultTmpBytes.
	TmpBytes int64

	// Log gets what goes wrong in the background; nil means slog.Default.
	Log *slog.Logger
}

// Driver makes sandboxes. Make it with New.
type Driver struct {
	cfg     Config
	log     *slog.Logger
	slot    int
	slotFD  int
	groups  hierarchy
	net     *network
	filter  []byte
	lastCap int
	disk    bool // /tmp on disk
	report  sandbox.Report

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // what runs in the background
	refill chan struct{}
	slow   chan struct{} // bounds what waits in the kernel at once

	mu      sync.Mutex
	zygote  *zygote
	root    *skeleton            // the zygote's
	live    map[string]*instance // nil while one of the name is being made
	boxes   []*box               // prepared
	waiting map[*waiting]struct{}
	tmps    []*tmpFS // prepared or returned
	users   []*users // not in use
	usersN  int      // made so far
	count   int
	closed  bool

	retired []*skeleton // of zygotes that were killed
}

// The users of sandboxes lie above what systemd and others give away: two
// numbers each, for the root and the user inside.
const (
	firstUID    = 0x70000000
	uidsPerSlot = 1 << 14
)

// New makes the driver and one sandbox, to see that it can. An error that wraps
// sandbox.ErrUnsupported says what this machine or user lacks.
func New(cfg Config) (_ *Driver, err error) {
	unsupported := func(err error) error {
		return fmt.Errorf("sandbox/linux: %w: %w", sandbox.ErrUnsupported, err)
	}
	if cfg.Dir == "" {
		return nil, errors.New("sandbox/linux: Config.Dir is empty")
	}
	if os.Geteuid() != 0 {
		return nil, unsupported(errors.New("it needs root"))
	}
	if missing := missingCaps(); missing != "" {
		return nil, unsupported(errors.New("root lacks the capabilities " + missing))
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox/linux: %w", err)
	}
	if cfg.TmpBytes == 0 {
		cfg.TmpBytes = sandbox.DefaultTmpBytes
	}
	d := &Driver{
		cfg:     cfg,
		log:     cfg.Log,
		slotFD:  -1,
		filter:  newFilter(),
		live:    map[string]*instance{},
		waiting: map[*waiting]struct{}{},
		refill:  make(chan struct{}, 1),
		slow:    make(chan struct{}, 4),
	}
	if d.log == nil {
		d.log = slog.Default()
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	name, err := owner()
	if err != nil {
		return nil, fmt.Errorf("sandbox/linux: %w", err)
	}
	if d.lastCap, err = lastCapability(); err != nil {
		return nil, fmt.Errorf("sandbox/linux: %w", err)
	}
	if d.groups, err = newHierarchy(name); err != nil {
		return nil, unsupported(err)
	}
	var clear bool
	if d.slot, d.slotFD, clear, err = takeSlot(); err != nil {
		return nil, fmt.Errorf("sandbox/linux: %w", err)
	}
	if d.root, d.zygote, err = newRoot(d.groups.freezer()); err != nil {
		return nil, unsupported(err)
	}
	var egressErr error
	d.net, egressErr = newNetwork(d.slot, clear, name)

	var tmpErr error
	t, tmpErr := newTmp(cfg.Dir, cfg.TmpBytes, true)
	if tmpErr == nil {
		d.disk = true
		d.tmps = append(d.tmps, t)
	}
	first, err := d.build(d.ctx, d.net.egress)
	if err != nil && d.net.egress {
		// The rules are there and yet an interface is not to be had.
		egressErr = err
		d.net.egress = false
		first, err = d.build(d.ctx, false)
	}
	if err != nil {
		return nil, unsupported(err)
	}
	d.boxes = append(d.boxes, first)
	d.report = d.makeReport(egressErr, tmpErr)
	d.work.Go(d.stock)
	return d, nil
}

// newRoot makes the sandboxes' root and starts the zygote in it.
func newRoot(freezer string) (_ *skeleton, _ *zygote, err error) {
	root, targets, trees, err := newSkeleton()
	if err != nil {
		return nil, nil, fmt.Errorf("root file system: %w", err)
	}
	defer func() {
		for _, t := range trees[1:] { // the skeleton keeps the first
			unix.Close(t)
		}
		if err != nil {
			unix.Close(root.tree)
		}
	}()
	fd, err := unix.Open(freezer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("freezer: %w", err)
	}
	defer unix.Close(fd)
	z, err := startZygote()
	if err != nil {
		return nil, nil, err
	}
	if _, _, err := z.request(append([]byte{'R'}, strings.Join(targets, "\x00")...), append(slices.Clone(trees), fd)); err != nil {
		z.close()
		return nil, nil, fmt.Errorf("root file system: %w", err)
	}
	return root, z, nil
}

// helper is the zygote of now.
func (d *Driver) helper() *zygote {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.zygote
}

// fork makes a process by the zygote. Should somebody have killed it, and with
// it all sandboxes, there is a new one.
func (d *Driver) fork(kind byte, socket, cgroup int) (pid, pidfd int, err error) {
	z := d.helper()
	pid, pidfd, err = z.fork(kind, socket, cgroup)
	if !errors.Is(err, errZygoteGone) || d.ctx.Err() != nil {
		return pid, pidfd, err
	}
	d.mu.Lock()
	if d.zygote == z {
		root, fresh, rootErr := newRoot(d.groups.freezer())
		if rootErr != nil {
			d.mu.Unlock()
			return 0, -1, errors.Join(err, rootErr)
		}
		d.log.Warn("the sandboxes' helper process was killed and with it all sandboxes; it is started again")
		d.retired = append(d.retired, d.root) // somebody may be writing to it
		z.close()
		d.root, d.zygote = root, fresh
	}
	z = d.zygote
	d.mu.Unlock()
	return z.fork(kind, socket, cgroup)
}

func lastCapability() (int, error) {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// missingCaps names the capabilities that root does not have, as in a
// container.
func missingCaps() string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ""
	}
	var have uint64
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			have, _ = strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	var missing []string
	for _, c := range []struct {
		bit  int
		name string
	}{
		{unix.CAP_SYS_ADMIN, "SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "NET_ADMIN"}, {unix.CAP_SETUID, "SETUID"}, {unix.CAP_SETGID, "SETGID"},
		{unix.CAP_SETPCAP, "SETPCAP"}, {unix.CAP_MKNOD, "MKNOD"}, {unix.CAP_KILL, "KILL"}, {unix.CAP_SYS_CHROOT, "SYS_CHROOT"},
	} {
		if have&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	return strings.Join(missing, ", ")
}

func (d *Driver) makeReport(egressErr, tmpErr error) sandbox.Report {
	r := sandbox.Report{Driver: "linux"}
	add := func(name string, ok bool, detail, remedy string) {
		r.Items = append(r.Items, sandbox.Item{Name: name, OK: ok, Detail: detail, Remedy: remedy})
	}
	add("namespaces", true, "mount, pid, ipc, uts, net, user and cgroup, own for each sandbox", "")
	add("files", true, "read-only root of the host's userland; code read-only; nothing else of the host", "")
	add("user", true, fmt.Sprintf("uids from %d, no capabilities, no new privileges", firstUID+d.slot*uidsPerSlot), "")
	add("system calls", true, "seccomp filter", "")
	if d.disk {
		add("tmp", true, "ext4 of the exact size on disk in "+d.cfg.Dir, "")
	} else {
		add("tmp", false, fmt.Sprintf("in memory: what a function keeps in /tmp counts against its memory limit (%v)", tmpErr),
			"loop devices and ext4 are needed: modprobe loop ext4")
	}
	for _, i := range d.groups.items() {
		add(i.name, i.ok, i.detail, i.remedy)
	}
	_, resolver := resolvConf()
	switch {
	case !d.net.egress:
		add("network", false, fmt.Sprintf("isolated, but functions reach nothing except Mayfly: %v", egressErr), "load the kernel's nftables: modprobe nf_tables nft_masq veth")
	default:
		if by := d.net.blocked(); by != "" {
			add("network", false, "the host's firewall drops what is forwarded (chain "+by+"), so functions may reach nothing but Mayfly",
				"let it pass: iptables -I FORWARD -i "+d.net.prefix+"+ -j ACCEPT; iptables -I FORWARD -o "+d.net.prefix+"+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
		} else {
			add("network", true, "egress through the host from "+d.net.addrs.String()+"; the host itself, its metadata address and other sandboxes out of reach", "")
		}
		if resolver {
			add("dns", true, "the host's resolvers", "")
		} else {
			add("dns", false, "the host's resolver listens on its own loopback, which functions do not reach; names do not resolve",
				"name a resolver with another address in /etc/resolv.conf")
		}
	}
	return r
}

// Name is "linux".
func (d *Driver) Name() string { return "linux" }

// Report says what is isolated; see sandbox.Driver.
func (d *Driver) Report() sandbox.Report { return d.report }

// How long after a creation the stock is filled, and at most how long after
// the first.
const (
	refillQuiet = 10 * time.Millisecond
	refillMost  = 100 * time.Millisecond
)

// stock keeps the wanted number of sandboxes and /tmp prepared.
func (d *Driver) stock() {
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.refill:
		}
		// What was just created is starting now and needs the processors
		// more; but in an endless stream of creations the stock is filled
		// all the same.
		for wait := refillMost; wait > 0; wait -= refillQuiet {
			select {
			case <-d.ctx.Done():
				return
			case <-d.refill:
				continue
			case <-time.After(refillQuiet):
			}
			break
		}
		for {
			d.mu.Lock()
			boxes, tmps := d.cfg.Prepared-len(d.boxes), d.cfg.Prepared
			for _, t := range d.tmps {
				if t.size == d.cfg.TmpBytes {
					tmps--
				}
			}
			d.mu.Unlock()
			if d.ctx.Err() != nil || boxes <= 0 && (tmps <= 0 || !d.disk) {
				break
			}
			if tmps > 0 && d.disk {
				t, err := newTmp(d.cfg.Dir, d.cfg.TmpBytes, true)
				if err != nil {
					d.log.Warn("prepare a sandbox", "err", err)
					break
				}
				d.mu.Lock()
				d.tmps = append(d.tmps, t)
				d.mu.Unlock()
			}
			if boxes > 0 {
				b, err := d.build(d.ctx, d.net.egress)
				if err != nil {
					if d.ctx.Err() == nil {
						d.log.Warn("prepare a sandbox", "err", err)
					}
					break
				}
				d.mu.Lock()
				d.boxes = append(d.boxes, b)
				d.mu.Unlock()
			}
		}
	}
}

func (d *Driver) wantStock() {
	select {
	case d.refill <- struct{}{}:
	default:
	}
}

// take gives a prepared sandbox with the network, or makes one.
func (d *Driver) take(ctx context.Context, egress bool) (*box, error) {
	for {
		d.mu.Lock()
		i := slices.IndexFunc(d.boxes, func(b *box) bool { return b.ns.egress == egress })
		if i < 0 {
			d.mu.Unlock()
			return d.build(ctx, egress)
		}
		b := d.boxes[i]
		d.boxes = slices.Delete(d.boxes, i, i+1)
		d.mu.Unlock()
		if !b.gone() {
			return b, nil
		}
		b.destroy()
	}
}

// takeTmp gives a prepared or returned /tmp of the size, or nil.
func (d *Driver) takeTmp(size int64) *tmpFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.tmps) - 1; i >= 0; i-- {
		if t := d.tmps[i]; t.size == size {
			d.tmps = slices.Delete(d.tmps, i, i+1)
			return t
		}
	}
	return nil
}

// putTmp takes a /tmp back from a sandbox that is gone.
func (d *Driver) putTmp(t *tmpFS) {
	if t.pristine() {
		d.mu.Lock()
		if !d.closed {
			d.tmps = append(d.tmps, t)
			t = nil
			if len(d.tmps) > d.cfg.Prepared+maxIdle {
				t = d.tmps[0] // the one that was not wanted for longest
				d.tmps = slices.Delete(d.tmps, 0, 1)
			}
		}
		d.mu.Unlock()
	}
	if t != nil {
		d.slow <- struct{}{}
		t.close()
		<-d.slow
	}
}

// Create makes a sandbox; see sandbox.Driver.
func (d *Driver) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Instance, error) {
	in, err := d.create(ctx, spec, nil)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// create makes a sandbox of a prepared box, or of one in which a program waits.
// Nothing is left of either when it fails.
func (d *Driver) create(ctx context.Context, spec sandbox.Spec, from *waiting) (in *instance, err error) {
	defer func() {
		if err != nil && from != nil {
			from.box.destroy()
		}
	}()
	if spec, err = spec.WithDefaults(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, sandbox.ErrClosed
	}
	if _, dup := d.live[spec.ID]; dup {
		d.mu.Unlock()
		return nil, fmt.Errorf("sandbox %s: the ID is in use", spec.ID)
	}
	d.live[spec.ID] = nil
	d.work.Add(1) // Close waits for us
	d.mu.Unlock()
	defer d.work.Done()

	in, err = d.furnished(ctx, spec, from)
	d.mu.Lock()
	if err != nil {
		delete(d.live, spec.ID)
		d.mu.Unlock()
		return nil, fmt.Errorf("sandbox %s: %w", spec.ID, err)
	}
	closed := d.closed
	d.live[spec.ID] = in
	d.mu.Unlock()
	if closed {
		from = nil
		in.Close()
		return nil, sandbox.ErrClosed
	}
	d.wantStock()
	return in, nil
}

// furnished makes the instance.
func (d *Driver) furnished(ctx context.Context, spec sandbox.Spec, from *waiting) (_ *instance, err error) {
	var f furniture
	defer f.close()
	mounts := spec.Mounts
	if from != nil {
		if mounts, err = from.mountsOver(spec.Mounts, &f); err != nil {
			return nil, err
		}
	}
	if err := d.furnish(&f, spec.Root, mounts); err != nil {
		return nil, err
	}
	// Both wait for the kernel more than they work.
	var tmp *tmpFS
	var tmpErr error
	var making sync.WaitGroup
	if tmp = d.takeTmp(spec.TmpBytes); tmp == nil {
		making.Go(func() { tmp, tmpErr = newTmp(d.cfg.Dir, spec.TmpBytes, d.disk) })
	}
	var b *box
	if from != nil {
		b = from.box
	} else {
		b, err = d.take(ctx, spec.Network == sandbox.NetworkEgress && d.net.egress)
	}
	making.Wait()
	if err = errors.Join(err, tmpErr); err == nil {
		in := &instance{box: b, spec: spec, tmp: tmp}
		if err = in.furnish(&f); err == nil {
			return in, nil
		}
	}
	if b != nil && from == nil {
		b.destroy()
	}
	if tmp != nil {
		tmp.close()
	}
	return nil, err
}

// furniture is what is mounted in a box.
type furniture struct {
	image   int // a root of its own; 0 means the common one
	leave   []string
	trees   []int
	targets []string
	// uncertain says that not everything may be possible to mount where it
	// should be.
	uncertain bool
}

func (f *furniture) close() {
	for _, t := range f.trees {
		unix.Close(t)
	}
	if f.image > 0 {
		unix.Close(f.image)
	}
}

// furnish makes the trees of mounts.
func (d *Driver) furnish(f *furniture, root string, mounts []sandbox.Mount) (err error) {
	d.mu.Lock()
	common := d.root
	d.mu.Unlock()
	ls := layers(mounts)
	f.uncertain = root != ""
	if root != "" {
		if f.image, err = imageTree(root, ls); err != nil {
			return fmt.Errorf("root %s: %w", root, err)
		}
	}
	for _, l := range ls {
		st, err := os.Stat(l.sources[0])
		if err != nil {
			return fmt.Errorf("mount %s: %w", l.target, err)
		}
		tree, err := l.tree()
		if err != nil {
			return fmt.Errorf("mount %s: %w", l.target, err)
		}
		for _, t := range f.targets {
			f.uncertain = f.uncertain || strings.HasPrefix(l.target, t+"/")
		}
		f.trees, f.targets = append(f.trees, tree), append(f.targets, l.target)
		if root == "" {
			sure, err := common.mountPoint(l.target, !st.IsDir())
			if err != nil {
				return fmt.Errorf("mount %s: %w", l.target, err)
			}
			f.uncertain = f.uncertain || !sure
		}
	}
	if root == "" {
		common.refreshResolver()
	}
	return nil
}

// Close ends everything; see sandbox.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	var live []*instance
	for _, in := range d.live {
		if in != nil {
			live = append(live, in)
		}
	}
	d.mu.Unlock()
	d.cancel()

	var errs []error
	var closing sync.WaitGroup
	limit := make(chan struct{}, 2*runtime.NumCPU())
	results := make(chan error, len(live))
	for _, in := range live {
		limit <- struct{}{}
		closing.Go(func() {
			results <- in.Close()
			<-limit
		})
	}
	closing.Wait()
	close(results)
	for err := range results {
		errs = append(errs, err)
	}
	d.work.Wait()
	d.mu.Lock()
	ahead := slices.Collect(maps.Keys(d.waiting))
	clear(d.waiting)
	d.mu.Unlock()
	for _, w := range ahead {
		w.end()
	}
	for _, b := range d.boxes {
		b.destroy()
	}
	d.work.Wait()
	for _, t := range d.tmps {
		t.close()
	}
	for _, u := range d.users {
		unix.Close(u.fd)
	}
	d.boxes, d.tmps, d.users = nil, nil, nil
	if d.zygote != nil {
		d.zygote.close()
	}
	if d.root != nil {
		for _, s := range append(d.retired, d.root) {
			unix.Close(s.tree)
		}
	}
	if d.net != nil {
		errs = append(errs, d.net.close())
	}
	if d.groups != nil {
		errs = append(errs, d.groups.close())
	}
	if d.slotFD >= 0 {
		unix.Close(d.slotFD)
	}
	return errors.Join(errs...)
}
