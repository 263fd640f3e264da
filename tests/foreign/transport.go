package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"

	"orlop.dev/foreign/gen/machine"
)

// alpn: HTTP/2 is agreed on by name, in TLS 1.3; a client that offers something else only is refused.
func alpn(ctx context.Context, t *target) error {
	dial := func(protocols ...string) (tls.ConnectionState, error) {
		config := t.tls()
		config.NextProtos = protocols
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: config}
		conn, err := dialer.DialContext(ctx, "tcp", t.address)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState(), nil
	}
	state, err := dial("h2")
	if err != nil {
		return err
	}
	if state.NegotiatedProtocol != "h2" || state.Version != tls.VersionTLS13 {
		return fmt.Errorf("expected h2 in TLS 1.3, found %q in %s", state.NegotiatedProtocol, tls.VersionName(state.Version))
	}
	if _, err := dial("http/1.1"); err == nil {
		return errors.New("a client that offers http/1.1 only is accepted")
	}
	return nil
}

// refused demands that no call gets through with these certificates.
func refused(ctx context.Context, t *target, config *tls.Config) error {
	conn, err := grpc.NewClient(t.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := short(ctx)
	defer cancel()
	if _, err = machine.NewMachineServiceClient(conn).Version(ctx, &emptypb.Empty{}); err == nil {
		return errors.New("the call succeeds")
	}
	return nil
}

func noCertificate(ctx context.Context, t *target) error {
	return refused(ctx, t, &tls.Config{RootCAs: t.roots})
}

// foreignAuthority: a certificate that claims to be an administrator, signed by a CA of the same name but another key.
func foreignAuthority(ctx context.Context, t *target) error {
	now := time.Now()
	caPublic, caKey, err1 := ed25519.GenerateKey(rand.Reader)
	public, key, err2 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"talos"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Organization: []string{"os:admin"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	_ = caPublic
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, public, caKey)
	if err != nil {
		return err
	}
	// Shown whatever the server asks for: the choice is the server's to refuse.
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return refused(ctx, t, &tls.Config{RootCAs: t.roots, GetClientCertificate: show})
}
