package main

import (
	"archive/zip"
	"debug/elf"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// contents are what an image holds. The base changes seldom, and so it is a
// layer of its own.
type contents struct {
	base, own []file
	crates    []crate
	packages  []debian
}

// file is one file of an image. Links are not needed.
type file struct {
	path string
	mode int64
	data []byte
}

// libraries are where Debian and its like keep those of each architecture.
var libraries = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

func contentsOf(program program, source string) (*contents, error) {
	var all contents
	binary, err := os.ReadFile(program.file)
	if err != nil {
		return nil, err
	}
	all.own = append(all.own, file{"usr/bin/pilotage", 0o755, binary})
	if all.crates, err = cratesOf(source, program.platform.Architecture); err != nil {
		return nil, err
	}
	for _, crate := range all.crates {
		licences, err := crate.licences()
		if err != nil {
			return nil, err
		}
		all.own = append(all.own, licences...)
	}
	needed, err := sharedLibraries(program)
	if err != nil {
		return nil, err
	}
	for _, library := range needed {
		data, err := os.ReadFile(library.host)
		if err != nil {
			return nil, err
		}
		all.base = append(all.base, file{strings.TrimPrefix(library.image, "/"), 0o755, data})
		if err := all.credit(library.host); err != nil {
			return nil, err
		}
	}
	// The user of the Deployment, for programs that look names up.
	all.base = append(all.base,
		file{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/nonexistent\nnonroot:x:65532:65532:nonroot:/:/nonexistent\n")},
		file{"etc/group", 0o644, []byte("root:x:0:\nnonroot:x:65532:\n")},
		file{"etc/nsswitch.conf", 0o644, []byte("hosts: files dns\n")},
		file{"etc/ssl/certs/ca-certificates.crt", 0o644, authorities()})
	zones, err := timeZones()
	if err != nil {
		return nil, err
	}
	all.base = append(all.base, zones...)
	return &all, nil
}

// authorities are those that Mozilla trusts, as of the version in go.mod. Those
// of this machine may have others among them, that are nobody else's.
func authorities() []byte {
	var text []byte
	for root := range bundle.Roots() {
		// Some are trusted only for old certificates, which a file can't say.
		if root.Constraint == nil {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
		}
	}
	return text
}

// timeZones are those that Go brings. Windows of stages and schedules name them.
func timeZones() ([]file, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib/time/zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	var zones []file
	for _, entry := range archive.File {
		if strings.HasSuffix(entry.Name, "/") {
			continue
		}
		reader, err := entry.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		zones = append(zones, file{path.Join("usr/share/zoneinfo", entry.Name), 0o644, data})
	}
	return zones, nil
}

// library is a file of this machine, and where the loader looks for it.
type library struct{ image, host string }

// sharedLibraries are those that the program is linked with, the loader among
// them. A static program has none.
func sharedLibraries(program program) ([]library, error) {
	folder, known := libraries[program.platform.Architecture]
	if !known {
		return nil, fmt.Errorf("where libraries of %s are is not known", program.platform.Architecture)
	}
	var found []library
	seen := map[string]bool{}
	waiting := []string{program.file}
	for len(waiting) > 0 {
		name := waiting[0]
		waiting = waiting[1:]
		binary, err := elf.Open(name)
		if err != nil {
			return nil, err
		}
		defer binary.Close()
		needed, err := binary.ImportedLibraries()
		if err != nil {
			return nil, err
		}
		for _, segment := range binary.Progs {
			if segment.Type == elf.PT_INTERP {
				loader, err := io.ReadAll(segment.Open())
				if err != nil {
					return nil, err
				}
				image := strings.TrimRight(string(loader), "\x00")
				// It is needed under this path. Libraries name it too.
				if name := path.Base(image); !seen[name] {
					seen[name] = true
					found = append(found, library{image, image})
				}
			}
		}
		for _, soname := range needed {
			if seen[soname] {
				continue
			}
			seen[soname] = true
			host := filepath.Join("/usr/lib", folder, soname)
			found = append(found, library{filepath.Join("/usr/lib", folder, soname), host})
			waiting = append(waiting, host)
		}
	}
	return found, nil
}

// debian is a package that a library comes from.
type debian struct{ name, version string }

// credit adds the licence of a library, and its package to the bill of
// materials. A library of which nobody knows the licence is not handed on.
func (c *contents) credit(host string) error {
	real, err := filepath.EvalSymlinks(host)
	if err != nil {
		return err
	}
	owner, err := exec.Command("dpkg-query", "--search", real).Output()
	if err != nil {
		// The packages know files by the path before /usr was merged.
		owner, err = exec.Command("dpkg-query", "--search", strings.TrimPrefix(real, "/usr")).Output()
	}
	if err != nil {
		return fmt.Errorf("whose %s is, and under which licence: build on Debian, or link the program statically: %w", real, err)
	}
	name, _, _ := strings.Cut(string(owner), ":")
	for _, known := range c.packages {
		if known.name == name {
			return nil
		}
	}
	version, err := exec.Command("dpkg-query", "--show", "--showformat", "${Version}\n", name).Output()
	if err != nil {
		return fmt.Errorf("the version of %s: %w", name, err)
	}
	first, _, _ := strings.Cut(string(version), "\n")
	text, err := os.ReadFile(filepath.Join("/usr/share/doc", name, "copyright"))
	if err != nil {
		return err
	}
	c.packages = append(c.packages, debian{name, first})
	c.base = append(c.base, file{path.Join("usr/share/doc", name, "copyright"), 0o644, text})
	return nil
}
