package server

import "runtime/debug"

// release is set by the linker in released binaries.
var release string

// Version is the release, or what is known of the commit that was built.
func Version() string {
	if release != "" {
		return release
	}
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				version += "-" + s.Value[:12]
			}
		}
	}
	return version
}
