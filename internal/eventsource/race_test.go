//go:build race

package eventsource

// raceEnabled says that everything takes longer.
const raceEnabled = true
