package lambda

import (
	"maps"
	"sync"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/fleet"
)

// fakeCapacity remembers what it was told.
type fakeCapacity struct {
	mu       sync.Mutex
	reserved map[string]int
	want     map[string]map[string]int // configuration to version to number
	state    map[string]fleet.Provisioned
	told     chan struct{} // of capacity 1: something was told
}

func newCapacity() *fakeCapacity {
	return &fakeCapacity{
		reserved: map[string]int{}, want: map[string]map[string]int{}, state: map[string]fleet.Provisioned{}, told: make(chan struct{}, 1),
	}
}

func (f *fakeCapacity) Reserve(arn string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reserved[arn] = n
}

func (f *fakeCapacity) Unreserve(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.reserved, arn)
}

func (f *fakeCapacity) Provision(config string, want []fleet.Provision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.want, config)
	for _, w := range want {
		if f.want[config] == nil {
			f.want[config] = map[string]int{}
		}
		f.want[config][w.Function.Version] = w.Count
	}
	select {
	case f.told <- struct{}{}:
	default:
	}
}

func (f *fakeCapacity) Provisioned(config string) fleet.Provisioned {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state[config]
}

func (f *fakeCapacity) set(config string, p fleet.Provisioned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state[config] = p
}

// reservations lists what is reserved.
func (f *fakeCapacity) reservations() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.reserved)
}

// await waits until a configuration is as wanted; an empty want waits for its end.
func (f *fakeCapacity) await(config string, want map[string]int) {
	for {
		f.mu.Lock()
		got := f.want[config]
		f.mu.Unlock()
		if maps.Equal(got, want) {
			return
		}
		<-f.told
	}
}

func (w *world) reserve(name string, n int32) error {
	_, err := lambdaapi.PutFunctionConcurrency.Call(w.t.Context(), w, &lambdaapi.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: &n})
	return err
}

func (w *world) provision(name, qualifier string, n int32) error {
	_, err := lambdaapi.PutProvisionedConcurrencyConfig.Call(w.t.Context(), w, &lambdaapi.PutProvisionedConcurrencyConfigInput{
		FunctionName: &name, Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n,
	})
	return err
}

const (
	tooMuchReserved = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
	tooMuchLeft     = "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
)

// Reservations and what is provisioned outside them come out of one pool, of which 100 stay.
func TestConcurrencyIsShared(t *testing.T) {
	w := newWorld(t)
	w.run()
	publish := func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) }
	w.created("a", publish)
	w.created("b", publish)
	w.created("c", publish)
	if err := w.reserve("a", 500); err != nil {
		t.Fatal(err)
	}
	if err := w.provision("b", "1", 300); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.reserve("c", 101), "InvalidParameterValueException", 400, tooMuchReserved)
	wantError(t, w.provision("c", "1", 101), "InvalidParameterValueException", 400, tooMuchLeft)
	wantError(t, w.provision("c", "1", 201), "InvalidParameterValueException", 400, "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [200].")
	if err := w.reserve("c", 100); err != nil {
		t.Error(err)
	}
	// What is provisioned within a reservation takes nothing more.
	if err := w.provision("a", "1", 500); err != nil {
		t.Error(err)
	}
	if err := w.reserve("a", 499); err == nil {
		t.Error("less is reserved than is provisioned")
	}
	settings := must(lambdaapi.GetAccountSettings.Call(t.Context(), w, &lambdaapi.GetAccountSettingsInput{}))(t)
	if n := *settings.AccountLimit.UnreservedConcurrentExecutions; n != 100 {
		t.Errorf("%d are unreserved", n)
	}
	// Other regions have pools of their own.
	elsewhere := as(t.Context(), testAccount, "eu-west-1")
	if n := *must(lambdaapi.GetAccountSettings.Call(elsewhere, w, &lambdaapi.GetAccountSettingsInput{}))(t).AccountLimit.UnreservedConcurrentExecutions; n != 1000 {
		t.Errorf("%d are unreserved elsewhere", n)
	}
}

// Many that reserve at once do not take more than there is.
func TestConcurrencyRace(t *testing.T) {
	w := newWorld(t)
	w.run()
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, n := range names {
		w.created(n)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	given := 0
	for _, n := range names {
		wg.Go(func() {
			switch err := w.reserve(n, 200); {
			case err == nil:
				mu.Lock()
				given++
				mu.Unlock()
			default:
				wantError(t, err, "InvalidParameterValueException", 400, tooMuchReserved)
			}
		})
	}
	wg.Wait()
	if given != 4 {
		t.Errorf("%d of 8 got 200 of 900", given)
	}
	if r := w.capacity.reservations(); len(r) != 4 {
		t.Errorf("the fleet was told %v", r)
	}
}

// The fleet forgets at a restart and is told again.
func TestConcurrencyAfterRestart(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	if err := w.reserve("f", 10); err != nil {
		t.Fatal(err)
	}
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	if err := w.provision("f", "live", 4); err != nil {
		t.Fatal(err)
	}
	config := testARN + "f:live"
	w.capacity.await(config, map[string]int{"1": 4})

	w.capacity = newCapacity()
	w.deps.Capacity = w.capacity
	w.restart()
	if r := w.capacity.reservations(); r[testARN+"f"] != 10 { // before anything can be invoked
		t.Errorf("reservations = %v", r)
	}
	w.run()
	w.capacity.await(config, map[string]int{"1": 4})

	must(lambdaapi.DeleteAlias.Call(t.Context(), w, &lambdaapi.DeleteAliasInput{FunctionName: new("f"), Name: new("live")}))(t)
	w.capacity.await(config, nil)
	if err := w.provision("f", "1", 2); err != nil {
		t.Fatal(err)
	}
	w.capacity.await(testARN+"f:1", map[string]int{"1": 2})
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	w.capacity.await(testARN+"f:1", nil)
	if r := w.capacity.reservations(); len(r) != 0 {
		t.Errorf("reservations = %v", r)
	}
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) }) // of the old one nothing is left
	if out := must(lambdaapi.GetFunctionConcurrency.Call(t.Context(), w, &lambdaapi.GetFunctionConcurrencyInput{FunctionName: new("f")}))(t); out.ReservedConcurrentExecutions != nil {
		t.Errorf("reserved = %d", *out.ReservedConcurrentExecutions)
	}
}

// An alias takes what it has provisioned along, unless that version has its own.
func TestProvisionedAliasMoves(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	must(lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Description: new("2")}))(t)
	w.settled("f")
	must(lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: new("f")}))(t)
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}))(t)
	if err := w.provision("f", "live", 10); err != nil {
		t.Fatal(err)
	}
	config := testARN + "f:live"
	w.capacity.await(config, map[string]int{"1": 10})
	move := func(version string, weights map[string]float64) error {
		_, err := lambdaapi.UpdateAlias.Call(t.Context(), w, &lambdaapi.UpdateAliasInput{
			FunctionName: new("f"), Name: new("live"), FunctionVersion: &version, RoutingConfig: &lambdaapi.AliasRoutingConfiguration{AdditionalVersionWeights: weights},
		})
		return err
	}
	if err := move("1", map[string]float64{"2": 0.3}); err != nil {
		t.Fatal(err)
	}
	w.capacity.await(config, map[string]int{"1": 7, "2": 3})
	if err := move("2", map[string]float64{}); err != nil {
		t.Fatal(err)
	}
	w.capacity.await(config, map[string]int{"2": 10})
	wantError(t, move("$LATEST", map[string]float64{}), "InvalidParameterValueException", 400, "Invalid alias configuration for Provisioned Concurrency")
	if err := w.provision("f", "1", 1); err != nil {
		t.Fatal(err)
	}
	wantError(t, move("1", map[string]float64{}), "InvalidParameterValueException", 400, "Invalid alias configuration for Provisioned Concurrency")

	// How far it has come is for the fleet to say.
	for _, c := range []struct {
		now    fleet.Provisioned
		status string
	}{
		{fleet.Provisioned{Allocated: 10, Available: 4}, "IN_PROGRESS"},
		{fleet.Provisioned{Allocated: 10, Available: 10}, "READY"},
		{fleet.Provisioned{Allocated: 1, Failure: "FUNCTION_ERROR_INIT_FAILURE"}, "FAILED"},
	} {
		w.capacity.set(config, c.now)
		out := must(lambdaapi.GetProvisionedConcurrencyConfig.Call(t.Context(), w, &lambdaapi.GetProvisionedConcurrencyConfigInput{FunctionName: new("f"), Qualifier: new("live")}))(t)
		if *out.Status != c.status || int(*out.AvailableProvisionedConcurrentExecutions) != c.now.Available || (out.StatusReason != nil) != (c.status == "FAILED") {
			t.Errorf("%+v is %s %d", c.now, *out.Status, *out.AvailableProvisionedConcurrentExecutions)
		}
	}
}
