// Command registry is the registry that the tests keep artifacts in, and two
// programs that use it as people and pipelines do: oras, and what `flux push
// artifact` and `flux pull artifact` are made of.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/fluxcd/pkg/oci"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"golang.org/x/crypto/bcrypt"
	"oras.land/oras/cmd/oras/root"
)

const usage = "usage: registry serve CONFIG | htpasswd USER PASSWORD | oras ARGUMENT... | flux push|pull [FLAG...] REFERENCE FOLDER"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	program := os.Args[1]
	os.Args = append([]string{program}, os.Args[2:]...)
	if err := run(program); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(program string) error {
	switch program {
	case "serve":
		os.Args = append([]string{"registry", "serve"}, os.Args[1:]...)
		return registry.RootCmd.Execute()
	case "htpasswd":
		return htpasswd(os.Args[1:])
	case "oras":
		return root.New().Execute()
	case "flux":
		return flux(os.Args[1:])
	default:
		return fmt.Errorf("there is no program %q\n%s", program, usage)
	}
}

// htpasswd prints a line of the file that the registry knows its users by.
func htpasswd(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s", usage)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(args[1]), bcrypt.MinCost)
	if err != nil {
		return err
	}
	fmt.Printf("%s:%s\n", args[0], hash)
	return nil
}

// flux does what `flux push artifact` and `flux pull artifact` do, with the
// library that they are made of. A push prints the digest.
func flux(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	flags := flag.NewFlagSet("flux "+args[0], flag.ContinueOnError)
	plain := flags.Bool("plain-http", false, "speak http")
	ca := flags.String("ca-file", "", "trust this authority")
	username := flags.String("username", "", "who asks")
	password := flags.String("password", "", "its password")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("%s", usage)
	}
	options := oci.DefaultOptions()
	if *plain {
		options = append(options, crane.Insecure)
	}
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		options = append(options, crane.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}))
	}
	if *username != "" {
		options = append(options, crane.WithAuth(&authn.Basic{Username: *username, Password: *password}))
	}
	client := oci.NewClient(options)
	switch args[0] {
	case "push":
		metadata := oci.Metadata{Source: "https://git.example.test/team/orders", Revision: "main@sha1:0000000"}
		digest, err := client.Push(context.Background(), flags.Arg(0), flags.Arg(1), oci.WithPushMetadata(metadata))
		if err != nil {
			return err
		}
		fmt.Println(digest)
		return nil
	case "pull":
		metadata, err := client.Pull(context.Background(), flags.Arg(0), flags.Arg(1))
		if err != nil {
			return err
		}
		fmt.Println(metadata.Revision)
		return nil
	default:
		return fmt.Errorf("%s", usage)
	}
}
