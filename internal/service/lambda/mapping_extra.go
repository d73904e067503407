package lambda

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/eventsource"
)

// extraPrefix begins the tags that switch on what AWS does not have.
const extraPrefix = "mayfly:"

// The tags that switch on what AWS does not have. Values are those of the parameters of the same names.
const (
	tagBisect    = extraPrefix + "BisectBatchOnFunctionError" // queues
	tagRetries   = extraPrefix + "MaximumRetryAttempts"       // queues
	tagRecordAge = extraPrefix + "MaximumRecordAgeInSeconds"  // queues
	tagOnFailure = extraPrefix + "OnFailureDestination"       // queues: the ARN of a queue, topic or bucket
	tagSlide     = extraPrefix + "SlideInSeconds"             // streams: windows of TumblingWindowInSeconds begin this often
	tagSession   = extraPrefix + "SessionGapInSeconds"        // streams: windows end when nothing has arrived for so long
)

// extras are what a mapping has beyond AWS.
type extras struct {
	bisect         bool
	retries, age   int32 // -1: unlimited
	onFailure      string
	slide, session int32 // seconds; 0: not so
}

// extras reads the tags of a mapping.
func (m *mapping) extras() (extras, error) {
	x := extras{retries: -1, age: -1}
	stream := m.kind().stream
	for _, name := range slices.Sorted(maps.Keys(m.Tags)) {
		if !strings.HasPrefix(name, extraPrefix) {
			continue
		}
		value := m.Tags[name]
		number := func(to *int32, least, most int64) error {
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || (n < least || n > most) && !(n == -1 && *to == -1) {
				return errMapping("The tag %s must be a number from %d to %d, not %q.", name, least, most, value)
			}
			*to = int32(n)
			return nil
		}
		of := func(streams bool) error {
			if stream != streams {
				return errMapping("The tag %s is not for event source mappings of %s.", name, m.kind().name)
			}
			return nil
		}
		var err error
		switch name {
		case tagBisect:
			if x.bisect, err = strconv.ParseBool(value); err != nil {
				err = errMapping("The tag %s must be true or false, not %q.", name, value)
			} else {
				err = of(false)
			}
		case tagRetries:
			if err = of(false); err == nil {
				err = number(&x.retries, 0, 10_000)
			}
		case tagRecordAge:
			if err = of(false); err == nil {
				err = number(&x.age, minRecordAge, 604_800)
			}
		case tagOnFailure:
			x.onFailure, err = value, of(false)
		case tagSlide:
			if err = of(true); err == nil {
				err = number(&x.slide, 1, 900)
			}
			if err == nil && (m.TumblingWindow == 0 || m.TumblingWindow%x.slide != 0) {
				err = errMapping("The tag %s must divide TumblingWindowInSeconds.", name)
			}
		case tagSession:
			if err = of(true); err == nil {
				err = number(&x.session, 1, 900)
			}
			if err == nil && (m.TumblingWindow > 0 || m.ParallelizationFactor > 1) {
				err = errMapping("The tag %s goes with neither TumblingWindowInSeconds nor a ParallelizationFactor above 1.", name)
			}
		default:
			err = errMapping("There is no tag %s: tags that begin with %s switch on what Mayfly adds to AWS.", name, extraPrefix)
		}
		if err != nil {
			return x, err
		}
	}
	return x, nil
}

// apply gives a mapping of the engine what is beyond AWS.
func (x *extras) apply(e *eventsource.Mapping) {
	if x.bisect {
		e.Bisect = true
	}
	if x.retries >= 0 {
		e.MaxRetries = int(x.retries)
	}
	if x.age > 0 {
		e.MaxAge = seconds(x.age)
	}
	if x.onFailure != "" {
		e.OnFailure = x.onFailure
	}
	switch {
	case x.slide > 0:
		e.Aggregate.Slide = seconds(x.slide)
	case x.session > 0:
		e.Aggregate = eventsource.Aggregate{Size: seconds(x.session), Session: true}
	}
}

// destination is where what is given up goes; "" if it goes nowhere.
func (m *mapping) destination() string {
	if x, err := m.extras(); err == nil && x.onFailure != "" {
		return x.onFailure
	}
	return m.OnFailure
}
