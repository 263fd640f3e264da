package main

import "testing"

func TestCalledNamePicksTheProgram(t *testing.T) {
	for argv0, client := range map[string]bool{
		"etcd":                   false,
		"/usr/local/bin/etcd":    false,
		"etcdctl":                true,
		"/usr/local/bin/etcdctl": true,
		"/etcdctl/etcd":          false,
	} {
		if got := isClient(argv0); got != client {
			t.Errorf("isClient(%q) = %v, expected %v", argv0, got, client)
		}
	}
}
