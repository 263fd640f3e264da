package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// get asks for a URL once, or (-for) again and again, in which case it prints how often it got an
// answer and how often not, and the longest time without one.
func get(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	timeout := flags.Duration("timeout", 5*time.Second, "for one request")
	period := flags.Duration("every", 100*time.Millisecond, "pause between requests")
	total := flags.Duration("for", 0, "keep asking this long")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return fmt.Errorf("%w: get [-timeout D] [-for D [-every D]] URL", errUsage)
	}
	// One connection per request: a test wants to see each service back end.
	client := &http.Client{Timeout: *timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	once := func() (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, flags.Arg(0), nil)
		if err != nil {
			return "", err
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
		}
		return string(body), err
	}
	if *total == 0 {
		body, err := once()
		if err != nil {
			return err
		}
		_, err = io.WriteString(out, body)
		return err
	}

	var ok, failed int
	var longest time.Duration
	var last error
	start := time.Now()
	answered := start
	for time.Since(start) < *total && ctx.Err() == nil {
		if _, err := once(); err != nil {
			failed, last = failed+1, err
		} else {
			longest = max(longest, time.Since(answered))
			answered = time.Now()
			ok++
		}
		pause(ctx, *period)
	}
	longest = max(longest, time.Since(answered))
	fmt.Fprintf(out, "ok=%d failed=%d longest_gap_ms=%d\n", ok, failed, longest.Milliseconds())
	if ok == 0 {
		return fmt.Errorf("no request was answered; the last one: %w", last)
	}
	return nil
}

func lookup(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: lookup NAME", errUsage)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Fprintln(out, strings.Join(addresses, "\n"))
	return nil
}

// stream holds one TCP connection to an echo server. It sends numbers and expects the same numbers
// back in order; anything else, or silence, is a break: it says when, and fails. It never
// reconnects, since the question is whether this very stream lived.
func stream(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("stream", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	total := flags.Duration("for", 0, "end, unbroken, after this long; 0: never")
	period := flags.Duration("every", 50*time.Millisecond, "pause between messages")
	silence := flags.Duration("silence", 10*time.Second, "an answer later than this is a break")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return fmt.Errorf("%w: stream [-for D] [-every D] [-silence D] HOST:PORT", errUsage)
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", flags.Arg(0))
	if err != nil {
		return err
	}
	defer conn.Close()
	start := time.Now()
	fmt.Fprintf(out, "connected local=%s remote=%s\n", conn.LocalAddr(), conn.RemoteAddr())

	var sent, longest = uint64(0), time.Duration(0)
	for ctx.Err() == nil && (*total == 0 || time.Since(start) < *total) {
		took, err := exchange(conn, sent, *silence)
		if err != nil {
			fmt.Fprintf(out, "broken after_ms=%d messages=%d longest_ms=%d\n", time.Since(start).Milliseconds(), sent, longest.Milliseconds())
			return fmt.Errorf("the stream broke: %w", err)
		}
		sent++
		longest = max(longest, took)
		pause(ctx, *period)
	}
	fmt.Fprintf(out, "unbroken for_ms=%d messages=%d longest_ms=%d\n", time.Since(start).Milliseconds(), sent, longest.Milliseconds())
	return nil
}

// exchange sends one number and waits for it to come back.
func exchange(conn net.Conn, number uint64, silence time.Duration) (time.Duration, error) {
	start := time.Now()
	if err := conn.SetDeadline(start.Add(silence)); err != nil {
		return 0, err
	}
	var message, answer [8]byte
	binary.BigEndian.PutUint64(message[:], number)
	if _, err := conn.Write(message[:]); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the other end closed it")
		}
		return 0, err
	}
	if answer != message {
		return 0, fmt.Errorf("sent %x, got %x back", message, answer)
	}
	return time.Since(start), nil
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
