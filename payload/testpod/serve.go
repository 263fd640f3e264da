package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// serve runs until it is told to stop. Connections under way are then cut: a test that wants to
// see a stream break sees it at once.
func serve(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	web := flags.String("http", ":8080", "address of the HTTP server")
	tcp := flags.String("tcp", ":9090", "address of the echo server")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("%w: serve: %v", errUsage, err)
	}
	httpListener, err := net.Listen("tcp", *web)
	if err != nil {
		return err
	}
	echoListener, err := net.Listen("tcp", *tcp)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(name), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(httpListener) }()
	go func() { failed <- echo(echoListener) }()
	fmt.Fprintf(out, "serving http=%s tcp=%s host=%s\n", httpListener.Addr(), echoListener.Addr(), name)

	select {
	case <-ctx.Done():
		return errors.Join(server.Close(), echoListener.Close())
	case err := <-failed:
		return err
	}
}

// handler answers every path with the pod's name and the caller's address, /slow after ten seconds.
func handler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Second):
			}
		}
		fmt.Fprintf(w, "host=%s path=%s from=%s\n", name, r.URL.Path, r.RemoteAddr)
	})
}

func echo(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn) // the peer sees the end of the stream; there is no one else to tell
		}()
	}
}
