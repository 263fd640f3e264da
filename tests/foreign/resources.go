package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"orlop.dev/foreign/gen/cosi"
)

// known is a resource that every node has.
var known = struct{ namespace, kind, id string }{"runtime", "APIServiceConfigs.runtime.talos.dev", "apid"}

func resourceGet(ctx context.Context, t *target) error {
	reply, err := t.state().Get(with(ctx, "node", t.node), &cosi.GetRequest{Namespace: known.namespace, Type: known.kind, Id: known.id})
	if err != nil {
		return err
	}
	md, spec := reply.GetResource().GetMetadata(), reply.GetResource().GetSpec()
	if md.GetId() != known.id || md.GetType() != known.kind || md.GetPhase() != "running" || md.GetVersion() == "" || md.GetVersion() == "undefined" {
		return fmt.Errorf("unexpected metadata %v", md)
	}
	if !strings.Contains(spec.GetYamlSpec(), "listenAddress:") || len(spec.GetProtoSpec()) == 0 {
		return fmt.Errorf("expected the spec in both forms, found %v", spec)
	}
	return nil
}

func resourceList(ctx context.Context, t *target) error {
	stream, err := t.state().List(with(ctx, "node", t.node), &cosi.ListRequest{Namespace: known.namespace, Type: known.kind})
	if err != nil {
		return err
	}
	var ids []string
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		ids = append(ids, reply.GetResource().GetMetadata().GetId())
	}
	if len(ids) != 1 || ids[0] != known.id {
		return fmt.Errorf("expected [%s], found %v", known.id, ids)
	}
	return nil
}

type watch = interface {
	Recv() (*cosi.WatchResponse, error)
}

// open starts a watch and takes its first message, which must be empty.
func open(ctx context.Context, t *target, request *cosi.WatchRequest) (watch, error) {
	stream, err := t.state().Watch(with(ctx, "node", t.node), request)
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if proto.Size(first) != 0 {
		return nil, fmt.Errorf("expected an empty first message, found %v", first)
	}
	return stream, nil
}

func watchFirstEmpty(ctx context.Context, t *target) error {
	ctx, cancel := short(ctx)
	defer cancel()
	_, err := open(ctx, t, &cosi.WatchRequest{Namespace: known.namespace, Type: known.kind, ApiVersion: 1})
	return err
}

// types reads events until there are n or no more come in time.
func types(stream watch, n int) ([]cosi.EventType, error) {
	var all []cosi.EventType
	for len(all) < n {
		reply, err := stream.Recv()
		if err != nil {
			return all, err
		}
		for _, e := range reply.GetEvent() {
			all = append(all, e.GetEventType())
		}
	}
	return all, nil
}

func bootstrap(aggregated bool, version int32) *cosi.WatchRequest {
	return &cosi.WatchRequest{
		Namespace: known.namespace, Type: known.kind, ApiVersion: version,
		Options: &cosi.WatchOptions{BootstrapContents: true, Aggregated: aggregated},
	}
}

func watchBootstrapped(ctx context.Context, t *target) error {
	for _, aggregated := range []bool{false, true} {
		ctx, cancel := short(ctx)
		defer cancel()
		stream, err := open(ctx, t, bootstrap(aggregated, 1))
		if err != nil {
			return err
		}
		got, err := types(stream, 2)
		if err != nil {
			return fmt.Errorf("after %v: %w", got, err)
		}
		if got[0] != cosi.EventType_CREATED || got[1] != cosi.EventType_BOOTSTRAPPED {
			return fmt.Errorf("expected CREATED and BOOTSTRAPPED, found %v", got)
		}
	}
	return nil
}

// watchOldClient: a client of the first version of the protocol is told nothing that it does not know.
func watchOldClient(ctx context.Context, t *target) error {
	ctx, cancel := short(ctx)
	defer cancel()
	stream, err := open(ctx, t, bootstrap(false, 0))
	if err != nil {
		return err
	}
	got, err := types(stream, 2)
	if status.Code(err) != codes.DeadlineExceeded || len(got) != 1 || got[0] != cosi.EventType_CREATED {
		return fmt.Errorf("expected CREATED and then silence, found %v, %v", got, err)
	}
	return nil
}

func watchAbsent(ctx context.Context, t *target) error {
	ctx, cancel := short(ctx)
	defer cancel()
	id := "no-such-id"
	stream, err := open(ctx, t, &cosi.WatchRequest{Namespace: known.namespace, Type: known.kind, Id: &id, ApiVersion: 1})
	if err != nil {
		return err
	}
	reply, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(reply.Event) != 1 || reply.Event[0].EventType != cosi.EventType_DESTROYED || reply.Event[0].Resource.GetMetadata().GetId() != id {
		return fmt.Errorf("expected one DESTROYED event for %s, found %v", id, reply)
	}
	if spec := reply.Event[0].Resource.GetSpec(); len(spec.GetProtoSpec()) != 0 || spec.GetYamlSpec() != "" {
		return fmt.Errorf("a tombstone has no spec, found %v", spec)
	}
	return nil
}

func errorNotFound(ctx context.Context, t *target) error {
	_, err := t.state().Get(ctx, &cosi.GetRequest{Namespace: known.namespace, Type: known.kind, Id: "no-such-id"})
	return expect(err, codes.NotFound, "")
}

func errorType(ctx context.Context, t *target) error {
	_, err := t.state().Get(ctx, &cosi.GetRequest{Namespace: known.namespace, Type: "Nothings.example.org", Id: "x"})
	return expect(err, codes.PermissionDenied, `resource type "Nothings.example.org" is not supported`)
}

func errorNamespace(ctx context.Context, t *target) error {
	_, err := t.state().Get(ctx, &cosi.GetRequest{Namespace: "nowhere", Type: known.kind, Id: "x"})
	return expect(err, codes.PermissionDenied, `namespace "nowhere" is not supported`)
}

func errorWrite(ctx context.Context, t *target) error {
	resource := &cosi.Resource{
		Metadata: &cosi.Metadata{Namespace: known.namespace, Type: known.kind, Id: "x", Version: "undefined", Phase: "running"},
		Spec:     &cosi.Spec{},
	}
	_, create := t.state().Create(ctx, &cosi.CreateRequest{Resource: resource})
	_, update := t.state().Update(ctx, &cosi.UpdateRequest{NewResource: resource})
	_, destroy := t.state().Destroy(ctx, &cosi.DestroyRequest{Namespace: known.namespace, Type: known.kind, Id: known.id})
	_, teardown := t.state().Teardown(ctx, &cosi.TeardownRequest{Namespace: known.namespace, Type: known.kind, Id: known.id})
	for _, err := range []error{create, update, destroy, teardown} {
		if err := expect(err, codes.PermissionDenied, "write access is not allowed"); err != nil {
			return err
		}
	}
	return nil
}

// recvError is the error with which a watch ends before it tells anything.
func recvError(ctx context.Context, t *target, request *cosi.WatchRequest) error {
	stream, err := t.state().Watch(ctx, request)
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

func errorSingleBootstrap(ctx context.Context, t *target) error {
	id := known.id
	err := recvError(ctx, t, &cosi.WatchRequest{
		Namespace: known.namespace, Type: known.kind, Id: &id, ApiVersion: 1, Options: &cosi.WatchOptions{BootstrapContents: true},
	})
	return expect(err, codes.Unimplemented, "")
}

func errorBookmark(ctx context.Context, t *target) error {
	err := recvError(ctx, t, &cosi.WatchRequest{
		Namespace: known.namespace, Type: known.kind, ApiVersion: 1, Options: &cosi.WatchOptions{StartFromBookmark: []byte("nonsense")},
	})
	return expect(err, codes.FailedPrecondition, "")
}
