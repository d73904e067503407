//go:build race

package authorize

// raceEnabled says that pools forget at random.
const raceEnabled = true
