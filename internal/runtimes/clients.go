package runtimes

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed client
var clients embed.FS

// clientFiles are the files of a family's client: its own, and the script that stands before it when the function has a
// wrapper.
func clientFiles(f Family) (map[string][]byte, error) {
	files := map[string][]byte{}
	root := "client/" + string(f)
	err := fs.WalkDir(clients, root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[strings.TrimPrefix(name, root+"/")], err = clients.ReadFile(name)
		}
		return err
	})
	if err == nil {
		files[wrapperScript], err = clients.ReadFile("client/" + wrapperScript)
	}
	return files, err
}

const wrapperScript = "exec-wrapper"

// clientDir returns the directory that holds the client of a family, and writes it if it is not there. Python's is
// compiled ahead by the interpreter that will run it, since /var/runtime is read-only: variant, the interpreter's cache
// tag, then is part of the name.
//
// The directory appears whole or not at all, so that several processes may share the cache, and is read-only.
func (f *Finder) clientDir(ctx context.Context, family Family, variant string, prepare func(ctx context.Context, dir string) error) (string, error) {
	files, err := clientFiles(family)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(hash, "%s %d\n%s", name, len(files[name]), files[name])
	}
	fmt.Fprintln(hash, standIn)
	name := string(family) + "-" + hex.EncodeToString(hash.Sum(nil))[:16]
	if variant != "" {
		name += "-" + variant
	}
	dir := filepath.Join(f.dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return "", fmt.Errorf("write the runtime interface client: %w", err)
	}
	part, err := os.MkdirTemp(f.dir, "."+name+"-")
	if err != nil {
		return "", fmt.Errorf("write the runtime interface client: %w", err)
	}
	defer removeAll(part)
	for name, data := range files {
		name = filepath.Join(part, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return "", fmt.Errorf("write the runtime interface client: %w", err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return "", fmt.Errorf("write the runtime interface client: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(part, standIn, "lib"), 0o755); err != nil {
		return "", fmt.Errorf("write the runtime interface client: %w", err)
	}
	if prepare != nil {
		if err := prepare(ctx, part); err != nil {
			return "", fmt.Errorf("prepare the runtime interface client: %w", err)
		}
	}
	if err := seal(part); err != nil {
		return "", fmt.Errorf("write the runtime interface client: %w", err)
	}
	if err := os.Rename(part, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, there := os.Stat(dir); there != nil { // not written by another process meanwhile either
			return "", fmt.Errorf("write the runtime interface client: %w", err)
		}
	}
	return dir, nil
}

// seal makes a tree read-only for everybody and gives its files one time, so that equal content is equal on disk.
func seal(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, name)
			return nil
		}
		if err := os.Chtimes(name, time.Time{}, time.Unix(0, 0)); err != nil {
			return err
		}
		return os.Chmod(name, 0o444)
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = os.Chmod(dirs[i], 0o555)
	}
	return err
}

// removeAll removes a tree whose directories may be read-only.
func removeAll(root string) {
	_ = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(name, 0o755)
		}
		return nil
	})
	_ = os.RemoveAll(root)
}
