package main

import (
	"bytes"
	"fmt"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// billType is the media type of a CycloneDX bill of materials.
const billType = "application/vnd.cyclonedx+json"

// bill is the bill of materials of the image for one platform.
type bill struct {
	platform v1.Platform
	contents *contents
	version  string
	created  time.Time
}

// document lists the crates with what each needs, and the packages that the
// shared libraries come from.
func (b bill) document() ([]byte, error) {
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: b.created.Format(time.RFC3339)}
	reference := func(c crate) string { return "pkg:cargo/" + c.Name + "@" + c.Version }
	var components []cyclonedx.Component
	var dependencies []cyclonedx.Dependency
	for at, crate := range b.contents.crates {
		licence := cyclonedx.Licenses{{Expression: crate.License}}
		component := cyclonedx.Component{
			BOMRef: reference(crate), Type: cyclonedx.ComponentTypeLibrary, Name: crate.Name, Version: crate.Version,
			PackageURL: reference(crate), Licenses: &licence,
		}
		needs := []string{}
		for _, need := range crate.needs {
			needs = append(needs, reference(b.contents.crates[need]))
		}
		if at == 0 {
			component.Type, component.PackageURL = cyclonedx.ComponentTypeApplication, ""
			for _, debian := range b.contents.packages {
				needs = append(needs, debian.reference())
			}
			bom.Metadata.Component = &component
		} else {
			components = append(components, component)
		}
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: component.BOMRef, Dependencies: &needs})
	}
	for _, debian := range b.contents.packages {
		components = append(components, cyclonedx.Component{
			BOMRef: debian.reference(), Type: cyclonedx.ComponentTypeLibrary, Name: debian.name, Version: debian.version,
			PackageURL: debian.reference(),
		})
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	var text bytes.Buffer
	encoder := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	if err := encoder.Encode(bom); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

func (d debian) reference() string { return "pkg:deb/debian/" + d.name + "@" + d.version }

// referrer is the manifest by which a registry finds the document at the image.
func (b bill) referrer(subject partial.Describable) (v1.Image, error) {
	document, err := b.document()
	if err != nil {
		return nil, err
	}
	described, err := partial.Descriptor(subject)
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, billType)
	image, err = mutate.Append(image, mutate.Addendum{
		Layer: static.NewLayer(document, billType), MediaType: billType,
		// The file's name, where somebody pulls it.
		Annotations: map[string]string{
			"org.opencontainers.image.title": fmt.Sprintf("sbom-%s-%s.cdx.json", b.platform.OS, b.platform.Architecture),
		},
	})
	if err != nil {
		return nil, err
	}
	image, _ = mutate.Annotations(image, map[string]string{"org.opencontainers.image.created": b.created.Format(time.RFC3339)}).(v1.Image)
	image, _ = mutate.Subject(image, *described).(v1.Image)
	return image, nil
}
