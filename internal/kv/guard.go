package kv

// A Guard stands for the set of keys in a range, so that a transaction can depend
// on which of them exist. See [GuardFor].
type Guard []byte

// guardTag opens the keys of guards. It is above every tag of Key, so guards lie
// in no range that [Prefix] or [BeginsWith] returns.
const guardTag = 0xFE

// GuardFor returns the guard of the range that the parts name, usually the same
// parts that are given to [Prefix]:
//
//	g := kv.GuardFor("function", account, region)
//
// A transaction that decides by which keys exist in the range calls Depend; one
// that adds a key to it calls Change; one that does both calls both. Deleting a
// key needs Change only if a transaction may depend on its absence without having
// read it, as one does that counts.
//
// Transactions that only Change a guard do not conflict with each other.
func GuardFor(parts ...any) Guard {
	return append(Guard{guardTag}, Key(parts...)...)
}

// Depend makes the transaction run again if another one has called Change since
// its snapshot.
func (g Guard) Depend(tx Tx) error {
	_, _, err := tx.Get(g)
	return err
}

// Change makes those transactions run again that called Depend and commit after
// this one.
func (g Guard) Change(tx Tx) { tx.Set(g, nil) }
