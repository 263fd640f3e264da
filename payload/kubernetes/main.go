// One binary that is every Kubernetes component Orlop runs: kubelet, the control plane, kube-proxy
// and kubectl. The components share nine tenths of their code, so one binary (and one image layer)
// holds them all; the name it was called by picks the component.
//
// It is not a fork: each component is upstream's own command constructor, run by upstream's own
// runner, as upstream's main packages do it. Only the choice is ours.
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"orlop.internal/payload/kubernetes/internal/dispatch"
)

func main() {
	name, args, err := dispatch.Pick(os.Args, slices.Collect(maps.Keys(components)))
	if err != nil {
		fmt.Fprintf(os.Stderr, "orlop-kubernetes: %v\n", err)
		os.Exit(2)
	}
	// Upstream's commands read the process-wide arguments, through cobra and on their own.
	os.Args = args
	os.Exit(components[name]())
}
