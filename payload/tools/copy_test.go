package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestCopyReplacesAndLeavesNothingElse(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "cni-conf.json"), "new", 0o640)
	target := filepath.Join(to, "10-flannel.conflist")
	write(t, target, "old and longer", 0o600)

	var out strings.Builder
	if code := runCopy([]string{"-f", filepath.Join(from, "cni-conf.json"), target}, &out); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	got, err := os.ReadFile(target)
	if err != nil || string(got) != "new" {
		t.Errorf("content %q, error %v", got, err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) != 1 {
		t.Errorf("directory holds %v, error %v", left, err)
	}
}

func TestCopyIntoADirectoryKeepsTheName(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "a"), "a", 0o755)
	write(t, filepath.Join(from, "b"), "b", 0o644)
	var out strings.Builder
	if code := runCopy([]string{filepath.Join(from, "a"), filepath.Join(from, "b"), to}, &out); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	for _, name := range []string{"a", "b"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != name {
			t.Errorf("%s: content %q, error %v", name, got, err)
		}
	}
}

func TestFailedCopyLeavesTheTargetAlone(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	write(t, target, "old", 0o600)
	for _, source := range []string{filepath.Join(dir, "missing"), dir} {
		var out strings.Builder
		if code := runCopy([]string{source, target}, &out); code != 1 || !strings.Contains(out.String(), source) {
			t.Errorf("%s: exit code %d, said %q", source, code, out.String())
		}
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "old" {
		t.Errorf("content %q, error %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("directory holds %v, error %v", left, err)
	}
}
