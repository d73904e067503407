// Package server puts Mayfly together: it is the only importer of drivers and services, and says in which order they
// start and stop.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/runtimes"
	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/service/sns"
)

// grace is how long a stop lets invocations go on: Lambda's longest timeout.
const grace = 15 * time.Minute

// Services are the contracts that Mayfly knows. Operations without a handler answer an error that names them.
func Services() []*smithy.Service {
	return []*smithy.Service{
		lambdaapi.Service, logsapi.Service, iamapi.Service, kinesisapi.Service, snsapi.Service, sqsapi.Service, stsapi.Service,
	}
}

// Server is one Mayfly.
type Server struct {
	config    Config
	log       *slog.Logger
	root      *credential.Root
	issuer    *credential.Issuer
	finder    *runtimes.Finder
	presigner edge.Presigner
	driver    sandbox.Driver
	mail      sns.Mail // nil: none
	edge      *edge.Edge
	ln        net.Listener
	metrics   net.Listener // nil: metrics are not served
	core      atomic.Pointer[core]
	resetting sync.Mutex
	hurried   context.Context // ended by Hurry
	hurry     context.CancelFunc
	closing   sync.Once
}

// New opens the store and the listener and puts everything in place; nothing is served before Run. A data directory that
// another Mayfly uses is refused. Close releases what New took if Run is not called.
func New(ctx context.Context, config Config) (_ *Server, err error) {
	config, err = config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, log: config.Log}
	if config.SMTP != "" {
		if s.mail, err = sns.NewRelay(config.SMTP); err != nil {
			return nil, err
		}
	}
	s.hurried, s.hurry = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.prepareDataDir(); err != nil {
		return nil, err
	}
	dir := s.config.DataDir
	if s.config.Ephemeral { // a reset leaves nothing of it, but the sandboxes' files stay
		if dir, err = s.newCoreDir(); err != nil {
			return nil, err
		}
	}
	db, err := s.openStore(dir) // before anything is touched that another Mayfly may use
	if err != nil {
		return nil, err
	}
	if err := s.takeDataDir(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c, err := s.newCore(dir, db)
	if err != nil {
		return nil, err
	}
	s.core.Store(c)
	options := edge.Options{
		Caller:   s,
		Services: Services(),
		Keys:     credential.Finders{s.root, s.issuer, userKeys{s}},
		Root:     s.root,
		Log:      s.log,
		Version:  Version(),
		Dev:      s.config.Dev,
		Internal: s.endpoints(),
		URLs:     urls{s},
	}
	if s.config.Ephemeral {
		options.Reset = s.reset
	}
	s.edge = edge.New(options)
	if s.ln, err = s.edge.Listen(ctx, s.config.Listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.config.Listen, err)
	}
	if s.config.Metrics != "" {
		if s.metrics, err = listenMetrics(ctx, s.config.Metrics); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// prepareDataDir makes the data directory. Others may pass through it: functions, which are other users, reach their code
// in it, and nothing in it that they must not read can be read by others.
func (s *Server) prepareDataDir() (err error) {
	if s.config.Ephemeral {
		if s.config.DataDir, err = os.MkdirTemp("", "mayfly-"); err != nil {
			return err
		}
		return os.Chmod(s.config.DataDir, 0o711)
	}
	if s.config.DataDir, err = filepath.Abs(s.config.DataDir); err != nil {
		return err
	}
	return os.MkdirAll(s.config.DataDir, 0o711)
}

// takeDataDir opens what else is in the data directory.
func (s *Server) takeDataDir() (err error) {
	if s.config.Ephemeral {
		s.root = credential.New()
	} else if s.root, err = credential.LoadOrCreate(s.config.DataDir); err != nil {
		return err
	}
	s.presigner = edge.Presigner{Root: s.root, Addr: s.config.Listen}
	if s.issuer, err = credential.NewIssuer(s.root.SessionKey); err != nil {
		return err
	}
	if s.finder, err = runtimes.New(runtimes.Options{Dir: filepath.Join(s.config.DataDir, "runtimes")}); err != nil {
		return err
	}
	s.driver, err = openDriver(s.config)
	return err
}

// Call performs an operation on the state as it is now. It implements smithy.Caller.
func (s *Server) Call(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	return s.core.Load().gate.Call(ctx, op, in, out)
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Root is the root user's credentials.
func (s *Server) Root() *credential.Root { return s.root }

// Mux holds the handlers, for the table of what is served.
func (s *Server) Mux() *smithy.Mux { return s.core.Load().mux }

// Report says what the sandbox isolates.
func (s *Server) Report() sandbox.Report { return s.driver.Report() }

// addressFile keeps the address of the server that uses a data directory, for the commands that look for it.
const addressFile = "address"

func (s *Server) saveAddress() error {
	if s.config.Ephemeral {
		return nil
	}
	return os.WriteFile(filepath.Join(s.config.DataDir, addressFile), []byte(s.Addr().String()), 0o644)
}

// LastAddress is the address of the server that last used a data directory, or the default one.
func LastAddress(dataDir string) string {
	b, err := os.ReadFile(filepath.Join(dataDir, addressFile))
	if err != nil || len(b) == 0 {
		return edge.DefaultAddr
	}
	return string(b)
}

// Run serves until ctx ends, then stops in good order: new calls are refused, invocations end, what they printed is
// stored. ready, if not nil, is called once calls are served.
func (s *Server) Run(ctx context.Context, ready func()) error {
	defer s.Close()
	s.core.Load().start()
	served := make(chan error, 1)
	go func() { served <- s.edge.Serve(s.ln) }()
	endMetrics := s.serveMetrics()
	s.edge.Ready()
	if err := s.saveAddress(); err != nil {
		s.log.Warn("address not kept: mayfly env will print the one before", "err", err)
	}
	if ready != nil {
		ready()
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-s.core.Load().failed:
	case err = <-served:
		served <- nil
	}
	s.log.Info("stopping: invocations that run may end")
	s.core.Load().kinesis.EndSubscriptions()
	s.core.Load().sqs.EndPolls()
	stop, cancel := context.WithTimeout(s.hurried, grace)
	defer cancel()
	if e := s.edge.Shutdown(stop); e != nil && s.hurried.Err() == nil {
		err = errors.Join(err, fmt.Errorf("stop: %w", e))
	}
	endMetrics()
	s.resetting.Lock() // a reset under way ends first
	defer s.resetting.Unlock()
	err = errors.Join(err, s.core.Load().stop(stop), s.edge.Close(), <-served)
	return errors.Join(err, s.Close())
}

// Hurry breaks off the invocations that a stop still waits for.
func (s *Server) Hurry() { s.hurry() }

// Close releases the listener, the sandboxes and the store. Run calls it itself.
func (s *Server) Close() (err error) {
	s.closing.Do(func() {
		s.hurry()
		for _, ln := range []net.Listener{s.ln, s.metrics} {
			if ln != nil {
				ln.Close()
			}
		}
		if s.driver != nil {
			err = errors.Join(err, s.driver.Close())
		}
		if c := s.core.Load(); c != nil {
			err = errors.Join(err, c.close())
		}
		if s.config.Ephemeral && s.config.DataDir != "" {
			err = errors.Join(err, removeAll(s.config.DataDir))
		}
	})
	return err
}
