// etcd and etcdctl as one binary: the server is what a node runs, the client is for the hands of
// whoever debugs it from inside the container. Two thirds of the code is common to both.
//
// The name it was called by picks; anything but etcdctl is the server, as in upstream's image.
package main

import (
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

// isClient tells whether the binary was called as etcd's client.
func isClient(argv0 string) bool {
	return filepath.Base(argv0) == "etcdctl"
}

func main() {
	if isClient(os.Args[0]) {
		ctlv3.MustStart()
		return
	}
	etcdmain.Main(os.Args)
}
