package main

import (
	"context"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func call(t *testing.T, args ...string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out strings.Builder
	code, err := run(ctx, args, &out)
	return code, out.String(), err
}

func TestExitCodesAreWhatIsAskedFor(t *testing.T) {
	for arg, want := range map[string]int{"0": 0, "7": 7, "255": 255, "256": 2, "x": 2} {
		if code, _, _ := call(t, "exit", arg); code != want {
			t.Errorf("exit %s: code %d, expected %d", arg, code, want)
		}
	}
	if code, _, err := call(t, "frobnicate"); code != 2 || err == nil {
		t.Errorf("unknown verb: code %d, error %v", code, err)
	}
}

func TestGetPrintsWhoAnswered(t *testing.T) {
	server := httptest.NewServer(handler("pod-1"))
	defer server.Close()
	code, out, err := call(t, "client", "get", server.URL+"/x")
	if code != 0 || err != nil || !strings.HasPrefix(out, "host=pod-1 path=/x from=127.0.0.1:") {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}

func TestGetCountsWhatFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	code, out, err := call(t, "get", "-for", "300ms", "-every", "50ms", "http://"+address)
	if code != 1 || err == nil || !strings.HasPrefix(out, "ok=0 failed=") {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}

func echoServer(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = echo(listener) }()
	t.Cleanup(func() { listener.Close() })
	return listener
}

func TestStreamThatLives(t *testing.T) {
	listener := echoServer(t)
	code, out, err := call(t, "stream", "-for", "200ms", "-every", "10ms", listener.Addr().String())
	if code != 0 || err != nil || !strings.Contains(out, "unbroken for_ms=") {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}

func TestStreamThatBreaksSaysWhen(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			time.Sleep(50 * time.Millisecond)
			conn.Close()
		}
	}()
	code, out, err := call(t, "stream", listener.Addr().String())
	if code != 1 || err == nil || !strings.Contains(out, "broken after_ms=") {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}

func TestSilenceIsABreak(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	code, out, err := call(t, "stream", "-silence", "100ms", listener.Addr().String())
	if code != 1 || err == nil || !strings.Contains(out, "broken") {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}

func TestFilesComeBackAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if code, _, err := call(t, "write", path, "some text"); code != 0 {
		t.Fatalf("code %d, error %v", code, err)
	}
	if code, out, err := call(t, "read", path); code != 0 || out != "some text\n" {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}
