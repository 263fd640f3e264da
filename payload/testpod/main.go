// What the end-to-end tests run in pods: a server to talk to and a client that talks and says what
// it saw, in one static binary without a shell around it.
//
//	testpod [serve]                  HTTP on :8080 (answers with its host name), TCP echo on :9090
//	testpod get URL                  prints the body; -for keeps asking and counts
//	testpod lookup NAME              prints the addresses, one per line
//	testpod stream HOST:PORT         holds one TCP stream, a byte sequence to and fro; says when it breaks
//	testpod write FILE | read FILE   a line of text in, and out again
//	testpod alloc MEBIBYTES          holds that much memory, touched
//	testpod sleep [SECONDS]          for ever without an argument
//	testpod exit CODE
//
// Results go to standard output as one line of key=value pairs, for tests to read.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// errUsage marks a command line that was not understood.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "testpod: %v\n", err)
	}
	os.Exit(code)
}

// run does what args ask for and returns the exit code: 0 done, 1 failed, 2 not understood.
func run(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) == 0 {
		args = []string{"serve"}
	}
	verbs := map[string]func(context.Context, []string, io.Writer) error{
		"serve":  serve,
		"get":    get,
		"lookup": lookup,
		"stream": stream,
		"write":  writeFile,
		"read":   readFile,
		"alloc":  alloc,
		"sleep":  sleep,
	}
	verb, rest := args[0], args[1:]
	if verb == "client" && len(rest) > 0 { // `testpod client get …` reads well in a manifest
		verb, rest = rest[0], rest[1:]
	}
	if verb == "exit" {
		return exit(rest)
	}
	do, ok := verbs[verb]
	if !ok {
		return 2, fmt.Errorf("%w: unknown verb %q", errUsage, verb)
	}
	switch err := do(ctx, rest, out); {
	case err == nil:
		return 0, nil
	case errors.Is(err, errUsage):
		return 2, err
	default:
		return 1, err
	}
}

func exit(args []string) (int, error) {
	if len(args) != 1 {
		return 2, fmt.Errorf("%w: exit CODE", errUsage)
	}
	code, err := strconv.Atoi(args[0])
	if err != nil || code < 0 || code > 255 {
		return 2, fmt.Errorf("%w: exit code %q, expected 0 to 255", errUsage, args[0])
	}
	return code, nil
}

func sleep(ctx context.Context, args []string, _ io.Writer) error {
	if len(args) == 0 {
		<-ctx.Done()
		return nil
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return fmt.Errorf("%w: sleep [SECONDS]: %v", errUsage, err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(seconds * float64(time.Second))):
	}
	return nil
}

// alloc holds memory until it is told to stop, or killed for it: that is what the test is about.
func alloc(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: alloc MEBIBYTES", errUsage)
	}
	mebibytes, err := strconv.Atoi(args[0])
	if err != nil || mebibytes < 0 {
		return fmt.Errorf("%w: alloc %q, expected a number of MiB", errUsage, args[0])
	}
	var held [][]byte
	for range mebibytes {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
	}
	fmt.Fprintf(out, "held_mib=%d\n", len(held))
	<-ctx.Done()
	fmt.Fprintf(out, "released_mib=%d\n", len(held))
	return nil
}

func writeFile(_ context.Context, args []string, _ io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: write FILE TEXT", errUsage)
	}
	return os.WriteFile(args[0], []byte(args[1]+"\n"), 0o644)
}

func readFile(_ context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: read FILE", errUsage)
	}
	content, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	return err
}
