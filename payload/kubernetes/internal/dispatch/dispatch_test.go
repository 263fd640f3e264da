package dispatch

import (
	"reflect"
	"strings"
	"testing"
)

func TestPick(t *testing.T) {
	programs := []string{"kubelet", "kubectl"}
	for _, c := range []struct {
		args []string
		name string
		rest []string
	}{
		{[]string{"/usr/local/bin/kubelet", "--version"}, "kubelet", []string{"/usr/local/bin/kubelet", "--version"}},
		{[]string{"kubectl", "kubelet"}, "kubectl", []string{"kubectl", "kubelet"}},
		{[]string{"kubernetes", "kubelet", "--version"}, "kubelet", []string{"kubelet", "--version"}},
	} {
		name, rest, err := Pick(c.args, programs)
		if err != nil || name != c.name || !reflect.DeepEqual(rest, c.rest) {
			t.Errorf("%q: got %q %q, error %v", c.args, name, rest, err)
		}
	}
}

func TestPickNamesWhatThereIs(t *testing.T) {
	for _, args := range [][]string{nil, {"kubernetes"}, {"kubernetes", "scheduler"}} {
		_, _, err := Pick(args, []string{"kubelet", "kubectl"})
		if err == nil || !strings.Contains(err.Error(), "kubectl, kubelet") {
			t.Errorf("%q: error %v", args, err)
		}
	}
}
