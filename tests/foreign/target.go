package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"gopkg.in/yaml.v3"

	"orlop.dev/foreign/gen/cosi"
	"orlop.dev/foreign/gen/machine"
)

const maxMessage = 32 << 20

// target is the endpoint under test and how to reach it.
type target struct {
	address string // host:port of the endpoint
	host    string
	node    string
	dead    string
	roots   *x509.CertPool
	cert    tls.Certificate
	conn    *grpc.ClientConn
}

type configFile struct {
	Context  string `yaml:"context"`
	Contexts map[string]struct {
		Endpoints []string `yaml:"endpoints"`
		CA        string   `yaml:"ca"`
		Crt       string   `yaml:"crt"`
		Key       string   `yaml:"key"`
	} `yaml:"contexts"`
}

func load(path, name, endpoint, node, dead string) (*target, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--talosconfig: %w", err)
	}
	var file configFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if name == "" {
		name = file.Context
	}
	c, ok := file.Contexts[name]
	if !ok {
		return nil, fmt.Errorf("%s: no context %q", path, name)
	}
	if endpoint == "" {
		if len(c.Endpoints) == 0 {
			return nil, fmt.Errorf("%s: context %q has no endpoints, and --endpoint is not given", path, name)
		}
		endpoint = c.Endpoints[0]
	}
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		host, endpoint = endpoint, net.JoinHostPort(endpoint, "50000")
	}
	if node == "" {
		node = host
	}
	t := &target{address: endpoint, host: host, node: node, dead: dead, roots: x509.NewCertPool()}
	ca, err1 := base64.StdEncoding.DecodeString(c.CA)
	crt, err2 := base64.StdEncoding.DecodeString(c.Crt)
	key, err3 := base64.StdEncoding.DecodeString(c.Key)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("%s: context %q: %w", path, name, err)
	}
	if !t.roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s: context %q: no CA certificate", path, name)
	}
	if t.cert, err = keyPair(crt, key); err != nil {
		return nil, err
	}
	t.conn, err = grpc.NewClient(t.address,
		grpc.WithTransportCredentials(credentials.NewTLS(t.tls())),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	return t, err
}

// keyPair reads a pair whose Ed25519 key may carry a label of its own.
func keyPair(crt, key []byte) (tls.Certificate, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return tls.Certificate{}, errors.New("the key is no PEM")
	}
	if block.Type == "ED25519 PRIVATE KEY" {
		block.Type = "PRIVATE KEY"
	}
	return tls.X509KeyPair(crt, pem.EncodeToMemory(block))
}

func (t *target) tls() *tls.Config {
	return &tls.Config{RootCAs: t.roots, Certificates: []tls.Certificate{t.cert}, MinVersion: tls.VersionTLS12}
}

func (t *target) machine() machine.MachineServiceClient { return machine.NewMachineServiceClient(t.conn) }
func (t *target) state() cosi.StateClient               { return cosi.NewStateClient(t.conn) }

// with adds metadata to a call.
func with(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// short is a context for a call that may go on for ever.
func short(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 3*time.Second)
}

// expect demands that an error is a status of this code whose message contains these words.
func expect(err error, code codes.Code, words string) error {
	if err == nil {
		return fmt.Errorf("expected %s, found success", code)
	}
	s := status.Convert(err)
	if s.Code() != code || !strings.Contains(s.Message(), words) {
		return fmt.Errorf("expected %s with %q, found %s: %s", code, words, s.Code(), s.Message())
	}
	return nil
}
