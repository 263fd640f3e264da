package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/flannel-io/flannel/pkg/ipmatch"
)

// options are upstream's, less those of the parts this build leaves out.
type options struct {
	version               bool
	verbosity             int
	apiURL                string
	kubeconfig            string
	annotationPrefix      string
	netConfPath           string
	subnetFile            string
	publicIP              string
	publicIPv6            string
	interfaces            []string
	interfaceRegexes      []string
	interfaceCanReach     string
	ipMasq                bool
	ipMasqNotRandom       bool
	forwardRules          bool
	rulesResync           time.Duration
	healthzIP             string
	healthzPort           int
	setNetworkUnavailable bool
}

// choice is one way to name the interface; at most one field is set, none means the default route's.
type choice struct{ name, regex, canReach string }

func (c choice) String() string {
	switch {
	case c.name != "":
		return fmt.Sprintf("interface %q", c.name)
	case c.regex != "":
		return fmt.Sprintf("interfaces matching %q", c.regex)
	case c.canReach != "":
		return fmt.Sprintf("interface that reaches %s", c.canReach)
	default:
		return "interface of the default route"
	}
}

// choices lists what to try, in order. With nothing asked for, a public address that is on one of
// the interfaces names that interface.
func (o options) choices(public ipmatch.PublicIPOpts) []choice {
	var list []choice
	for _, name := range o.interfaces {
		list = append(list, choice{name: name})
	}
	for _, regex := range o.interfaceRegexes {
		list = append(list, choice{regex: regex})
	}
	if o.interfaceCanReach != "" {
		list = append(list, choice{canReach: o.interfaceCanReach})
	}
	if len(list) > 0 {
		return list
	}
	switch {
	case public.PublicIP != "":
		return []choice{{name: public.PublicIP}}
	case public.PublicIPv6 != "":
		return []choice{{name: public.PublicIPv6}}
	default:
		return []choice{{}}
	}
}

// several is a flag that may be given more than once.
type several []string

func (s *several) String() string     { return strings.Join(*s, ",") }
func (s *several) Set(v string) error { *s = append(*s, v); return nil }

// parseOptions reads the command line; a flag not given there is taken from FLANNELD_<FLAG>.
func parseOptions(args []string, lookupEnv func(string) (string, bool)) (options, error) {
	var o options
	var kubeSubnetManager bool
	resync := 5
	flags := flag.NewFlagSet("flanneld", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it; usage is upstream's documentation
	flags.BoolVar(&o.version, "version", false, "print the version and stop")
	flags.IntVar(&o.verbosity, "v", 0, "log verbosity")
	flags.BoolVar(&kubeSubnetManager, "kube-subnet-mgr", true, "leases from the Kubernetes API; this build has no other source")
	flags.StringVar(&o.apiURL, "kube-api-url", "", "API server; empty: that of the pod's service account")
	flags.StringVar(&o.kubeconfig, "kubeconfig-file", "", "kubeconfig; empty: the pod's service account")
	flags.StringVar(&o.annotationPrefix, "kube-annotation-prefix", "flannel.alpha.coreos.com", "prefix of the node annotations")
	flags.StringVar(&o.netConfPath, "net-config-path", "/etc/kube-flannel/net-conf.json", "network configuration")
	flags.StringVar(&o.subnetFile, "subnet-file", "/run/flannel/subnet.env", "where the CNI plug-in finds this node's subnet")
	flags.StringVar(&o.publicIP, "public-ip", "", "IPv4 address under which other nodes reach this one")
	flags.StringVar(&o.publicIPv6, "public-ipv6", "", "IPv6 address under which other nodes reach this one")
	flags.Var((*several)(&o.interfaces), "iface", "interface for traffic between nodes: name or address; may be repeated")
	flags.Var((*several)(&o.interfaceRegexes), "iface-regex", "the same by a pattern over names and addresses; may be repeated")
	flags.StringVar(&o.interfaceCanReach, "iface-can-reach", "", "the same by the route to an address")
	flags.BoolVar(&o.ipMasq, "ip-masq", false, "masquerade traffic that leaves the pod network")
	flags.BoolVar(&o.ipMasqNotRandom, "ip-masq-fully-random-disable", false, "keep source ports where possible")
	flags.BoolVar(&o.forwardRules, "iptables-forward-rules", true, "accept forwarding from and to the pod network (nftables, the name is upstream's)")
	flags.IntVar(&resync, "iptables-resync", resync, "seconds between checks of the rules")
	flags.StringVar(&o.healthzIP, "healthz-ip", "0.0.0.0", "address of /healthz and /readyz")
	flags.IntVar(&o.healthzPort, "healthz-port", 0, "port of /healthz and /readyz; 0: none")
	flags.BoolVar(&o.setNetworkUnavailable, "set-node-network-unavailable", true, "clear the node's NetworkUnavailable condition when ready")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return options{}, fmt.Errorf("unexpected argument %q: flanneld takes flags only", rest[0])
	}

	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var envErr error
	flags.VisitAll(func(f *flag.Flag) {
		name := "FLANNELD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := lookupEnv(name); ok && !given[f.Name] && envErr == nil {
			if err := flags.Set(f.Name, value); err != nil {
				envErr = fmt.Errorf("environment variable %s=%q: %w", name, value, err)
			}
		}
	})
	if envErr != nil {
		return options{}, envErr
	}
	if !kubeSubnetManager {
		return options{}, fmt.Errorf("-kube-subnet-mgr=false: this build takes leases from the Kubernetes API only, it has no etcd client")
	}
	o.rulesResync = time.Duration(resync) * time.Second
	return o, nil
}
