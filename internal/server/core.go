package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/eventsource"
	"github.com/mayflyhq/mayfly/internal/eventsource/sources"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/gate"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/meter"
	"github.com/mayflyhq/mayfly/internal/service/iam"
	"github.com/mayflyhq/mayfly/internal/service/kinesis"
	"github.com/mayflyhq/mayfly/internal/service/lambda"
	"github.com/mayflyhq/mayfly/internal/service/logs"
	"github.com/mayflyhq/mayfly/internal/service/sns"
	"github.com/mayflyhq/mayfly/internal/service/sqs"
	"github.com/mayflyhq/mayfly/internal/service/sts"
	"github.com/mayflyhq/mayfly/internal/target"
)

// core is everything that holds state: the store and what stands on it. A reset makes a new one.
type core struct {
	dir        string
	db         *pebblekv.DB
	blobs      *blob.Disk
	mux        *smithy.Mux
	gate       *gate.Gate
	authorizer *authorize.Authorizer
	fleet      *fleet.Fleet
	meter      *meter.Meter
	mappings   *eventsource.Engine
	lambda     *lambda.Service
	logs       *logs.Service
	sqs        *sqs.Service
	iam        *iam.Service
	kinesis    *kinesis.Service
	sns        *sns.Service

	failed chan error // of what runs

	stopMappings, stopServices, stopStorage context.CancelFunc
	services, storage                       sync.WaitGroup
	closing                                 sync.Once
}

// openStore opens the store in dir, or in memory. It is locked: whoever has it open is the one Mayfly of this directory.
func (s *Server) openStore(dir string) (*pebblekv.DB, error) {
	db, err := pebblekv.Open(pebblekv.Options{Dir: filepath.Join(dir, "store"), InMemory: s.config.Ephemeral, Logger: s.log})
	switch {
	case errors.Is(err, kv.ErrLocked):
		return nil, fmt.Errorf("another Mayfly serves the data directory %s (%w): stop it, or give this one a directory of its own (--data DIR)", dir, err)
	case err != nil:
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return db, nil
}

// newCore puts the engines and services on a store, which it owns from now on. Nothing runs before start.
func (s *Server) newCore(dir string, db *pebblekv.DB) (c *core, err error) {
	c = &core{dir: dir, db: db, mux: smithy.NewMux(), failed: make(chan error, 8), stopMappings: func() {}, stopServices: func() {}, stopStorage: func() {}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.blobs, err = blob.Open(filepath.Join(dir, "blobs")); err != nil {
		return nil, err
	}

	// Engines.
	if c.authorizer, err = authorize.New(authorize.Deps{Services: Services(), DB: c.db, Log: s.log, Dev: s.config.Dev}); err != nil {
		return nil, err
	}
	if c.iam, err = iam.New(iam.Deps{DB: c.db}); err != nil { // whom the engines act for
		return nil, err
	}
	c.authorizer.RegisterIdentities(c.iam)
	c.authorizer.RegisterResources("iam", c.iam)
	c.gate = gate.New(c.mux, c.authorizer, s.log)
	c.meter = meter.New(c.db, s.log)
	roles := &roles{issuer: s.issuer, identities: c.iam, checker: c.authorizer, dev: s.config.Dev, log: s.log}
	limits := fleet.DefaultLimits(s.config.MemoryMB)
	limits.StreamRate = s.config.StreamRate
	if s.config.Prepared < 0 {
		limits.Ahead = 0
	}
	limits.Concurrency, limits.Rate, limits.Burst = s.config.Concurrency, s.config.ConcurrencyRate, s.config.ConcurrencyBurst
	c.fleet = fleet.New(fleet.Deps{
		Driver:      s.driver,
		Network:     s.config.Network,
		Runtimes:    s.finder,
		Credentials: roles.credentials,
		Endpoint:    func(ln net.Listener) { s.edge.ServeSandbox(ln) },
		Caller:      c.gate,
		Meter:       c.meter,
		Log:         s.log,
	}, limits)

	// Event sources, and the engine that reads them for functions.
	if c.sqs, err = sqs.New(sqs.Deps{DB: c.db, URL: s.config.URL, Log: s.log}); err != nil {
		return nil, err
	}
	if c.kinesis, err = kinesis.New(kinesis.Deps{DB: c.db, Unlimited: s.config.NoShardLimits, Log: s.log}); err != nil {
		return nil, err
	}
	mapper := &lambda.Mapper{}
	c.mappings = eventsource.New(c.db, eventsource.Options{
		Sources: sources.New(sources.Deps{Caller: c.gate, Roles: mapper, Queues: c.sqs, Streams: c.kinesis}),
		Invoker: mapper, Destination: mapper, Log: s.log,
	})

	// Services.
	if c.lambda, err = lambda.New(lambda.Deps{
		DB:           c.db,
		Blobs:        c.blobs,
		CodeDir:      filepath.Join(dir, "code"),
		Invoker:      c.fleet,
		Capacity:     c.fleet,
		Runtimes:     s.finder,
		Downloads:    downloads{s},
		Roles:        roles,
		Checker:      c.authorizer,
		Destinations: target.New(c.gate, c.mux.Served),
		Caller:       c.gate,
		Mappings:     c.mappings,
		CodeInUse:    c.fleet.CodeInUse,
		Config: lambda.Config{
			Concurrency: int32(s.config.Concurrency), UnreservedConcurrency: int32(s.config.ConcurrencyFloor),
			RetryWait: s.config.AsyncRetryWait, BackOff: s.config.AsyncRetryWait / 60,
		},
		Log: s.log,
	}); err != nil {
		return nil, err
	}
	mapper.Serve(c.lambda)
	if c.logs, err = logs.New(logs.Deps{DB: c.db, Log: s.log}); err != nil {
		return nil, err
	}
	c.authorizer.RegisterResources("kinesis", c.kinesis)
	if c.sns, err = sns.New(sns.Deps{
		DB: c.db, Targets: target.New(c.gate, c.mux.Served), Checker: c.authorizer, URL: s.url, Mail: s.mail, Log: s.log,
	}); err != nil {
		return nil, err
	}
	c.authorizer.RegisterResources("sns", c.sns)
	c.authorizer.RegisterResources("sqs", c.sqs)
	c.authorizer.RegisterResources("lambda", &lambdaResources{lambda: c.lambda, gate: c.gate})
	c.authorizer.RegisterResources("logs", logsResources{c.gate})
	c.lambda.Register(c.mux)
	c.logs.Register(c.mux)
	c.sqs.Register(c.mux)
	c.iam.Register(c.mux)
	c.kinesis.Register(c.mux)
	c.sns.Register(c.mux)
	sts, err := sts.New(sts.Deps{
		Credentials: s.issuer,
		IAM:         c.gate,
		Checker:     c.authorizer,
		Issuers:     s.config.Issuers,
		AccountOf:   func(id string) (string, bool) { return s.root.Account, id == s.root.AccessKeyID },
		Dev:         s.config.Dev,
	})
	if err != nil {
		return nil, err
	}
	sts.Register(c.mux)
	return c, nil
}

// start runs the engines and services until stop.
func (c *core) start() {
	services, storage := context.Background(), context.Background()
	services, c.stopServices = context.WithCancel(services)
	mappings, stop := context.WithCancel(services)
	c.stopMappings = stop
	storage, c.stopStorage = context.WithCancel(storage)
	run := func(wg *sync.WaitGroup, ctx context.Context, name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				c.failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	run(&c.storage, storage, "fleet", c.fleet.Run)
	run(&c.storage, storage, "meter", c.meter.Run)
	run(&c.storage, storage, "authorize", c.authorizer.Run)
	run(&c.services, mappings, "event sources", c.mappings.Run)
	run(&c.services, services, "lambda", c.lambda.Run)
	run(&c.services, services, "logs", c.logs.Run)
	run(&c.services, services, "kinesis", c.kinesis.Run)
	run(&c.services, services, "sns", c.sns.Run)
	run(&c.services, services, "sqs", c.sqs.Run)
}

// stop ends everything in good order: invocations end, until ctx does, and what they printed and cost is stored.
func (c *core) stop(ctx context.Context) error {
	c.sqs.EndPolls()
	c.stopMappings() // first, so that they take nothing that no function would get any more
	c.fleet.Stop(ctx)
	c.stopServices()
	c.services.Wait()
	c.stopStorage()
	c.storage.Wait()
	return c.close()
}

func (c *core) close() (err error) {
	c.closing.Do(func() { err = c.db.Close() })
	return err
}

// newCoreDir makes a directory for one core of an ephemeral server. Functions reach their code through it.
func (s *Server) newCoreDir() (string, error) {
	dir, err := os.MkdirTemp(s.config.DataDir, "core-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// reset replaces the core by an empty one. It is for ephemeral servers.
func (s *Server) reset(ctx context.Context) error {
	s.resetting.Lock()
	defer s.resetting.Unlock()
	dir, err := s.newCoreDir()
	if err != nil {
		return err
	}
	db, err := s.openStore(dir)
	if err != nil {
		return err
	}
	c, err := s.newCore(dir, db)
	if err != nil {
		return err
	}
	c.start()
	old := s.core.Swap(c)
	ended, cancel := context.WithCancel(ctx)
	cancel() // nobody waits for invocations of what is gone
	return errors.Join(old.stop(ended), removeAll(old.dir))
}

// removeAll removes a directory with whatever is in it: unpacked code is read-only, which holds for its owner too.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil // what stays in the way, RemoveAll tells
	})
	return os.RemoveAll(dir)
}
