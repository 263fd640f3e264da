package main

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/flannel-io/flannel/pkg/ipmatch"
)

func noEnv(string) (string, bool) { return "", false }

func TestFlagsOfUpstreamsManifestAreTaken(t *testing.T) {
	o, err := parseOptions([]string{"--ip-masq", "--kube-subnet-mgr", "--iface=eth0", "--iface=eth1"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if !o.ipMasq || !o.forwardRules || o.subnetFile != "/run/flannel/subnet.env" {
		t.Errorf("got %+v", o)
	}
	want := []choice{{name: "eth0"}, {name: "eth1"}}
	if got := o.choices(ipmatch.PublicIPOpts{PublicIP: "10.0.0.1"}); !reflect.DeepEqual(got, want) {
		t.Errorf("choices %v, expected %v", got, want)
	}
}

func TestEnvironmentFillsWhatTheCommandLineLeavesOut(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"FLANNELD_IFACE": "eth7", "FLANNELD_PUBLIC_IP": "10.0.0.9"}[name]
		return v, ok
	}
	o, err := parseOptions([]string{"--public-ip=10.0.0.1"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if o.publicIP != "10.0.0.1" || !reflect.DeepEqual(o.interfaces, []string{"eth7"}) {
		t.Errorf("got %+v", o)
	}
}

func TestNothingAskedForMeansTheDefaultRoute(t *testing.T) {
	if got := (options{}).choices(ipmatch.PublicIPOpts{}); !reflect.DeepEqual(got, []choice{{}}) {
		t.Errorf("got %v", got)
	}
	if got := (options{}).choices(ipmatch.PublicIPOpts{PublicIP: "10.0.0.1"}); !reflect.DeepEqual(got, []choice{{name: "10.0.0.1"}}) {
		t.Errorf("got %v", got)
	}
}

func TestLeftOutPartsAreRefusedByName(t *testing.T) {
	for arg, says := range map[string]string{
		"--kube-subnet-mgr=false":      "no etcd client",
		"--etcd-endpoints=http://etcd": "etcd-endpoints",
		"stray":                        "stray",
	} {
		if _, err := parseOptions([]string{arg}, noEnv); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, expected one that names %q", arg, err, says)
		}
	}
}

func TestReadinessFollowsTheSubnet(t *testing.T) {
	h := newHealth()
	status := func(path string) int {
		w := httptest.NewRecorder()
		h.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	if status("/healthz") != 200 || status("/readyz") != 503 {
		t.Errorf("before: healthz %d, readyz %d", status("/healthz"), status("/readyz"))
	}
	h.ready.Store(true)
	if status("/readyz") != 200 {
		t.Errorf("after: readyz %d", status("/readyz"))
	}
}
