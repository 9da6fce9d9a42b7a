// Command release makes the image of the operator: an OCI layout, which a
// registry takes as it is. It needs no daemon and no root, and from the same
// program it makes the same bytes.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const usage = "usage: release [--created SECONDS] --version VERSION --out FOLDER --program linux/ARCHITECTURE=FILE..."

// programs are the operator's binaries, one for each platform.
type programs []program

type program struct {
	platform v1.Platform
	file     string
}

func (p *programs) String() string { return "" }

func (p *programs) Set(text string) error {
	platform, file, found := strings.Cut(text, "=")
	parsed, err := v1.ParsePlatform(platform)
	if !found || err != nil || parsed.OS != "linux" {
		return fmt.Errorf("write linux/ARCHITECTURE=FILE, for example linux/amd64=target/release/pilotage")
	}
	*p = append(*p, program{*parsed, file})
	return nil
}

func main() {
	var all programs
	flag.Var(&all, "program", "the operator for one platform, linux/ARCHITECTURE=FILE; may be given several times")
	version := flag.String("version", "", "the version, which is also the tag")
	out := flag.String("out", "", "the folder of the layout; what is in it is replaced")
	created := flag.Int64("created", 0, "when the image says it was made, in seconds since 1970: the time of the commit, so that it is the same for all who build it")
	source := flag.String("source", ".", "the source tree that the programs were built from")
	flag.Parse()
	if *version == "" || *out == "" || len(all) == 0 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := write(all, *version, *out, *source, time.Unix(*created, 0).UTC()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// write makes the layout: an index with an image for each platform, and for
// each a bill of materials that refers to the index.
func write(all programs, version, out, source string, created time.Time) error {
	var images v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var bills []bill
	for _, program := range all {
		contents, err := contentsOf(program, source)
		if err != nil {
			return fmt.Errorf("%s: %w", program.file, err)
		}
		image, err := imageOf(program.platform, contents, version, created)
		if err != nil {
			return err
		}
		images = mutate.AppendManifests(images, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &program.platform}})
		bills = append(bills, bill{program.platform, contents, version, created})
	}
	// A new layout: what an earlier run left would be pushed too.
	partial := filepath.Clean(out) + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	folder, err := layout.Write(partial, empty.Index)
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version})
	if err := folder.AppendIndex(images, named); err != nil {
		return err
	}
	digest, err := images.Digest()
	if err != nil {
		return err
	}
	for _, bill := range bills {
		referrer, err := bill.referrer(images)
		if err != nil {
			return err
		}
		if err := folder.AppendImage(referrer); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.Rename(partial, out); err != nil {
		return err
	}
	fmt.Println(digest)
	return nil
}
