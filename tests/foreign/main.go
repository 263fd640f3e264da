// Command foreign checks a live API endpoint from outside: grpc-go, stubs generated from proto/ by protoc, crypto/tls. It
// shares no code with the endpoint, so an error made twice the same way on both sides of our own wire shows here.
//
// Each check prints `pass NAME` or `FAIL NAME: reason`; the exit status is 1 when one failed, 2 when it could not start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// A check gets a fresh context with a deadline and says what is wrong.
type check struct {
	name string
	run  func(context.Context, *target) error
	// standIn: the check needs answers that only the stand-in of the unit tests gives.
	standIn bool
}

var checks = []check{
	{name: "alpn", run: alpn},
	{name: "mtls-no-certificate", run: noCertificate},
	{name: "mtls-foreign-ca", run: foreignAuthority},
	{name: "one-to-one-direct", run: direct},
	{name: "one-to-one-node", run: oneNode},
	{name: "node-single-valued", run: nodeSingleValued},
	{name: "node-bare-host", run: nodeBareHost},
	{name: "one-to-many-merged", run: merged},
	{name: "one-to-many-failure-is-an-entry", run: failureIsAnEntry},
	{name: "one-to-many-wins-over-node", run: nodesWin},
	{name: "one-to-many-refused-for-resources", run: manyRefused},
	{name: "one-to-many-streamed", run: streamed},
	{name: "one-to-many-streamed-failure", run: streamedFailure},
	{name: "events-begin-empty", run: eventsBeginEmpty},
	{name: "events-type-url", run: eventsTypeURL},
	{name: "large-request", run: largeRequest},
	{name: "large-reply", run: largeReply, standIn: true},
	{name: "unknown-method", run: unknownMethod},
	{name: "resource-get", run: resourceGet},
	{name: "resource-list", run: resourceList},
	{name: "watch-first-message-empty", run: watchFirstEmpty},
	{name: "watch-bootstrapped", run: watchBootstrapped},
	{name: "watch-old-client", run: watchOldClient},
	{name: "watch-absent-is-a-tombstone", run: watchAbsent},
	{name: "errors-not-found", run: errorNotFound},
	{name: "errors-unsupported-type", run: errorType},
	{name: "errors-unsupported-namespace", run: errorNamespace},
	{name: "errors-write-denied", run: errorWrite},
	{name: "errors-watch-single-bootstrap", run: errorSingleBootstrap},
	{name: "errors-bad-bookmark", run: errorBookmark},
	{name: "errors-details-kept", run: errorDetails, standIn: true},
}

func main() {
	config := flag.String("talosconfig", "", "client configuration file")
	name := flag.String("context", "", "context in it; its current one unless given")
	endpoint := flag.String("endpoint", "", "endpoint, HOST or HOST:PORT; the context's first unless given")
	node := flag.String("node", "", "a node that the endpoint forwards to; the endpoint's host unless given")
	dead := flag.String("dead", "127.0.1.250", "an address where no node answers")
	standIn := flag.Bool("stand-in", false, "the endpoint is the stand-in of the unit tests: run the checks that need it")
	only := flag.String("run", "", "only checks whose name contains this")
	flag.Parse()

	t, err := load(*config, *name, *endpoint, *node, *dead)
	if err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(2)
	}
	failed, ran, skipped := 0, 0, 0
	for _, c := range checks {
		if !strings.Contains(c.name, *only) {
			continue
		}
		if c.standIn && !*standIn {
			skipped++
			fmt.Printf("skip %s: it needs the stand-in\n", c.name)
			continue
		}
		ran++
		begin := time.Now()
		if err := guarded(c, t); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", c.name, err)
			continue
		}
		fmt.Printf("pass %s (%d ms)\n", c.name, time.Since(begin).Milliseconds())
	}
	fmt.Printf("%d checks, %d failed, %d skipped\n", ran, failed, skipped)
	if failed > 0 || ran == 0 {
		os.Exit(1)
	}
}

// guarded bounds a check: none may hang.
func guarded(c check, t *target) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.run(ctx, t) }()
	select {
	case err := <-done:
		return err
	case <-time.After(25 * time.Second):
		return errors.New("it does not end, though its context did")
	}
}
