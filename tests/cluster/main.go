// Command spindle-cluster is a real Kubernetes cluster in one binary, for tests and the demo.
//
// It is two things. As `spindle-cluster kube-apiserver …` (or etcd, kubelet, kubectl, …) it is that
// component, compiled from its own module; see multiplex.go. As `spindle-cluster up|down|exec|…` it
// is the orchestrator that starts those components, containerd, CoreDNS and Contour in a network,
// mount and process namespace of their own; see package cluster.
package main

import (
	"os"
	"path/filepath"
)

func main() {
	// A symlink named `kubectl` is kubectl, so that nothing else has to be installed.
	if base := filepath.Base(os.Args[0]); base != "spindle-cluster" {
		if run, ok := components[base]; ok {
			run()
			return
		}
	}
	if len(os.Args) > 1 {
		if run, ok := components[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			run()
			return
		}
	}
	os.Exit(runCLI())
}
