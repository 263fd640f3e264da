// The CNI plug-in "flannel": reads what flanneld wrote about this node's subnet, and lets another
// plug-in (bridge, unless the configuration says otherwise) do the work with it.
//
// It holds no network code. What it delegates is kept in a file per container, since the subnet
// may have changed by the time the container goes, and DEL must undo what ADD did.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// build is stamped by the build.
var build = "unknown"

func main() {
	// CNI operations may switch namespaces; they all belong to one thread.
	runtime.LockOSThread()
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    add,
		Del:    del,
		Check:  check,
		Status: status,
	}, version.All, "Orlop's flannel CNI plug-in "+build)
}

func add(args *skel.CmdArgs) error {
	conf, err := parseNetConf(args.StdinData)
	if err != nil {
		return err
	}
	subnet, err := readSubnet(conf.SubnetFile)
	if err != nil {
		return notReady(err)
	}
	plugin, stdin, err := conf.delegation(subnet)
	if err != nil {
		return err
	}
	if err := keep(conf.DataDir, args.ContainerID, args.IfName, stdin); err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), plugin, stdin, nil)
	if err != nil {
		return fmt.Errorf("plug-in %q, called by flannel: %w", plugin, err)
	}
	return types.PrintResult(result, conf.CNIVersion)
}

// del undoes what add asked for. It succeeds when there is nothing (any more) to undo, as the CNI
// specification asks.
func del(args *skel.CmdArgs) error {
	conf, err := parseNetConf(args.StdinData)
	if err != nil {
		return err
	}
	stdin, err := kept(conf.DataDir, args.ContainerID, args.IfName)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	plugin, err := pluginOf(stdin)
	if err != nil {
		return err
	}
	if err := invoke.DelegateDel(context.Background(), plugin, stdin, nil); err != nil {
		return fmt.Errorf("plug-in %q, called by flannel: %w", plugin, err)
	}
	return forget(conf.DataDir, args.ContainerID, args.IfName)
}

func check(args *skel.CmdArgs) error {
	conf, err := parseNetConf(args.StdinData)
	if err != nil {
		return err
	}
	stdin, err := kept(conf.DataDir, args.ContainerID, args.IfName)
	if err != nil {
		return err
	}
	stdin, err = withPrevResult(stdin, args.StdinData)
	if err != nil {
		return err
	}
	plugin, err := pluginOf(stdin)
	if err != nil {
		return err
	}
	return invoke.DelegateCheck(context.Background(), plugin, stdin, nil)
}

// status says whether an ADD could succeed now: containerd reports it as the node's network readiness.
func status(args *skel.CmdArgs) error {
	conf, err := parseNetConf(args.StdinData)
	if err != nil {
		return err
	}
	if _, err := readSubnet(conf.SubnetFile); err != nil {
		return notReady(err)
	}
	return nil
}

// notReady is the specification's error 50, "the plug-in is not available".
func notReady(err error) error {
	return types.NewError(types.ErrPluginNotAvailable, "flanneld has not given this node a subnet yet", err.Error())
}
