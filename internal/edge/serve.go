package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

func (e *Edge) newServer(h http.Handler) *http.Server {
	s := &http.Server{
		Handler:           h,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: 20 * time.Second,
		IdleTimeout:       3 * time.Minute, // longer than the SDKs keep a connection, so that they close it and not we
		MaxHeaderBytes:    1 << 20,         // Lambda's limit of request line and headers together
		ErrorLog:          slog.NewLogLogger(e.opts.Log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// Listen opens a public address, such as DefaultAddr. With Options.Dev it must be loopback.
func (e *Edge) Listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := e.mayServe(ln.Addr()); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// mayServe refuses to accept anyone as root from other machines.
func (e *Edge) mayServe(a net.Addr) error {
	if tcp, ok := a.(*net.TCPAddr); e.opts.Dev && (!ok || !tcp.IP.IsLoopback()) {
		return fmt.Errorf("edge: --dev accepts any credentials and therefore serves loopback addresses only, and %s is not one: listen on %s, or leave out --dev", a, DefaultAddr)
	}
	return nil
}

// Serve serves a public listener until Shutdown, Close, or an error of the listener, and closes it. It returns nil after
// Shutdown and Close. It may be called for several listeners.
func (e *Edge) Serve(ln net.Listener) error {
	if err := e.mayServe(ln.Addr()); err != nil {
		ln.Close()
		return err
	}
	if e.opts.Dev {
		e.opts.Log.Warn("development mode: any credentials, and none, are accepted as root", "address", ln.Addr().String())
	}
	if err := e.public.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeSandbox serves the Mayfly endpoint inside a sandbox, on a listener in the sandbox's own network, until the
// listener is closed or Close. It returns nil then, with no connection of the listener left, which would keep the
// sandbox's network alive.
func (e *Edge) ServeSandbox(ln net.Listener) error {
	tracked := &trackingListener{Listener: ln, conns: map[*trackedConn]struct{}{}}
	err := e.sandbox.Serve(tracked)
	tracked.closeConns()
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// trackingListener knows the connections that it accepted and that are still open.
type trackingListener struct {
	net.Listener

	mu     sync.Mutex
	conns  map[*trackedConn]struct{}
	closed bool
}

func (l *trackingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &trackedConn{c, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	l.conns[t] = struct{}{}
	return t, nil
}

func (l *trackingListener) closeConns() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.Conn.Close()
	}
	clear(l.conns)
}

type trackedConn struct {
	net.Conn
	l *trackingListener
}

func (c *trackedConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// Shutdown stops serving the public listeners: what is under way ends, new calls are answered with ServiceUnavailable
// until then, and the listeners close. Sandboxes are served until Close. If ctx ends first, Shutdown breaks off what is
// under way and returns ctx's error.
func (e *Edge) Shutdown(ctx context.Context) error {
	e.stop()
	var err error
	select {
	case <-e.idle:
		err = e.public.Shutdown(ctx)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		e.public.Close()
	}
	return err
}

// Close closes all listeners and connections, those of sandboxes too, without waiting for what is under way.
func (e *Edge) Close() error {
	e.stop()
	return errors.Join(e.public.Close(), e.sandbox.Close())
}
