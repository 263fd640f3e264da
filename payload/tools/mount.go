package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// Exit codes of mount(8): kubelet's callers print them, and some storage plug-ins look at them.
const (
	exitOK      = 0
	exitUsage   = 1
	exitFailure = 32
)

// Flags that the syscall package does not name; values from linux/mount.h and linux/fs.h.
const (
	msNoSymFollow  = 0x100
	msLazyTime     = 1 << 25
	umountNoFollow = 0x8
)

// mounter is the kernel, or a test's record of what would have been asked of it.
type mounter interface {
	mount(source, target, fstype string, flags uintptr, data string) error
	umount(target string, flags int) error
}

type kernel struct{}

func (kernel) mount(source, target, fstype string, flags uintptr, data string) error {
	return syscall.Mount(source, target, fstype, flags, data)
}

func (kernel) umount(target string, flags int) error { return syscall.Unmount(target, flags) }

// request is a mount command line, understood.
type request struct {
	source, target, fstype string
	set, clear             uintptr
	data                   []string
	propagation            []uintptr // each needs a call of its own
}

// Options that are flags of mount(2). The second value of a pair takes the flag away again.
var flagOptions = map[string]struct{ set, clear uintptr }{
	"ro":          {set: syscall.MS_RDONLY},
	"rw":          {clear: syscall.MS_RDONLY},
	"nosuid":      {set: syscall.MS_NOSUID},
	"suid":        {clear: syscall.MS_NOSUID},
	"nodev":       {set: syscall.MS_NODEV},
	"dev":         {clear: syscall.MS_NODEV},
	"noexec":      {set: syscall.MS_NOEXEC},
	"exec":        {clear: syscall.MS_NOEXEC},
	"sync":        {set: syscall.MS_SYNCHRONOUS},
	"async":       {clear: syscall.MS_SYNCHRONOUS},
	"dirsync":     {set: syscall.MS_DIRSYNC},
	"mand":        {set: syscall.MS_MANDLOCK},
	"nomand":      {clear: syscall.MS_MANDLOCK},
	"noatime":     {set: syscall.MS_NOATIME},
	"atime":       {clear: syscall.MS_NOATIME},
	"nodiratime":  {set: syscall.MS_NODIRATIME},
	"diratime":    {clear: syscall.MS_NODIRATIME},
	"relatime":    {set: syscall.MS_RELATIME},
	"norelatime":  {clear: syscall.MS_RELATIME},
	"strictatime": {set: syscall.MS_STRICTATIME},
	"lazytime":    {set: msLazyTime},
	"nolazytime":  {clear: msLazyTime},
	"nosymfollow": {set: msNoSymFollow},
	"symfollow":   {clear: msNoSymFollow},
	"silent":      {set: syscall.MS_SILENT},
	"loud":        {clear: syscall.MS_SILENT},
	"remount":     {set: syscall.MS_REMOUNT},
	"bind":        {set: syscall.MS_BIND},
	"rbind":       {set: syscall.MS_BIND | syscall.MS_REC},
	"defaults":    {},
	// For mount(8)'s reading of fstab; they say nothing to the kernel.
	"auto": {}, "noauto": {}, "nofail": {}, "_netdev": {},
}

var propagationOptions = map[string]uintptr{
	"shared":      syscall.MS_SHARED,
	"rshared":     syscall.MS_SHARED | syscall.MS_REC,
	"slave":       syscall.MS_SLAVE,
	"rslave":      syscall.MS_SLAVE | syscall.MS_REC,
	"private":     syscall.MS_PRIVATE,
	"rprivate":    syscall.MS_PRIVATE | syscall.MS_REC,
	"unbindable":  syscall.MS_UNBINDABLE,
	"runbindable": syscall.MS_UNBINDABLE | syscall.MS_REC,
}

// parseMount reads the command lines that kubelet and its storage plug-ins build:
// mount [flags] [-t TYPE] [-o OPTIONS] [SOURCE] TARGET
func parseMount(args []string) (request, error) {
	var r request
	var rest []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		value := func() (string, error) {
			if i+1 >= len(args) {
				return "", fmt.Errorf("%s needs a value", arg)
			}
			i++
			return args[i], nil
		}
		var err error
		switch {
		case arg == "-t" || arg == "--types":
			r.fstype, err = value()
		case arg == "-o" || arg == "--options":
			var list string
			if list, err = value(); err == nil {
				err = r.options(list)
			}
		case arg == "-n" || arg == "--no-mtab" || arg == "-c" || arg == "--no-canonicalize" || arg == "-i" || arg == "--internal-only":
			// There is no mtab, and paths go to the kernel as they come.
		case arg == "-r" || arg == "--read-only":
			err = r.options("ro")
		case arg == "-B" || arg == "--bind":
			err = r.options("bind")
		case arg == "-R" || arg == "--rbind":
			err = r.options("rbind")
		case strings.HasPrefix(arg, "--make-"):
			name := strings.TrimPrefix(arg, "--make-")
			flags, ok := propagationOptions[name]
			if !ok {
				err = fmt.Errorf("unknown option %q", arg)
			}
			r.propagation = append(r.propagation, flags)
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case strings.HasPrefix(arg, "-"):
			err = fmt.Errorf("unknown option %q", arg)
		default:
			rest = append(rest, arg)
		}
		if err != nil {
			return request{}, err
		}
	}
	switch len(rest) {
	case 1:
		r.target = rest[0]
	case 2:
		r.source, r.target = rest[0], rest[1]
	default:
		return request{}, fmt.Errorf("expected [SOURCE] TARGET, found %d arguments: %q", len(rest), rest)
	}
	if r.source == "" && r.set&syscall.MS_REMOUNT == 0 && len(r.propagation) == 0 {
		return request{}, fmt.Errorf("only one path given: %q; there is no fstab to find the other in", r.target)
	}
	return r, nil
}

func (r *request) options(list string) error {
	for _, option := range strings.Split(list, ",") {
		if option == "" {
			continue
		}
		if flag, ok := flagOptions[option]; ok {
			r.set = r.set&^flag.clear | flag.set
			r.clear = r.clear&^flag.set | flag.clear
			continue
		}
		if flags, ok := propagationOptions[option]; ok {
			r.propagation = append(r.propagation, flags)
			continue
		}
		if option == "loop" || strings.HasPrefix(option, "loop=") {
			return fmt.Errorf("option %q: loop devices are not set up here", option)
		}
		// Comments for other programs, which the kernel would refuse.
		if strings.HasPrefix(option, "x-") || strings.HasPrefix(option, "X-") || strings.HasPrefix(option, "comment=") {
			continue
		}
		r.data = append(r.data, option)
	}
	return nil
}

// apply asks the kernel for it, in as many calls as that takes.
func (r request) apply(k mounter) error {
	mounts := r.source != "" || r.set&syscall.MS_REMOUNT != 0
	const perMount = syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC |
		syscall.MS_NOATIME | syscall.MS_NODIRATIME | syscall.MS_RELATIME | msNoSymFollow
	if mounts {
		if err := k.mount(r.source, r.target, r.fstype, r.set, strings.Join(r.data, ",")); err != nil {
			return err
		}
		// A new bind mount takes its flags from the source; others need a remount (mount(2), "Creating a bind mount").
		if r.set&syscall.MS_BIND != 0 && r.set&syscall.MS_REMOUNT == 0 && r.set&perMount != 0 {
			flags := r.set&^syscall.MS_REC | syscall.MS_REMOUNT
			if err := k.mount(r.source, r.target, "", flags, ""); err != nil {
				return fmt.Errorf("setting the flags of the bind mount: %w", err)
			}
		}
	}
	for _, flags := range r.propagation {
		if err := k.mount("none", r.target, "", flags, ""); err != nil {
			return fmt.Errorf("setting its propagation: %w", err)
		}
	}
	return nil
}

func runMount(args []string, k mounter, stderr io.Writer) int {
	r, err := parseMount(args)
	if err != nil {
		fmt.Fprintf(stderr, "mount: %v\n", err)
		return exitUsage
	}
	if err := r.apply(k); err != nil {
		fmt.Fprintf(stderr, "mount: %s: mounting %q of type %q with options %q: %v\n", r.target, r.source, r.fstype, strings.Join(r.data, ","), err)
		return exitFailure
	}
	return exitOK
}

func runUmount(args []string, k mounter, stderr io.Writer) int {
	// As mount(8) does: a path ending in a symbolic link is refused by the kernel rather than followed.
	flags := umountNoFollow
	var targets []string
	for _, arg := range args {
		switch {
		case arg == "-f" || arg == "--force":
			flags |= syscall.MNT_FORCE
		case arg == "-l" || arg == "--lazy":
			flags |= syscall.MNT_DETACH
		case arg == "-n" || arg == "--no-mtab" || arg == "-c" || arg == "--no-canonicalize" || arg == "-i" || arg == "--internal-only":
		case strings.HasPrefix(arg, "-"):
			fmt.Fprintf(stderr, "umount: unknown option %q\n", arg)
			return exitUsage
		default:
			targets = append(targets, arg)
		}
	}
	if len(targets) == 0 {
		fmt.Fprintln(stderr, "umount: expected at least one path")
		return exitUsage
	}
	code := exitOK
	for _, target := range targets {
		switch err := k.umount(target, flags); {
		case err == nil:
		case errors.Is(err, syscall.EINVAL):
			// kubelet looks for these very words to tell "nothing to do" from failure.
			fmt.Fprintf(stderr, "umount: %s: not mounted.\n", target)
			code = exitFailure
		default:
			fmt.Fprintf(stderr, "umount: %s: %v\n", target, err)
			code = exitFailure
		}
	}
	return code
}
