// One binary that is every Kubernetes component Orlop runs: kubelet, the control plane, kube-proxy
// and kubectl. The components share nine tenths of their code, so one binary (and one image layer,
// and one set of pages in memory) holds them all; the name it was called by picks the component.
//
// It is not a fork: each component is upstream's own command constructor, run by upstream's own
// runner, exactly as upstream's main packages do it. Only the choice is ours.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// component runs one Kubernetes program to its end and returns the exit code of the process.
type component func() int

// pick returns the name of the component that args asks for, and the arguments as that component
// shall see them (its own name first). The name the binary was called by wins; called by a name
// that is no component's, the first argument is taken as the name, so that
// `orlop-kubernetes kubelet --version` works too.
func pick(args []string, known map[string]component) (string, []string, error) {
	if len(args) == 0 {
		return "", nil, fmt.Errorf("called without argv[0]; expected one of: %s", names(known))
	}
	called := filepath.Base(args[0])
	if _, ok := known[called]; ok {
		return called, args, nil
	}
	if len(args) < 2 {
		return "", nil, fmt.Errorf("called as %q, which is no component, and without a component as first argument; expected one of: %s", called, names(known))
	}
	asked := filepath.Base(args[1])
	if _, ok := known[asked]; !ok {
		return "", nil, fmt.Errorf("called as %q and asked for %q, neither of which is a component; expected one of: %s", called, asked, names(known))
	}
	return asked, args[1:], nil
}

func names(known map[string]component) string {
	list := make([]string, 0, len(known))
	for name := range known {
		list = append(list, name)
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}

// run is main without the process around it.
func run(args []string, known map[string]component, stderr io.Writer) int {
	name, rest, err := pick(args, known)
	if err != nil {
		fmt.Fprintf(stderr, "orlop-kubernetes: %v\n", err)
		return 2
	}
	// Upstream's commands read the process-wide arguments, both through cobra and on their own
	// (kubectl looks for its verbosity before it builds its command).
	os.Args = rest
	return known[name]()
}

func main() {
	os.Exit(run(os.Args, components, os.Stderr))
}
