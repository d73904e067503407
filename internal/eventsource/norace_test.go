//go:build !race

package eventsource

const raceEnabled = false
