package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

// netConf is the plug-in's part of the network configuration.
type netConf struct {
	types.NetConf
	// What the delegate gets, where flannel knows no better; objects nest freely.
	Delegate   map[string]any `json:"delegate"`
	IPAM       map[string]any `json:"ipam"`
	SubnetFile string         `json:"subnetFile"`
	DataDir    string         `json:"dataDir"`
	// Filled in by the runtime from the capabilities; handed on as it came.
	RuntimeConfig map[string]any `json:"runtimeConfig"`
}

func parseNetConf(stdin []byte) (netConf, error) {
	conf := netConf{SubnetFile: defaultSubnetFile, DataDir: defaultDataDir}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return conf, fmt.Errorf("network configuration of type flannel: %w", err)
	}
	return conf, nil
}

// subnet is the content of flanneld's file.
type subnet struct {
	networks []string // of the whole cluster, one per address family
	subnets  []string // this node's parts, canonical: no host bits
	mtu      uint64
	ipMasq   bool
}

// readSubnet reads flanneld's KEY=value file. A file without any subnet, or without the MTU, is one
// that flanneld did not finish.
func readSubnet(path string) (subnet, error) {
	file, err := os.Open(path)
	if err != nil {
		return subnet{}, err
	}
	defer file.Close()

	var s subnet
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok {
			continue
		}
		var err error
		switch key {
		case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
			// With a list of networks, flanneld separates by commas.
			s.networks, err = appendPrefixes(s.networks, value)
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			s.subnets, err = appendPrefixes(s.subnets, value)
		case "FLANNEL_MTU":
			s.mtu, err = strconv.ParseUint(value, 10, 32)
		case "FLANNEL_IPMASQ":
			s.ipMasq, err = strconv.ParseBool(value)
		}
		if err != nil {
			return subnet{}, fmt.Errorf("%s:%d: %s: %w", path, n, key, err)
		}
	}
	if err := lines.Err(); err != nil {
		return subnet{}, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(s.subnets) == 0 || s.mtu == 0 {
		return subnet{}, fmt.Errorf("%s holds no FLANNEL_SUBNET or no FLANNEL_MTU", path)
	}
	return s, nil
}

// appendPrefixes adds each prefix of a list. flanneld writes this node's subnet with the gateway's
// host bits (10.244.1.1/24), which host-local refuses: hence the canonical form.
func appendPrefixes(list []string, value string) ([]string, error) {
	for _, item := range strings.Split(value, ",") {
		_, prefix, err := net.ParseCIDR(strings.TrimSpace(item))
		if err != nil {
			return list, fmt.Errorf("%q is no address prefix: %w", item, err)
		}
		list = append(list, prefix.String())
	}
	return list, nil
}

// delegation builds the configuration for the plug-in that does the work, and names it. What the
// configuration's "delegate" says stays; flannel fills in the rest.
func (c netConf) delegation(s subnet) (string, []byte, error) {
	d := map[string]any{}
	for key, value := range c.Delegate {
		d[key] = value
	}
	if _, ok := d["name"]; ok {
		return "", nil, errors.New(`"delegate" must not hold "name": flannel gives it the network's`)
	}
	if _, ok := d["ipam"]; ok {
		return "", nil, errors.New(`"delegate" must not hold "ipam": flannel gives it this node's subnet; options go into "ipam" beside it`)
	}
	d["name"] = c.Name
	d["cniVersion"] = c.CNIVersion
	setDefault(d, "type", "bridge")
	if c.RuntimeConfig != nil {
		d["runtimeConfig"] = c.RuntimeConfig
	}
	plugin, ok := d["type"].(string)
	if !ok || plugin == "" {
		return "", nil, fmt.Errorf(`"delegate": "type" is %v, expected a plug-in's name`, d["type"])
	}
	// Either flanneld masquerades, for the whole node, or the bridge does, per pod: not both.
	setDefault(d, "ipMasq", !s.ipMasq)
	setDefault(d, "mtu", s.mtu)
	if plugin == "bridge" {
		setDefault(d, "isGateway", true)
	}
	d["ipam"] = c.ipam(s)

	stdin, err := json.Marshal(d)
	if err != nil {
		return "", nil, fmt.Errorf("encoding the delegate's configuration: %w", err)
	}
	return plugin, stdin, nil
}

// ipam is host-local over this node's subnets, with routes to the cluster's networks in case the
// delegate gives no default route; what the configuration's "ipam" says is kept or added to.
func (c netConf) ipam(s subnet) map[string]any {
	ipam := map[string]any{}
	for key, value := range c.IPAM {
		ipam[key] = value
	}
	setDefault(ipam, "type", "host-local")
	ranges := make([]any, 0, len(s.subnets))
	for _, prefix := range s.subnets {
		ranges = append(ranges, []any{map[string]any{"subnet": prefix}})
	}
	ipam["ranges"] = ranges

	routes, _ := ipam["routes"].([]any)
	for _, prefix := range s.networks {
		routes = append(routes, map[string]any{"dst": prefix})
	}
	ipam["routes"] = routes
	return ipam
}

func setDefault(m map[string]any, key string, value any) {
	if _, ok := m[key]; !ok {
		m[key] = value
	}
}

// pluginOf reads the plug-in's name out of a delegate's configuration.
func pluginOf(stdin []byte) (string, error) {
	var d struct{ Type string }
	if err := json.Unmarshal(stdin, &d); err != nil {
		return "", fmt.Errorf("kept configuration of the delegate: %w", err)
	}
	if d.Type == "" {
		return "", errors.New(`kept configuration of the delegate has no "type"`)
	}
	return d.Type, nil
}

// withPrevResult adds what the runtime remembers of ADD, which CHECK is about.
func withPrevResult(stdin, runtime []byte) ([]byte, error) {
	var from struct {
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.Unmarshal(runtime, &from); err != nil {
		return nil, fmt.Errorf("network configuration: %w", err)
	}
	var d map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &d); err != nil {
		return nil, fmt.Errorf("kept configuration of the delegate: %w", err)
	}
	if from.PrevResult != nil {
		d["prevResult"] = from.PrevResult
	}
	return json.Marshal(d)
}

// One file per container and interface: a container may be on several networks of this kind.
func keptPath(dir, container, ifname string) string {
	return filepath.Join(dir, container+"-"+ifname)
}

// keep stores the delegate's configuration, whole or not at all.
func keep(dir, container, ifname string, stdin []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keeping the delegate's configuration: %w", err)
	}
	path := keptPath(dir, container, ifname)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, stdin, 0o600); err != nil {
		return fmt.Errorf("keeping the delegate's configuration: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("keeping the delegate's configuration: %w", err)
	}
	return nil
}

func kept(dir, container, ifname string) ([]byte, error) {
	stdin, err := os.ReadFile(keptPath(dir, container, ifname))
	if err != nil {
		return nil, fmt.Errorf("what ADD delegated: %w", err)
	}
	return stdin, nil
}

// forget removes the file; that it is gone already is fine.
func forget(dir, container, ifname string) error {
	err := os.Remove(keptPath(dir, container, ifname))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting the delegate's configuration: %w", err)
	}
	return nil
}
