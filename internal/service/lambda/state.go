package lambda

import (
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/call"
)

// creating is the reason of State while a function is created, and as recorded from AWS of LastUpdateStatus
// while it is updated.
var creating = status{Reason: "The function is being created.", Code: "Creating"}

// The states of a version and what moves it:
//
//	State    Update      deploy                 succeed              fail
//	(new)                Pending                -                    -
//	Pending              409                    Active, Successful   Failed
//	Failed               Pending                -                    -
//	Active   Successful  Active, InProgress     -                    -
//	Active   InProgress  409                    Active, Successful   Active, Failed
//	Active   Failed      Active, InProgress     -                    -
//
// Every move gives a new RevisionId.

// newVersion returns $LATEST of a new function, Pending.
func newVersion(name string, d deployment, now time.Time) *version {
	v := &version{Function: name, Deployment: d}
	v.State = creating
	v.State.Value = lambdaapi.StatePending
	v.touch(now)
	return v
}

// deploy replaces the version's deployment. What served before serves until the new one is ready. The caller
// has checked that the version may be changed.
func (v *version) deploy(d deployment, now time.Time) {
	if v.State.Value == lambdaapi.StateActive {
		if v.Update.Value == lambdaapi.LastUpdateStatusSuccessful {
			v.Serving = new(v.Deployment)
		}
		v.Update = creating
		v.Update.Value = lambdaapi.LastUpdateStatusInProgress
	} else {
		v.State = creating
		v.State.Value = lambdaapi.StatePending
	}
	v.Deployment = d
	v.touch(now)
}

// touch marks the version as modified by a caller.
func (v *version) touch(now time.Time) {
	v.LastModified = now
	v.RevisionID = call.NewRequestID()
}

// settle ends a transition. A zero problem is success.
func (v *version) settle(problem status, runtimeID string) {
	v.RevisionID = call.NewRequestID()
	updating := v.State.Value == lambdaapi.StateActive
	switch {
	case problem.Code == "":
		v.State = status{Value: lambdaapi.StateActive}
		v.Update = status{Value: lambdaapi.LastUpdateStatusSuccessful}
		v.Serving = nil
		v.RuntimeID = runtimeID
	case updating:
		problem.Value = lambdaapi.LastUpdateStatusFailed
		v.Update = problem
	default:
		problem.Value = lambdaapi.StateFailed
		v.State = problem
	}
}

func (v *version) inTransition() bool {
	return v.State.Value == lambdaapi.StatePending || v.Update.Value == lambdaapi.LastUpdateStatusInProgress
}

// mayChange returns AWS's error for a change of a version in transition.
func (v *version) mayChange(arn string) error {
	switch {
	case v.State.Value == lambdaapi.StatePending:
		return errState(v.State.Value)
	case v.Update.Value == lambdaapi.LastUpdateStatusInProgress:
		return lambdaapi.ErrResourceConflictException("The operation cannot be performed at this time. An update is in progress for resource: %s", arn)
	}
	return nil
}

// mayInvoke returns AWS's error for the invocation of a version that is not Active.
func (v *version) mayInvoke() error {
	if v.State.Value != lambdaapi.StateActive {
		return errState(v.State.Value)
	}
	return nil
}

func errState(state string) error {
	return lambdaapi.ErrResourceConflictException("The operation cannot be performed at this time. The function is currently in the following state: %s", state)
}

// serves is the deployment that invocations run.
func (v *version) serves() *deployment {
	if v.Serving != nil {
		return v.Serving
	}
	return &v.Deployment
}

// publish makes a published version of $LATEST. It is ready if $LATEST is, and has a transition of its own
// if not.
func (v *version) publish(number int64, description *string, now time.Time) *version {
	p := *v
	p.Number = number
	p.PublishedFrom = v.Deployment.content()
	if description != nil {
		p.Deployment.Description = *description
	}
	p.Serving = nil
	if v.State.Value == lambdaapi.StateActive && v.Update.Value != lambdaapi.LastUpdateStatusSuccessful {
		p.State = creating
		p.State.Value = lambdaapi.StatePending
		p.Update = status{}
	}
	p.RevisionID = call.NewRequestID()
	p.LastModified = now
	return &p
}
