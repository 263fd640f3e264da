package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

const written = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

func subnetFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subnet.env")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func decode(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDelegationGivesTheBridgeThisNodesSubnet(t *testing.T) {
	conf, err := parseNetConf([]byte(`{"cniVersion":"1.0.0","name":"cbr0","type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := readSubnet(subnetFile(t, written))
	if err != nil {
		t.Fatal(err)
	}
	plugin, stdin, err := conf.delegation(s)
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, []byte(`{
		"cniVersion":"1.0.0","name":"cbr0","type":"bridge","hairpinMode":true,"isDefaultGateway":true,
		"ipMasq":false,"isGateway":true,"mtu":1450,
		"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.3.0/24"}]],"routes":[{"dst":"10.244.0.0/16"}]}}`))
	if got := decode(t, stdin); plugin != "bridge" || !reflect.DeepEqual(got, want) {
		t.Errorf("plug-in %q got\n%v, expected\n%v", plugin, got, want)
	}
}

func TestBothAddressFamiliesGetARange(t *testing.T) {
	s, err := readSubnet(subnetFile(t, written+"FLANNEL_IPV6_NETWORK=fd00:10::/56\nFLANNEL_IPV6_SUBNET=fd00:10:0:3::1/64\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"10.244.3.0/24", "fd00:10:0:3::/64"}; !reflect.DeepEqual(s.subnets, want) {
		t.Errorf("subnets %v, expected %v", s.subnets, want)
	}
}

func TestAnUnfinishedSubnetFileIsNotTaken(t *testing.T) {
	for name, content := range map[string]string{
		"empty":     "",
		"no subnet": "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_MTU=1450\n",
		"no mtu":    "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\n",
		"bad":       "FLANNEL_SUBNET=10.244.3\nFLANNEL_MTU=1450\n",
	} {
		if s, err := readSubnet(subnetFile(t, content)); err == nil {
			t.Errorf("%s: got %+v, expected an error", name, s)
		}
	}
}

func TestWhatFlannelDecidesIsNotTheDelegatesToSay(t *testing.T) {
	for _, key := range []string{"name", "ipam"} {
		conf := netConf{Delegate: map[string]any{key: "x"}}
		if _, _, err := conf.delegation(subnet{}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: error %v", key, err)
		}
	}
}

func TestStatusBeforeFlanneldIsTheSpecificationsNotAvailable(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "subnet.env")
	err := status(&skel.CmdArgs{StdinData: []byte(`{"name":"cbr0","subnetFile":"` + missing + `"}`)})
	var cniErr *types.Error
	if !errors.As(err, &cniErr) || cniErr.Code != types.ErrPluginNotAvailable {
		t.Errorf("got %v, expected CNI error %d", err, types.ErrPluginNotAvailable)
	}
}

func TestDeleteOfTheUnknownSucceeds(t *testing.T) {
	err := del(&skel.CmdArgs{ContainerID: "never", IfName: "eth0", StdinData: []byte(`{"name":"cbr0","dataDir":"` + t.TempDir() + `"}`)})
	if err != nil {
		t.Error(err)
	}
}

func TestKeptConfigurationSurvivesAndGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := keep(dir, "c1", "eth0", []byte(`{"type":"bridge"}`)); err != nil {
		t.Fatal(err)
	}
	stdin, err := kept(dir, "c1", "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if plugin, err := pluginOf(stdin); err != nil || plugin != "bridge" {
		t.Errorf("plug-in %q, error %v", plugin, err)
	}
	if err := forget(dir, "c1", "eth0"); err != nil {
		t.Error(err)
	}
	if _, err := kept(dir, "c1", "eth0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after forget: %v", err)
	}
	if err := forget(dir, "c1", "eth0"); err != nil {
		t.Errorf("second forget: %v", err)
	}
}

func TestCheckCarriesThePreviousResult(t *testing.T) {
	got, err := withPrevResult([]byte(`{"type":"bridge"}`), []byte(`{"type":"flannel","prevResult":{"ips":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := decode(t, []byte(`{"type":"bridge","prevResult":{"ips":[]}}`)); !reflect.DeepEqual(decode(t, got), want) {
		t.Errorf("got %s", got)
	}
}
