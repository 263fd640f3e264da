// Package dispatch picks one of a multi-call binary's programs by the name it was called by. It is a
// package of its own so that its test does not link all of Kubernetes.
package dispatch

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Pick returns the program that args ask for, and the arguments as that program shall see them (its
// own name first). The name the binary was called by wins; called by a name that is no program's,
// it takes the first argument as the name, so that `orlop-kubernetes kubelet --version` works too.
func Pick(args, programs []string) (string, []string, error) {
	expected := strings.Join(slices.Sorted(slices.Values(programs)), ", ")
	if len(args) == 0 {
		return "", nil, fmt.Errorf("called without a name; expected one of: %s", expected)
	}
	called := filepath.Base(args[0])
	if slices.Contains(programs, called) {
		return called, args, nil
	}
	if len(args) < 2 {
		return "", nil, fmt.Errorf("called as %q, which is no component, and without one as first argument; expected one of: %s", called, expected)
	}
	asked := filepath.Base(args[1])
	if !slices.Contains(programs, asked) {
		return "", nil, fmt.Errorf("called as %q and asked for %q, neither of which is a component; expected one of: %s", called, asked, expected)
	}
	return asked, args[1:], nil
}
