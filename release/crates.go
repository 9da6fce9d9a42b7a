package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// triples are what cargo calls the platforms.
var triples = map[string]string{"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}

// crate is one that the program is made of.
type crate struct {
	described
	// needs are the crates that it is built with, by their index.
	needs []int
}

// described is a crate as `cargo metadata` prints it.
type described struct {
	ID, Name, Version, License string
	ManifestPath               string `json:"manifest_path"`
}

// metadata is what is read of `cargo metadata`.
type metadata struct {
	Packages []described
	Resolve  struct {
		Root  string
		Nodes []struct {
			ID   string
			Deps []struct {
				Pkg      string
				DepKinds []struct{ Kind *string } `json:"dep_kinds"`
			}
		}
	}
}

// cratesOf are the program's own crate, which is the first, and all that are
// linked into it: not what only builds or tests it.
func cratesOf(source, architecture string) ([]crate, error) {
	triple, known := triples[architecture]
	if !known {
		return nil, fmt.Errorf("what cargo calls %s is not known", architecture)
	}
	command := exec.Command("cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", triple)
	command.Dir, command.Stderr = source, os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("cargo metadata: %w", err)
	}
	var read metadata
	if err := json.Unmarshal(output, &read); err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	for _, node := range read.Resolve.Nodes {
		for _, dependency := range node.Deps {
			for _, kind := range dependency.DepKinds {
				if kind.Kind == nil {
					needs[node.ID] = append(needs[node.ID], dependency.Pkg)
				}
			}
		}
	}
	order := []string{read.Resolve.Root}
	for at := 0; at < len(order); at++ {
		for _, id := range needs[order[at]] {
			if !slices.Contains(order, id) {
				order = append(order, id)
			}
		}
	}
	var crates []crate
	for _, id := range order {
		at := slices.IndexFunc(read.Packages, func(p described) bool { return p.ID == id })
		if at < 0 {
			return nil, fmt.Errorf("cargo metadata has no package %s", id)
		}
		one := crate{described: read.Packages[at]}
		for _, need := range needs[id] {
			if at := slices.Index(order, need); !slices.Contains(one.needs, at) {
				one.needs = append(one.needs, at)
			}
		}
		crates = append(crates, one)
	}
	return crates, nil
}

// texts are how the names of files with a licence begin.
var texts = []string{"LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"}

// licences are the texts that the crate brings, and its licence's SPDX
// expression, for those that bring none.
func (c crate) licences() ([]file, error) {
	folder := path.Join("usr/share/doc/pilotage/licences", c.Name+"-"+c.Version)
	if c.License == "" {
		return nil, fmt.Errorf("crate %s has no licence", c.Name)
	}
	files := []file{{path.Join(folder, "SPDX"), 0o644, []byte(c.License + "\n")}}
	home := filepath.Dir(c.ManifestPath)
	entries, err := os.ReadDir(home)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name := strings.ToUpper(entry.Name())
		if entry.IsDir() || !slices.ContainsFunc(texts, func(start string) bool { return strings.HasPrefix(name, start) }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(home, entry.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{path.Join(folder, entry.Name()), 0o644, text})
	}
	return files, nil
}
