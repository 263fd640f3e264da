package main

import (
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// recorder is a kernel that writes down what it is asked.
type recorder struct {
	calls []string
	fail  error
}

func (r *recorder) mount(source, target, fstype string, flags uintptr, data string) error {
	r.calls = append(r.calls, fmt.Sprintf("mount(%q,%q,%q,%#x,%q)", source, target, fstype, flags, data))
	return r.fail
}

func (r *recorder) umount(target string, flags int) error {
	r.calls = append(r.calls, fmt.Sprintf("umount(%q,%#x)", target, flags))
	return r.fail
}

// The command lines are those that k8s.io/mount-utils builds.
func TestKubeletsMounts(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want []string
	}{
		"secret volume": {
			"-t tmpfs -o size=16777216,noswap tmpfs /v",
			[]string{`mount("tmpfs","/v","tmpfs",0x0,"size=16777216,noswap")`},
		},
		"bind": {
			"-o bind /a /b",
			[]string{`mount("/a","/b","",0x1000,"")`},
		},
		"bind, second step": {
			"-o bind,remount,ro,nosuid,relatime /a /b",
			[]string{`mount("/a","/b","",0x201023,"")`},
		},
		"read-only bind in one step": {
			"-o bind,ro /a /b",
			[]string{`mount("/a","/b","",0x1001,"")`, `mount("/a","/b","",0x1021,"")`},
		},
		"subpath": {
			"--no-canonicalize -o bind /proc/42/fd/7 /b",
			[]string{`mount("/proc/42/fd/7","/b","",0x1000,"")`},
		},
		"disk": {
			"-t ext4 -o defaults,noatime,x-systemd.automount,data=ordered /dev/vdb /v",
			[]string{`mount("/dev/vdb","/v","ext4",0x400,"data=ordered")`},
		},
		"the last option wins": {
			"-t xfs -o ro,rw /dev/vdb /v",
			[]string{`mount("/dev/vdb","/v","xfs",0x0,"")`},
		},
		"propagation in its own call": {
			"--rbind --make-rshared /a /b",
			[]string{`mount("/a","/b","",0x5000,"")`, `mount("none","/b","",0x104000,"")`},
		},
		"propagation only": {
			"--make-rslave /b",
			[]string{`mount("none","/b","",0x84000,"")`},
		},
		"remount needs no source": {
			"-o remount,ro /b",
			[]string{`mount("","/b","",0x21,"")`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := &recorder{}
			var out strings.Builder
			if code := runMount(strings.Fields(c.args), k, &out); code != exitOK {
				t.Fatalf("exit code %d: %s", code, out.String())
			}
			if !reflect.DeepEqual(k.calls, c.want) {
				t.Errorf("got\n%v, expected\n%v", k.calls, c.want)
			}
		})
	}
}

func TestWhatIsNotUnderstoodMountsNothing(t *testing.T) {
	for args, says := range map[string]string{
		"--frobnicate /a /b":     "--frobnicate",
		"--make-odd /b":          "--make-odd",
		"-o loop /a.img /b":      "loop",
		"/b":                     "fstab",
		"-t":                     "needs a value",
		"/a /b /c":               "3 arguments",
		"-t tmpfs -o size=1 /a ": "fstab",
	} {
		k := &recorder{}
		var out strings.Builder
		if code := runMount(strings.Fields(args), k, &out); code != exitUsage {
			t.Errorf("%s: exit code %d", args, code)
		}
		if !strings.Contains(out.String(), says) || len(k.calls) != 0 {
			t.Errorf("%s: said %q, asked %v", args, out.String(), k.calls)
		}
	}
}

func TestAKernelsRefusalIsExitCode32(t *testing.T) {
	var out strings.Builder
	if code := runMount([]string{"-t", "odd", "x", "/b"}, &recorder{fail: syscall.ENODEV}, &out); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(out.String(), "no such device") || !strings.Contains(out.String(), `"odd"`) {
		t.Errorf("said %q", out.String())
	}
}

func TestUmount(t *testing.T) {
	k := &recorder{}
	var out strings.Builder
	if code := runUmount([]string{"-f", "/a", "/b"}, k, &out); code != exitOK {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	if want := []string{`umount("/a",0x9)`, `umount("/b",0x9)`}; !reflect.DeepEqual(k.calls, want) {
		t.Errorf("got %v, expected %v", k.calls, want)
	}
}

// kubelet takes the words "not mounted" as success; without them it would retry for ever.
func TestUmountOfNoMountSaysSoInKubeletsWords(t *testing.T) {
	var out strings.Builder
	code := runUmount([]string{"/a"}, &recorder{fail: syscall.EINVAL}, &out)
	if code != exitFailure || !strings.Contains(out.String(), "not mounted") {
		t.Errorf("exit code %d, said %q", code, out.String())
	}
	out.Reset()
	code = runUmount([]string{"/a"}, &recorder{fail: syscall.EBUSY}, &out)
	if code != exitFailure || strings.Contains(out.String(), "not mounted") {
		t.Errorf("busy: exit code %d, said %q", code, out.String())
	}
}
