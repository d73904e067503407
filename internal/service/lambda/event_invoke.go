package lambda

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/kv"
	deliver "github.com/mayflyhq/mayfly/internal/target"
)

// eventInvoke is what hangs on a version, $LATEST or an alias whose asynchronous invocations are configured.
type eventInvoke struct {
	Qualifier    string    `json:"qualifier"`
	LastModified time.Time `json:"lastModified"`
	Retries      *int32    `json:"retries,omitempty"`
	Age          *int32    `json:"age,omitempty"` // seconds
	OnSuccess    string    `json:"onSuccess,omitempty"`
	OnFailure    string    `json:"onFailure,omitempty"`
}

const eventInvokeKind = "event-invoke"

// AWS's defaults and bounds.
const (
	defaultRetries = 2
	defaultAge     = 6 * time.Hour
)

func (e *eventInvoke) retries() int {
	if e == nil || e.Retries == nil {
		return defaultRetries
	}
	return int(*e.Retries)
}

// expired reports whether an event will be over its maximum age after a wait.
func (e *eventInvoke) expired(w *durable.Work, wait time.Duration, now time.Time) bool {
	age := defaultAge
	if e != nil && e.Age != nil {
		age = time.Duration(*e.Age) * time.Second
	}
	return now.Add(wait).Sub(w.First) > age
}

// eventInvokeConfig reads the configuration of a qualifier, nil if there is none.
func (s *Service) eventInvokeConfig(ctx context.Context, c scope, name, qualifier string) (e *eventInvoke, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		e, err = get[eventInvoke](r, c.hangingKey(name, qualifier, eventInvokeKind))
		return err
	})
	return e, err
}

func (c scope) describeEventInvoke(name string, e *eventInvoke) *lambdaapi.FunctionEventInvokeConfig {
	out := &lambdaapi.FunctionEventInvokeConfig{
		LastModified: &e.LastModified, FunctionArn: new(c.qualifiedARN(name, e.Qualifier)),
		MaximumRetryAttempts: e.Retries, MaximumEventAgeInSeconds: e.Age,
		DestinationConfig: &lambdaapi.DestinationConfig{OnSuccess: &lambdaapi.OnSuccess{}, OnFailure: &lambdaapi.OnFailure{}},
	}
	if e.OnSuccess != "" {
		out.DestinationConfig.OnSuccess.Destination = &e.OnSuccess
	}
	if e.OnFailure != "" {
		out.DestinationConfig.OnFailure.Destination = &e.OnFailure
	}
	return out
}

// locateEventInvoke reads the function and the qualifier of a configuration.
func locateEventInvoke(ctx context.Context, operation string, name, qualifier *string) (scope, reference, error) {
	c, ref, err := locate(ctx, operation, name, qualifier)
	if ref.qualifier == "" {
		ref.qualifier = latest
	}
	return c, ref, err
}

func (s *Service) putFunctionEventInvokeConfig(ctx context.Context, in *lambdaapi.PutFunctionEventInvokeConfigInput) (*lambdaapi.FunctionEventInvokeConfig, error) {
	c, ref, err := locateEventInvoke(ctx, "PutFunctionEventInvokeConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return s.configureEvents(ctx, c, ref, in, func(*eventInvoke) (*eventInvoke, error) { return &eventInvoke{}, nil })
}

func (s *Service) updateFunctionEventInvokeConfig(ctx context.Context, in *lambdaapi.UpdateFunctionEventInvokeConfigInput) (*lambdaapi.FunctionEventInvokeConfig, error) {
	c, ref, err := locateEventInvoke(ctx, "UpdateFunctionEventInvokeConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	put := lambdaapi.PutFunctionEventInvokeConfigInput(*in)
	return s.configureEvents(ctx, c, ref, &put, func(e *eventInvoke) (*eventInvoke, error) {
		if e == nil {
			return nil, errNoEventInvoke(c, ref)
		}
		return e, nil
	})
}

func errNoEventInvoke(c scope, ref reference) error {
	return lambdaapi.ErrResourceNotFoundException("The function %s doesn't have an EventInvokeConfig", c.qualifiedARN(ref.name, ref.qualifier))
}

// configureEvents changes what base makes of the configuration that is there.
func (s *Service) configureEvents(ctx context.Context, c scope, ref reference, in *lambdaapi.PutFunctionEventInvokeConfigInput,
	base func(*eventInvoke) (*eventInvoke, error)) (*lambdaapi.FunctionEventInvokeConfig, error) {
	if in.MaximumEventAgeInSeconds == nil && in.MaximumRetryAttempts == nil && in.DestinationConfig == nil {
		return nil, lambdaapi.ErrInvalidParameterValueException("You must specify at least one of error handling or destination setting.")
	}
	var e *eventInvoke
	err := s.db.Update(ctx, func(tx kv.Tx) (err error) {
		if _, err := c.find(tx, ref.name, ref.qualifier); err != nil {
			return lambdaapi.ErrResourceNotFoundException("The function doesn't exist.")
		}
		if e, err = get[eventInvoke](tx, c.hangingKey(ref.name, ref.qualifier, eventInvokeKind)); err != nil {
			return err
		}
		if e, err = base(e); err != nil {
			return err
		}
		if in.MaximumRetryAttempts != nil {
			e.Retries = in.MaximumRetryAttempts
		}
		if in.MaximumEventAgeInSeconds != nil {
			e.Age = in.MaximumEventAgeInSeconds
		}
		if err := s.setDestinations(ctx, tx, c, ref, e, in.DestinationConfig); err != nil {
			return err
		}
		e.Qualifier, e.LastModified = ref.qualifier, s.now()
		return c.hang(tx, ref.name, ref.qualifier, eventInvokeKind, e)
	})
	if err != nil {
		return nil, err
	}
	return c.describeEventInvoke(ref.name, e), nil
}

// setDestinations checks destinations and sets those that are given. One given without an ARN is removed.
func (s *Service) setDestinations(ctx context.Context, r kv.Reader, c scope, ref reference, e *eventInvoke, in *lambdaapi.DestinationConfig) error {
	if in == nil {
		return nil
	}
	if in.OnSuccess != nil {
		e.OnSuccess = deref(in.OnSuccess.Destination)
	}
	if in.OnFailure != nil {
		e.OnFailure = deref(in.OnFailure.Destination)
	}
	for _, d := range []struct {
		target  string
		failure bool
	}{{e.OnSuccess, false}, {e.OnFailure, true}} {
		if d.target == "" {
			continue
		}
		kind, err := deliver.KindOf(d.target)
		if err != nil || kind == deliver.S3 && !d.failure || isFIFO(kind, d.target) {
			return lambdaapi.ErrInvalidParameterValueException("The provided destination config DestinationConfig(onSuccess=%s, onFailure=%s) is invalid.",
				javaDestination("OnSuccess", e.OnSuccess), javaDestination("OnFailure", e.OnFailure))
		}
		if to, ok := parseReference(d.target); ok && kind == deliver.Lambda && to.name == ref.name && to.account == c.account && to.region == c.region {
			return lambdaapi.ErrInvalidParameterValueException("You can't specify the function as a destination for itself.")
		}
		if err := s.checkTarget(ctx, r, c, d.target); err != nil {
			return invalidTarget(err, lambdaapi.ErrInvalidParameterValueException("The destination ARN %s is invalid.", d.target), d.target)
		}
	}
	return nil
}

// javaDestination prints a destination as AWS's message does.
func javaDestination(kind, target string) string {
	if target == "" {
		return "null"
	}
	return fmt.Sprintf("%s(destination=%s)", kind, target)
}

func isFIFO(k deliver.Kind, target string) bool {
	const suffix = ".fifo"
	return (k == deliver.SQS || k == deliver.SNS) && len(target) > len(suffix) && target[len(target)-len(suffix):] == suffix
}

func (s *Service) getFunctionEventInvokeConfig(ctx context.Context, in *lambdaapi.GetFunctionEventInvokeConfigInput) (*lambdaapi.FunctionEventInvokeConfig, error) {
	c, ref, err := locateEventInvoke(ctx, "GetFunctionEventInvokeConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	e, err := s.eventInvokeConfig(ctx, c, ref.name, ref.qualifier)
	if err == nil && e == nil {
		err = errNoEventInvoke(c, ref)
	}
	if err != nil {
		return nil, err
	}
	return c.describeEventInvoke(ref.name, e), nil
}

func (s *Service) deleteFunctionEventInvokeConfig(ctx context.Context, in *lambdaapi.DeleteFunctionEventInvokeConfigInput) (*lambdaapi.DeleteFunctionEventInvokeConfigOutput, error) {
	c, ref, err := locateEventInvoke(ctx, "DeleteFunctionEventInvokeConfig", in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return nil, s.db.Update(ctx, func(tx kv.Tx) error {
		key := c.hangingKey(ref.name, ref.qualifier, eventInvokeKind)
		_, there, err := tx.Get(key)
		if err != nil {
			return err
		}
		if !there {
			return errNoEventInvoke(c, ref)
		}
		tx.Delete(key)
		return nil
	})
}

func (s *Service) listFunctionEventInvokeConfigs(ctx context.Context, in *lambdaapi.ListFunctionEventInvokeConfigsInput) (*lambdaapi.ListFunctionEventInvokeConfigsOutput, error) {
	c, ref, err := locateUnqualified(ctx, "ListFunctionEventInvokeConfigs", in.FunctionName)
	if err != nil {
		return nil, err
	}
	limit := 50
	if in.MaxItems != nil {
		limit = int(*in.MaxItems)
	}
	out := &lambdaapi.ListFunctionEventInvokeConfigsOutput{FunctionEventInvokeConfigs: []lambdaapi.FunctionEventInvokeConfig{}}
	err = s.db.View(ctx, func(r kv.Reader) error {
		if _, err := c.find(r, ref.name, ""); err != nil {
			return lambdaapi.ErrResourceNotFoundException("The function doesn't exist.")
		}
		all := c.hanging(ref.name)
		rest, err := all.Resume(deref(in.Marker))
		if err != nil {
			return lambdaapi.ErrInvalidParameterValueException("Invalid Marker.")
		}
		var last []byte
		for entry, err := range r.Scan(rest) {
			if err != nil {
				return err
			}
			var kind string
			if err := kv.Decode(entry.Key, nil, nil, nil, nil, nil, nil, &kind); err != nil {
				return err
			}
			if kind != eventInvokeKind {
				continue
			}
			if len(out.FunctionEventInvokeConfigs) == limit {
				out.NextMarker = new(all.Marker(last))
				return nil
			}
			e, err := get[eventInvoke](r, entry.Key)
			if err != nil {
				return err
			}
			last = entry.Key
			out.FunctionEventInvokeConfigs = append(out.FunctionEventInvokeConfigs, *c.describeEventInvoke(ref.name, e))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// invalidTarget words why a target may not be configured: unknown or gone is AWS's error, what is not served is named.
func invalidTarget(err error, invalid *apierr.Error, target string) error {
	e, coded := errors.AsType[*apierr.Error](err)
	switch {
	case errors.Is(err, deliver.ErrUnknown), coded && e.Code == "ResourceNotFoundException":
		return invalid
	case coded && e.Code == "NotImplemented":
		return lambdaapi.ErrInvalidParameterValueException("The destination ARN %s cannot be used: %s", target, e.Message)
	}
	return err
}
