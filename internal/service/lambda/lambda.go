package lambda

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
	deliver "github.com/mayflyhq/mayfly/internal/target"
)

// Invoker runs functions. *fleet.Fleet is one. Its methods are safe for concurrent use.
type Invoker interface {
	// Invoke runs one invocation to its end. A function's own failure is a Response with FunctionError; errors are *fleet.ThrottledError,
	// fleet.ErrStopping, the context's, or trouble of the machine. A Response with a Stream comes while the function runs.
	Invoke(ctx context.Context, fn *fleet.Function, req *fleet.Request) (*fleet.Response, error)
	// Retire ends the environments of all versions of the function with an unqualified ARN: idle ones now, busy ones when their
	// invocation is done.
	Retire(arn string)
}

// Runtimes knows the managed runtimes. Its methods are safe for concurrent use.
type Runtimes interface {
	// Creatable lists the runtimes that functions may be created with, as AWS's message lists them.
	Creatable() []string
	// Check reports whether functions of a runtime can run on this machine. The error is for people and says what to
	// install. id is the last part of the ARN of the runtime's version.
	Check(ctx context.Context, runtime, architecture string) (id string, err error)
}

// Downloads makes URLs for archives. Its methods are safe for concurrent use.
type Downloads interface {
	// URL returns a URL that gives whoever has it the blob with a digest for the time given. ctx is that of the call that asks, whose
	// host the URL names.
	URL(ctx context.Context, digest blob.Digest, valid time.Duration) (string, error)
}

// Roles knows which roles Lambda can assume. Its methods are safe for concurrent use.
type Roles interface {
	// Session is the principal of a session of a function's role, for what Lambda does in the function's name. It fails if Lambda cannot
	// assume the role. ctx is a call of Lambda's own in the function's account.
	Session(ctx context.Context, roleARN, functionARN string) (call.Principal, error)
	// Assumable reports whether a role of the caller's account exists and lets lambda.amazonaws.com assume it for a function. The
	// error is trouble of the store.
	Assumable(ctx context.Context, roleARN, functionARN string) (bool, error)
}

// Destinations delivers events and records. *target.Targets is one. Its methods are safe for concurrent use.
type Destinations interface {
	// Check says whether events can be delivered to an ARN here: nil, target.ErrUnknown, or an *apierr.Error that names what is not served.
	Check(arn string) error
	// Deliver makes one try, for the principal of ctx. The id is what the target calls the event, if it calls it anything.
	Deliver(ctx context.Context, arn string, e *deliver.Event) (id string, err error)
}

// Config is the limits of the service. Zero values mean AWS's.
type Config struct {
	ZipBytes       int64 // of an archive; 52,428,800
	UnzippedBytes  int64 // of its contents; 262,144,000
	ArchiveEntries int   // files and directories in it; 100,000. AWS has no such limit of its own.
	MemoryMB       int32 // largest MemorySize; 10,240
	Timeout        int32 // largest Timeout in seconds; 900
	EphemeralMB    int32 // largest EphemeralStorage; 10,240
	EnvironmentLen int   // bytes of the variables as JSON; 4,096
	PayloadBytes   int   // of a synchronous invocation; 6,291,456
	EventBytes     int   // of an asynchronous invocation; 1,048,576
	Tags           int   // of a function; 50
	Concurrency    int32 // of an account in a region; 1,000
	// UnreservedConcurrency is what reserved and provisioned concurrency must leave of it; 100, or Concurrency if that is less.
	// None if it is negative.
	UnreservedConcurrency int32

	// RetryWait is the wait before the first retry of an asynchronous invocation that the function failed; the second comes after twice
	// that. 1 min. BackOff is the wait after the first error that is not the function's, which doubles up to 300 times that. 1 s.
	RetryWait, BackOff time.Duration
}

func (c Config) withDefaults() Config {
	set(&c.ZipBytes, 52_428_800)
	set(&c.UnzippedBytes, 262_144_000)
	set(&c.ArchiveEntries, 100_000)
	set(&c.MemoryMB, 10_240)
	set(&c.Timeout, 900)
	set(&c.EphemeralMB, 10_240)
	set(&c.EnvironmentLen, 4096)
	set(&c.PayloadBytes, 6_291_456)
	set(&c.EventBytes, 1<<20)
	set(&c.RetryWait, time.Minute)
	set(&c.BackOff, time.Second)
	set(&c.Tags, 50)
	set(&c.Concurrency, 1000)
	set(&c.UnreservedConcurrency, min(100, c.Concurrency))
	c.UnreservedConcurrency = max(0, c.UnreservedConcurrency)
	return c
}

func set[T int | int32 | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Deps is what the service needs. All fields but Roles, Destinations, Caller, Mappings, Config, Log and CodeInUse are required.
type Deps struct {
	DB        kv.DB
	Blobs     blob.Store // of archives
	CodeDir   string     // where archives are unpacked; made if missing, and owned by this service
	Invoker   Invoker
	Capacity  Capacity
	Runtimes  Runtimes
	Downloads Downloads
	Roles     Roles // nil: every role will do
	// Checker says who may use function URLs. If nil, nobody may.
	Checker authorize.Checker
	// Destinations takes what follows of asynchronous invocations. If nil, nothing is delivered.
	Destinations Destinations
	// Caller reads what event sources are like. If nil, they are not asked.
	Caller smithy.Caller
	// Mappings runs event source mappings. If nil, none can be made.
	Mappings Mappings
	// CodeInUse reports whether an environment runs from an unpacked archive, so that it may not be removed. If nil, what any
	// environment ran from stays until the next start.
	CodeInUse func(dir string) bool
	Config    Config
	Log       *slog.Logger // discards if nil
}

// Service is the Lambda control plane and its front for invocations. Its methods are safe for concurrent use.
type Service struct {
	db           kv.DB
	invoker      Invoker
	capacity     Capacity
	runtimes     Runtimes
	downloads    Downloads
	roles        Roles
	checker      authorize.Checker
	destinations Destinations
	caller       smithy.Caller
	mappings     Mappings
	remap        chan mapped
	queue        *durable.Queue
	code         *codeStore
	targets      targets
	limits       Config
	log          *slog.Logger
	reserving    sync.Mutex // see applyReserved
}

// New returns a service. It prepares CodeDir: nothing may run from there yet.
func New(d Deps) (*Service, error) {
	if d.DB == nil || d.Blobs == nil || d.CodeDir == "" || d.Invoker == nil || d.Capacity == nil || d.Runtimes == nil || d.Downloads == nil {
		return nil, errors.New("lambda: incomplete Deps")
	}
	if d.Checker == nil {
		d.Checker = nobody{}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	limits := d.Config.withDefaults()
	code, err := newCodeStore(d.DB, d.Blobs, d.CodeDir, limits, d.CodeInUse)
	if err != nil {
		return nil, err
	}
	s := &Service{
		db: d.DB, invoker: d.Invoker, capacity: d.Capacity, runtimes: d.Runtimes, downloads: d.Downloads, roles: d.Roles, checker: d.Checker, destinations: d.Destinations,
		caller: d.Caller, mappings: d.Mappings, remap: make(chan mapped, 256),
		code: code, limits: limits, log: d.Log,
	}
	s.queue = durable.New(d.DB, "lambda", s.work, durable.Options{First: limits.BackOff, Longest: 300 * limits.BackOff, Log: d.Log})
	// Before the first invocation, which may come before Run does.
	if err := s.restoreReserved(context.Background()); err != nil {
		return nil, fmt.Errorf("lambda: reserved concurrency: %w", err)
	}
	return s, nil
}

// Register adds the service's operations to mux.
func (s *Service) Register(mux *smithy.Mux) {
	// These have bounds that can be raised, or words of their own.
	own := smithy.Unchecked("runtime", "memorySize", "ephemeralStorage.size", "timeout")
	lambdaapi.CreateFunction.Handle(mux, s.createFunction, own)
	lambdaapi.GetFunction.Handle(mux, s.getFunction)
	lambdaapi.GetFunctionConfiguration.Handle(mux, s.getFunctionConfiguration)
	lambdaapi.ListFunctions.Handle(mux, s.listFunctions)
	lambdaapi.UpdateFunctionCode.Handle(mux, s.updateFunctionCode)
	lambdaapi.UpdateFunctionConfiguration.Handle(mux, s.updateFunctionConfiguration, own)
	lambdaapi.DeleteFunction.Handle(mux, s.deleteFunction)

	lambdaapi.PublishVersion.Handle(mux, s.publishVersion)
	lambdaapi.ListVersionsByFunction.Handle(mux, s.listVersions)

	lambdaapi.CreateAlias.Handle(mux, s.createAlias)
	lambdaapi.GetAlias.Handle(mux, s.getAlias)
	lambdaapi.ListAliases.Handle(mux, s.listAliases)
	lambdaapi.UpdateAlias.Handle(mux, s.updateAlias)
	lambdaapi.DeleteAlias.Handle(mux, s.deleteAlias)

	lambdaapi.AddPermission.Handle(mux, s.addPermission)
	lambdaapi.RemovePermission.Handle(mux, s.removePermission)
	lambdaapi.GetPolicy.Handle(mux, s.getPolicy)

	lambdaapi.CreateFunctionUrlConfig.Handle(mux, s.createFunctionURLConfig)
	lambdaapi.GetFunctionUrlConfig.Handle(mux, s.getFunctionURLConfig)
	lambdaapi.UpdateFunctionUrlConfig.Handle(mux, s.updateFunctionURLConfig)
	lambdaapi.DeleteFunctionUrlConfig.Handle(mux, s.deleteFunctionURLConfig)
	lambdaapi.ListFunctionUrlConfigs.Handle(mux, s.listFunctionURLConfigs)

	lambdaapi.PublishLayerVersion.Handle(mux, s.publishLayerVersion)
	lambdaapi.GetLayerVersion.Handle(mux, s.getLayerVersion)
	lambdaapi.GetLayerVersionByArn.Handle(mux, s.getLayerVersionByArn)
	lambdaapi.ListLayers.Handle(mux, s.listLayers)
	lambdaapi.ListLayerVersions.Handle(mux, s.listLayerVersions)
	lambdaapi.DeleteLayerVersion.Handle(mux, s.deleteLayerVersion)
	lambdaapi.AddLayerVersionPermission.Handle(mux, s.addLayerVersionPermission)
	lambdaapi.RemoveLayerVersionPermission.Handle(mux, s.removeLayerVersionPermission)
	lambdaapi.GetLayerVersionPolicy.Handle(mux, s.getLayerVersionPolicy)

	lambdaapi.CreateCodeSigningConfig.Handle(mux, s.createCodeSigningConfig)
	lambdaapi.GetCodeSigningConfig.Handle(mux, s.getCodeSigningConfig)
	lambdaapi.UpdateCodeSigningConfig.Handle(mux, s.updateCodeSigningConfig)
	lambdaapi.DeleteCodeSigningConfig.Handle(mux, s.deleteCodeSigningConfig)
	lambdaapi.ListCodeSigningConfigs.Handle(mux, s.listCodeSigningConfigs)
	lambdaapi.ListFunctionsByCodeSigningConfig.Handle(mux, s.listFunctionsByCodeSigningConfig)
	lambdaapi.PutFunctionCodeSigningConfig.Handle(mux, s.putFunctionCodeSigningConfig)
	lambdaapi.GetFunctionCodeSigningConfig.Handle(mux, s.getFunctionCodeSigningConfig)
	lambdaapi.DeleteFunctionCodeSigningConfig.Handle(mux, s.deleteFunctionCodeSigningConfig)

	lambdaapi.PutFunctionConcurrency.Handle(mux, s.putFunctionConcurrency)
	lambdaapi.GetFunctionConcurrency.Handle(mux, s.getFunctionConcurrency)
	lambdaapi.DeleteFunctionConcurrency.Handle(mux, s.deleteFunctionConcurrency)
	lambdaapi.PutProvisionedConcurrencyConfig.Handle(mux, s.putProvisionedConcurrencyConfig)
	lambdaapi.GetProvisionedConcurrencyConfig.Handle(mux, s.getProvisionedConcurrencyConfig)
	lambdaapi.DeleteProvisionedConcurrencyConfig.Handle(mux, s.deleteProvisionedConcurrencyConfig)
	lambdaapi.ListProvisionedConcurrencyConfigs.Handle(mux, s.listProvisionedConcurrencyConfigs)

	lambdaapi.CreateEventSourceMapping.Handle(mux, s.createEventSourceMapping)
	lambdaapi.GetEventSourceMapping.Handle(mux, s.getEventSourceMapping)
	lambdaapi.ListEventSourceMappings.Handle(mux, s.listEventSourceMappings)
	lambdaapi.UpdateEventSourceMapping.Handle(mux, s.updateEventSourceMapping)
	lambdaapi.DeleteEventSourceMapping.Handle(mux, s.deleteEventSourceMapping)

	lambdaapi.TagResource.Handle(mux, s.tagResource)
	lambdaapi.UntagResource.Handle(mux, s.untagResource)
	lambdaapi.ListTags.Handle(mux, s.listTags)

	lambdaapi.GetAccountSettings.Handle(mux, s.getAccountSettings)
	lambdaapi.GetFunctionRecursionConfig.Handle(mux, s.getFunctionRecursionConfig)
	lambdaapi.GetRuntimeManagementConfig.Handle(mux, s.getRuntimeManagementConfig)
	lambdaapi.PutRuntimeManagementConfig.Handle(mux, s.putRuntimeManagementConfig)
	lambdaapi.GetFunctionScalingConfig.Handle(mux, s.getFunctionScalingConfig)
	lambdaapi.PutFunctionScalingConfig.Handle(mux, s.putFunctionScalingConfig)

	lambdaapi.PutFunctionRecursionConfig.Handle(mux, s.putFunctionRecursionConfig)

	lambdaapi.PutFunctionEventInvokeConfig.Handle(mux, s.putFunctionEventInvokeConfig)
	lambdaapi.UpdateFunctionEventInvokeConfig.Handle(mux, s.updateFunctionEventInvokeConfig)
	lambdaapi.GetFunctionEventInvokeConfig.Handle(mux, s.getFunctionEventInvokeConfig)
	lambdaapi.DeleteFunctionEventInvokeConfig.Handle(mux, s.deleteFunctionEventInvokeConfig)
	lambdaapi.ListFunctionEventInvokeConfigs.Handle(mux, s.listFunctionEventInvokeConfigs)

	lambdaapi.Invoke.Handle(mux, s.invoke)
	lambdaapi.InvokeAsync.Handle(mux, s.invokeAsync)
	lambdaapi.InvokeWithResponseStream.Handle(mux, s.invokeStream)
}

func (s *Service) now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
