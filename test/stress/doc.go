// Package stress drives a whole server, real sandboxes and all, with more than it likes: functions that fail in every way
// under load, servers that are killed, functions that print without end. What was answered has to be right, and nothing may
// be left behind.
package stress
