package smithy

import "iter"

// Stream is the event stream member of an output or input. E is the union of its events, a struct with one field set. Iteration
// ends after the first error, which for a modelled exception of the stream is an *apierr.Error. A stream is
// ranged over once. A handler assigns a plain function:
//
//	out.EventStream = func(yield func(*lambdaapi.InvokeWithResponseStreamResponseEvent, error) bool) { ... }
type Stream[E any] iter.Seq2[*E, error]

// AnyStream is how codecs see a Stream whose event type they do not know.
type AnyStream interface {
	// Events iterates over pointers to the union.
	Events() iter.Seq2[any, error]
	// IsNil reports whether there is no stream.
	IsNil() bool
}

// StreamSetter is implemented by pointers to Streams, for codecs that decode them.
type StreamSetter interface{ SetEvents(iter.Seq2[any, error]) }

// Events implements AnyStream.
func (s Stream[E]) Events() iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		if s == nil {
			return
		}
		for e, err := range s {
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// IsNil implements AnyStream.
func (s Stream[E]) IsNil() bool { return s == nil }

// SetEvents implements StreamSetter. The events must be of type *E.
func (s *Stream[E]) SetEvents(events iter.Seq2[any, error]) {
	*s = func(yield func(*E, error) bool) {
		for e, err := range events {
			p, _ := e.(*E)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}
