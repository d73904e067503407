//go:build unix && !linux

package main

func probe(what string, _ []string) { fatal("unknown probe %q", what) }
