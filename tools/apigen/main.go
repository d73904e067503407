// Command apigen keeps the AWS API models in apimodels and the contract packages generated from them.
//
//	apigen gen                 write the contract packages of every service listed in apimodels/services.txt
//	apigen check               fail if gen would change a file
//	apigen import DIR [NAME…]  take the facts of the named services, or of all listed, from a botocore data directory
//
// gen and check need nothing but apimodels. Run it in the root of the project, or name the root with -C.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	root := flag.String("C", ".", "root of the project")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: apigen [-C root] gen | check | import DIR [NAME…]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(*root, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "apigen:", err)
		os.Exit(1)
	}
}

func run(root string, args []string) error {
	services, err := readList(filepath.Join(root, "apimodels", "services.txt"))
	if err != nil {
		return err
	}
	switch {
	case len(args) == 1 && args[0] == "gen":
		return gen(root, services, func(path string, old, text []byte) error {
			if bytes.Equal(old, text) {
				return nil
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			return os.WriteFile(path, text, 0o644)
		})
	case len(args) == 1 && args[0] == "check":
		return gen(root, services, func(path string, old, text []byte) error {
			if !bytes.Equal(old, text) {
				return fmt.Errorf("%s is not what apimodels says: run make gen", path)
			}
			return nil
		})
	case len(args) >= 2 && args[0] == "import":
		for _, s := range services {
			if len(args) > 2 && !slices.Contains(args[2:], s.model) {
				continue
			}
			m, err := importModel(args[1], s.model)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(root, "apimodels", s.model+".json"), m.format(), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	flag.Usage()
	return fmt.Errorf("unknown arguments %q", args)
}

// service is one line of the list.
type service struct {
	model string // file name in apimodels, and the service's name in botocore
	dir   string // directory of the package, from the root
}

// readList reads lines of "model directory". # starts a comment.
func readList(file string) ([]service, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []service
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line, _, _ := strings.Cut(sc.Text(), "#")
		switch f := strings.Fields(line); len(f) {
		case 0:
		case 2:
			list = append(list, service{f[0], f[1]})
		default:
			return nil, fmt.Errorf("%s: want model and directory: %q", file, sc.Text())
		}
	}
	return list, nil
}

// gen hands every generated file to put, with what the file holds now.
func gen(root string, services []service, put func(path string, old, text []byte) error) error {
	for _, s := range services {
		m, err := loadModel(filepath.Join(root, "apimodels"), s.model)
		if err != nil {
			return err
		}
		files, err := generate(s.model, filepath.Base(s.dir), m)
		if err != nil {
			return fmt.Errorf("%s: %w", s.model, err)
		}
		for name, text := range files {
			path := filepath.Join(root, s.dir, name)
			old, _ := os.ReadFile(path) // a missing file is an empty one
			if err := put(path, old, text); err != nil {
				return err
			}
		}
	}
	return nil
}
