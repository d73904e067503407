package sigv4

// Remembered returns how many signing keys v keeps.
func (v *Verifier) Remembered() int { return len(v.keys.young) + len(v.keys.old) }
