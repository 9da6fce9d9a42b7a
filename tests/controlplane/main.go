// Command controlplane is etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kubectl in one program, and the supervisor that runs them.
//
// One program instead of five: they share most of their code, so that the
// build links once and the result is a fifth of the size.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = "usage: controlplane etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl|supervise|bind [ARGUMENT...]"

func main() {
	// Under a name of its own (a symlink called kubectl) the program is
	// that program.
	if name := filepath.Base(os.Args[0]); name == "kubectl" {
		run(name)
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	name := os.Args[1]
	os.Args = append([]string{name}, os.Args[2:]...)
	run(name)
}

// run becomes the program of that name. Its arguments are in os.Args, as if it
// had been started by itself. It does not return.
func run(name string) {
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		os.Exit(0)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kubectl":
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
	case "supervise":
		os.Exit(supervise(os.Args[1:]))
	case "bind":
		err := bind(os.Args[1:])
		fmt.Fprintf(os.Stderr, "controlplane: %v\n", err)
		os.Exit(127)
	default:
		fmt.Fprintf(os.Stderr, "controlplane: there is no program %q\n%s\n", name, usage)
		os.Exit(2)
	}
}
