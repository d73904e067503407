package main

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// importModel reads the newest model of a service from a botocore data directory, whose layout is
// <service>/<api version>/service-2.json or the same with .gz.
func importModel(botocore, name string) (*Model, error) {
	files, _ := filepath.Glob(filepath.Join(botocore, name, "*", "service-2.json*"))
	if len(files) == 0 {
		return nil, fmt.Errorf("no model of %s under %s", name, botocore)
	}
	file := slices.Max(files) // API versions are dates
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	// Models that AWS has not touched for long name one protocol.
	var old struct{ Metadata struct{ Protocol string } }
	m := &Model{}
	text, err := io.ReadAll(r)
	if err == nil {
		err = errors.Join(json.Unmarshal(text, m), json.Unmarshal(text, &old))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(m.Metadata.Protocols) == 0 {
		m.Metadata.Protocols = []string{old.Metadata.Protocol}
	}
	return m, nil
}
