// flanneld for Orlop nodes: upstream's subnet manager, back ends and nftables rules under a small
// main of our own.
//
// Upstream's main cannot be built from the module proxy alone (one cloud back end's dependency is
// refused there), and it carries etcd, cloud and iptables support that a node here has no use for.
// So: leases come from the Kubernetes API only; back ends are alloc, host-gw and vxlan; rules are
// nftables only, whatever EnableNFTables says. Flags keep upstream's names, so that manifests
// written for it work.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/alloc"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"k8s.io/klog/v2"
)

// version is stamped by the build.
var version = "unknown"

func main() {
	opts, err := parseOptions(os.Args[1:], os.LookupEnv)
	if err != nil {
		fmt.Fprintf(os.Stderr, "flanneld: %v\n", err)
		os.Exit(2)
	}
	if opts.version {
		fmt.Println(version)
		return
	}
	klog.InitFlags(nil)
	if err := flag.Set("v", fmt.Sprint(opts.verbosity)); err != nil {
		fmt.Fprintf(os.Stderr, "flanneld: setting verbosity %d: %v\n", opts.verbosity, err)
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts); err != nil && ctx.Err() == nil {
		klog.ErrorS(err, "flanneld stops; kubelet will start it again")
		stop()
		os.Exit(1)
	}
}

// run brings the node's part of the pod network up and keeps it until ctx ends.
func run(ctx context.Context, opts options) error {
	health := newHealth()
	if opts.healthzPort != 0 {
		stopHealth, err := health.serve(opts.healthzIP, opts.healthzPort)
		if err != nil {
			return err
		}
		defer stopHealth()
	}

	manager, err := kube.NewSubnetManager(ctx, opts.apiURL, opts.kubeconfig, opts.annotationPrefix, opts.netConfPath, opts.setNetworkUnavailable)
	if err != nil {
		return fmt.Errorf("asking the Kubernetes API for this node's subnet: %w", err)
	}
	config, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("reading the network configuration %s: %w", opts.netConfPath, err)
	}
	external, err := externalInterface(ctx, manager, config, opts)
	if err != nil {
		return err
	}

	// Back ends wait for their goroutines on this group; so does the end of this function, so that
	// no route is written after it.
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	be, err := backend.NewManager(ctx, manager, external).GetBackend(config.BackendType)
	if err != nil {
		return fmt.Errorf("back end %q of %s (this build has alloc, host-gw and vxlan): %w", config.BackendType, opts.netConfPath, err)
	}
	network, err := be.RegisterNetwork(ctx, &group, config)
	if err != nil {
		return fmt.Errorf("registering with back end %q on %s: %w", config.BackendType, external.IfaceName, err)
	}
	if err := setRules(ctx, config, network, opts); err != nil {
		return err
	}

	lease := network.Lease()
	if err := manager.HandleSubnetFile(opts.subnetFile, config, opts.ipMasq, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return fmt.Errorf("writing %s, which the CNI plug-in reads: %w", opts.subnetFile, err)
	}
	health.ready.Store(true)
	klog.InfoS("ready", "subnet", lease.Subnet.String(), "subnet6", lease.IPv6Subnet.String(), "mtu", network.MTU(), "interface", external.IfaceName, "backend", config.BackendType)

	group.Add(1)
	go func() {
		defer group.Done()
		network.Run(ctx)
	}()
	if err := manager.CompleteLease(ctx, lease, &group); err != nil {
		return fmt.Errorf("telling the node object that its network is there: %w", err)
	}
	// The Kubernetes manager has no lease to renew and returns at once; the network lives until somebody ends it.
	<-ctx.Done()
	return nil
}

// setRules installs the masquerading and forwarding rules. They are nftables tables of flannel's
// own, so nothing has to be looked at, repaired or merged afterwards.
func setRules(ctx context.Context, config *subnet.Config, network backend.Network, opts options) error {
	rules := &nftables.NFTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return fmt.Errorf("making flannel's nftables tables (is nft in the image, and does the kernel have nf_tables?): %w", err)
	}
	period := int(opts.rulesResync / time.Second)
	if opts.ipMasq {
		// The previous subnet and network matter to the iptables manager alone.
		masqueradeErr := rules.SetupAndEnsureMasqRules(ctx,
			config.Network, network.Lease().Subnet, config.Network,
			config.IPv6Network, network.Lease().IPv6Subnet, config.IPv6Network,
			network.Lease(), period, opts.ipMasqNotRandom)
		if masqueradeErr != nil {
			return fmt.Errorf("masquerading rules: %w", masqueradeErr)
		}
	}
	if opts.forwardRules {
		rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, period)
	}
	return nil
}

// externalInterface finds the interface that carries traffic to other nodes: the first of the asked
// ones that exists, else the one of the default route.
func externalInterface(ctx context.Context, manager subnet.Manager, config *subnet.Config, opts options) (*backend.ExternalInterface, error) {
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, fmt.Errorf("%s enables neither IPv4 nor IPv6: %w", opts.netConfPath, err)
	}
	public := ipmatch.PublicIPOpts{PublicIP: opts.publicIP, PublicIPv6: opts.publicIPv6}
	// An address noted on the node object by an operator wins over the command line.
	if noted, noted6 := manager.GetStoredPublicIP(ctx); noted != "" || noted6 != "" {
		if noted != "" {
			public.PublicIP = noted
		}
		if noted6 != "" {
			public.PublicIPv6 = noted6
		}
	}

	var tried []error
	for _, choice := range opts.choices(public) {
		found, err := ipmatch.LookupExtIface(choice.name, choice.regex, choice.canReach, stack, public)
		if err == nil {
			return found, nil
		}
		tried = append(tried, fmt.Errorf("%s: %w", choice, err))
	}
	return nil, fmt.Errorf("no interface for traffic to other nodes; tried %v", tried)
}
