package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// runCopy is cp for regular files: cp [-f] [-p] SOURCE... TARGET
func runCopy(args []string, stderr io.Writer) int {
	var paths []string
	for _, arg := range args {
		switch {
		case arg == "-f" || arg == "--force" || arg == "-p" || arg == "--":
			// The target is replaced and keeps the source's mode in any case.
		case strings.HasPrefix(arg, "-"):
			fmt.Fprintf(stderr, "cp: unknown option %q\n", arg)
			return 1
		default:
			paths = append(paths, arg)
		}
	}
	if len(paths) < 2 {
		fmt.Fprintf(stderr, "cp: expected SOURCE... TARGET, found %q\n", paths)
		return 1
	}
	sources, target := paths[:len(paths)-1], paths[len(paths)-1]
	info, err := os.Stat(target)
	isDir := err == nil && info.IsDir()
	if len(sources) > 1 && !isDir {
		fmt.Fprintf(stderr, "cp: %d sources but %q is no directory\n", len(sources), target)
		return 1
	}
	code := 0
	for _, source := range sources {
		to := target
		if isDir {
			to = filepath.Join(target, filepath.Base(source))
		}
		if err := copyFile(source, to); err != nil {
			fmt.Fprintf(stderr, "cp: %v\n", err)
			code = 1
		}
	}
	return code
}

// copyFile replaces target in one step: containerd watches the CNI configuration directory and
// would read a half-written file. The name it has until then ends in nothing that is read.
func copyFile(source, target string) (err error) {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is %v; only regular files are copied", source, info.Mode())
	}
	to, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(to.Name()) // the first error is the one to tell
		}
	}()
	defer to.Close()
	if _, err = io.Copy(to, from); err != nil {
		return fmt.Errorf("copying %s to %s: %w", source, target, err)
	}
	if err = to.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if err = to.Sync(); err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	return os.Rename(to.Name(), target)
}
