// The handful of host programs that containers of a node execute, as one static binary: mount and
// umount for kubelet, cp for flannel's init container. The images hold nothing else: no shell.
//
// Each does exactly what its caller asks for on its command line, and refuses the rest by name: a
// misread option would mount something other than was meant.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// tool takes its arguments without argv[0] and returns the exit code.
type tool func(args []string, stderr io.Writer) int

var tools = map[string]tool{
	"cp":           runCopy,
	"install-conf": runCopy, // the name flannel's own manifest uses
	"mount":        func(args []string, stderr io.Writer) int { return runMount(args, kernel{}, stderr) },
	"umount":       func(args []string, stderr io.Writer) int { return runUmount(args, kernel{}, stderr) },
}

func main() {
	name := filepath.Base(os.Args[0])
	run, ok := tools[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "called as %q; expected cp, install-conf, mount or umount\n", name)
		os.Exit(2)
	}
	os.Exit(run(os.Args[1:], os.Stderr))
}
