package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"orlop.dev/foreign/gen/common"
	"orlop.dev/foreign/gen/cosi"
	"orlop.dev/foreign/gen/machine"
)

// plain demands one entry without metadata: what one node says to a call for one.
func plain(reply *machine.VersionResponse, err error) error {
	if err != nil {
		return err
	}
	if len(reply.Messages) != 1 || reply.Messages[0].Metadata != nil {
		return fmt.Errorf("expected one entry without metadata, found %v", reply)
	}
	if tag := reply.Messages[0].GetVersion().GetTag(); !strings.HasPrefix(tag, "v1.") {
		return fmt.Errorf("expected a version tag v1.…, found %q", tag)
	}
	return nil
}

func direct(ctx context.Context, t *target) error {
	return plain(t.machine().Version(ctx, &emptypb.Empty{}))
}

func oneNode(ctx context.Context, t *target) error {
	return plain(t.machine().Version(with(ctx, "node", t.node), &emptypb.Empty{}))
}

func nodeSingleValued(ctx context.Context, t *target) error {
	_, err := t.machine().Version(with(ctx, "node", t.node, "node", t.dead), &emptypb.Empty{})
	return expect(err, codes.InvalidArgument, "node metadata must be single-valued")
}

func nodeBareHost(ctx context.Context, t *target) error {
	_, err := t.machine().Version(with(ctx, "node", t.dead+":50000"), &emptypb.Empty{})
	return expect(err, codes.Internal, "invalid target")
}

// merged: even one node goes through merging; the name in the metadata is the one that was asked for.
func merged(ctx context.Context, t *target) error {
	for _, nodes := range [][]string{{t.node}, {t.host, t.node}} {
		call := ctx
		for _, n := range nodes {
			call = with(call, "nodes", n)
		}
		reply, err := t.machine().Version(call, &emptypb.Empty{})
		if err != nil {
			return err
		}
		if len(reply.Messages) != len(nodes) {
			return fmt.Errorf("expected %d entries, found %d", len(nodes), len(reply.Messages))
		}
		for i, m := range reply.Messages {
			md := m.GetMetadata()
			if md.GetHostname() != nodes[i] || md.GetError() != "" || m.GetVersion().GetTag() == "" {
				return fmt.Errorf("entry %d: expected node %s and its version, found %v", i, nodes[i], m)
			}
		}
	}
	return nil
}

// unavailable demands metadata that tells of a node out of reach.
func unavailable(md *common.Metadata, node string) error {
	if md.GetHostname() != node || codes.Code(md.GetStatus().GetCode()) != codes.Unavailable {
		return fmt.Errorf("expected %s Unavailable, found %v", node, md)
	}
	if !strings.HasPrefix(md.GetError(), "rpc error: code = Unavailable desc = ") {
		return fmt.Errorf("expected the text of a gRPC error, found %q", md.GetError())
	}
	return nil
}

func failureIsAnEntry(ctx context.Context, t *target) error {
	reply, err := t.machine().Version(with(ctx, "nodes", t.node, "nodes", t.dead), &emptypb.Empty{})
	if err != nil {
		return fmt.Errorf("the call as a whole must succeed: %w", err)
	}
	if len(reply.Messages) != 2 || reply.Messages[0].GetVersion() == nil {
		return fmt.Errorf("expected a version and a failure, found %v", reply)
	}
	return unavailable(reply.Messages[1].GetMetadata(), t.dead)
}

func nodesWin(ctx context.Context, t *target) error {
	reply, err := t.machine().Version(with(ctx, "node", t.dead, "nodes", t.node), &emptypb.Empty{})
	if err != nil {
		return err
	}
	if host := reply.Messages[0].GetMetadata().GetHostname(); host != t.node {
		return fmt.Errorf("expected node %s, found %q", t.node, host)
	}
	return nil
}

func manyRefused(ctx context.Context, t *target) error {
	_, err := t.state().Get(with(ctx, "nodes", t.node), &cosi.GetRequest{Namespace: known.namespace, Type: known.kind, Id: known.id})
	return expect(err, codes.InvalidArgument, "one-2-many proxying is not supported for method")
}

// streamed: each frame carries its node's name.
func streamed(ctx context.Context, t *target) error {
	ctx, cancel := short(with(ctx, "nodes", t.host, "nodes", t.node))
	defer cancel()
	events, err := t.machine().Events(ctx, &machine.EventsRequest{TailEvents: -1})
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for !(seen[t.host] && seen[t.node]) {
		event, err := events.Recv()
		if err != nil {
			return fmt.Errorf("after %v: %w", seen, err)
		}
		seen[event.GetMetadata().GetHostname()] = true
	}
	delete(seen, t.host)
	delete(seen, t.node)
	if len(seen) > 0 {
		return fmt.Errorf("frames of nobody asked for: %v", seen)
	}
	return nil
}

// streamedFailure: a node out of reach is one last frame, and the stream ends well.
func streamedFailure(ctx context.Context, t *target) error {
	logs, err := t.machine().Logs(with(ctx, "nodes", t.dead), &machine.LogsRequest{Namespace: "system", Id: "apid"})
	if err != nil {
		return err
	}
	frame, err := logs.Recv()
	if err != nil {
		return fmt.Errorf("expected a frame with the failure: %w", err)
	}
	if err := unavailable(frame.GetMetadata(), t.dead); err != nil {
		return err
	}
	if _, err := logs.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("expected the end of the stream, found %v", err)
	}
	return nil
}

// eventsBeginEmpty: the first event has no content, so that a client knows the stream is live.
func eventsBeginEmpty(ctx context.Context, t *target) error {
	ctx, cancel := short(with(ctx, "node", t.node))
	defer cancel()
	events, err := t.machine().Events(ctx, &machine.EventsRequest{})
	if err != nil {
		return err
	}
	first, err := events.Recv()
	if err != nil {
		return err
	}
	if proto.Size(first) != 0 {
		return fmt.Errorf("expected an empty event, found %v", first)
	}
	return nil
}

// eventsTypeURL: events name their type as talos/runtime/MESSAGE, and hold that message.
func eventsTypeURL(ctx context.Context, t *target) error {
	ctx, cancel := short(with(ctx, "node", t.node))
	defer cancel()
	events, err := t.machine().Events(ctx, &machine.EventsRequest{TailEvents: -1})
	if err != nil {
		return err
	}
	if _, err := events.Recv(); err != nil {
		return err
	}
	event, err := events.Recv()
	if err != nil {
		return fmt.Errorf("expected an event of the past: %w", err)
	}
	const prefix = "talos/runtime/machine."
	if !strings.HasPrefix(event.GetData().GetTypeUrl(), prefix) {
		return fmt.Errorf("expected a type %s…, found %q", prefix, event.GetData().GetTypeUrl())
	}
	if event.GetId() == "" {
		return errors.New("the event has no id")
	}
	if _, err := event.GetData().UnmarshalNew(); err != nil {
		return fmt.Errorf("%s: %w", event.GetData().GetTypeUrl(), err)
	}
	return nil
}

// largeRequest: a message just below the limit reaches the handler, whatever that thinks of it.
func largeRequest(ctx context.Context, t *target) error {
	junk := bytes.Repeat([]byte("# large\n"), (maxMessage-1024)/8)
	for _, call := range []context.Context{ctx, with(ctx, "node", t.node)} {
		_, err := t.machine().ApplyConfiguration(call, &machine.ApplyConfigurationRequest{Data: junk, DryRun: true, Mode: machine.ApplyConfigurationRequest_NO_REBOOT})
		switch code := status.Code(err); code {
		case codes.ResourceExhausted, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			return fmt.Errorf("%d bytes do not reach the handler: %w", len(junk), err)
		}
	}
	return nil
}

// largeReply: a reply just below the limit passes on each way.
func largeReply(ctx context.Context, t *target) error {
	for _, call := range []context.Context{ctx, with(ctx, "node", t.node), with(ctx, "nodes", t.node)} {
		stream, err := t.machine().Kubeconfig(call, &emptypb.Empty{})
		if err != nil {
			return err
		}
		data, err := stream.Recv()
		if err != nil {
			return err
		}
		if n := len(data.GetBytes()); n != maxMessage-64 {
			return fmt.Errorf("expected %d bytes, found %d", maxMessage-64, n)
		}
	}
	return nil
}

func unknownMethod(ctx context.Context, t *target) error {
	var conn grpc.ClientConnInterface = t.conn
	err := conn.Invoke(ctx, "/machine.MachineService/NoSuchMethod", &emptypb.Empty{}, &emptypb.Empty{})
	return expect(err, codes.Unimplemented, "")
}

// errorDetails: details of a status survive the way through the proxy, in both forms.
func errorDetails(ctx context.Context, t *target) error {
	const words = "not authorized: 100 % sure"
	_, err := t.machine().Hostname(with(ctx, "node", t.node), &emptypb.Empty{})
	if err := expect(err, codes.PermissionDenied, words); err != nil {
		return err
	}
	if n := len(status.Convert(err).Details()); n != 1 {
		return fmt.Errorf("expected one detail, found %d", n)
	}
	reply, err := t.machine().Hostname(with(ctx, "nodes", t.node), &emptypb.Empty{})
	if err != nil {
		return err
	}
	s := reply.Messages[0].GetMetadata().GetStatus()
	if codes.Code(s.GetCode()) != codes.PermissionDenied || s.GetMessage() != words || len(s.GetDetails()) != 1 {
		return fmt.Errorf("expected the status with its detail, found %v", s)
	}
	return nil
}
