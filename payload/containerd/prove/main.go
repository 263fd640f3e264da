// The client of xtask's sandbox: pulls images as kubelet and as machined do, and runs some in pods. Prints one line of key=value pairs per finding.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/transfer/image"
	"github.com/containerd/containerd/v2/core/transfer/registry"
	"github.com/containerd/platforms"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runs are what -run names: "IMAGE COMMAND ARGUMENT…".
type runs []string

func (r *runs) String() string     { return strings.Join(*r, ", ") }
func (r *runs) Set(v string) error { *r = append(*r, v); return nil }

// asked is what the command line asks for, in the order it is done.
type asked struct {
	socket, logs string
	pull         []string // over CRI, as kubelet does
	pullSystem   []string // through the transfer service, as machined does
	have         []string // must be there already
	run          runs
}

func main() {
	var a asked
	list := func(to *[]string) func(string) error {
		return func(v string) error { *to = strings.Split(v, ","); return nil }
	}
	flag.StringVar(&a.socket, "socket", "/run/containerd/containerd.sock", "containerd's socket")
	flag.StringVar(&a.logs, "logs", "/tmp", "directory for the containers' output")
	flag.Func("pull", "images to pull over CRI, separated by commas", list(&a.pull))
	flag.Func("pull-system", "images to pull into the namespace system", list(&a.pullSystem))
	flag.Func("have", "images that must be there", list(&a.have))
	flag.Var(&a.run, "run", "image and command to run; may be repeated")
	timeout := flag.Duration("timeout", 3*time.Minute, "for everything")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := prove(ctx, a); err != nil {
		fmt.Fprintf(os.Stderr, "prove-images: %v\n", err)
		os.Exit(1)
	}
}

func prove(ctx context.Context, a asked) error {
	conn, err := grpc.NewClient("unix://"+a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	images := cri.NewImageServiceClient(conn)
	if err := each(a.pull, "pulled", func(image string) error {
		_, err := images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}})
		return err
	}); err != nil {
		return err
	}
	if err := pullSystem(ctx, a.socket, a.pullSystem); err != nil {
		return err
	}
	if err := each(a.have, "have", func(image string) error {
		status, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
		if err == nil && status.Image == nil {
			err = errors.New("containerd does not have it")
		}
		return err
	}); err != nil {
		return err
	}
	for n, run := range a.run {
		words := strings.Fields(run)
		if err := runPod(ctx, cri.NewRuntimeServiceClient(conn), a.logs, fmt.Sprintf("prove-%d", n), words[0], words[1:]); err != nil {
			return err
		}
	}
	return nil
}

// each does something to each image and says how long it took.
func each(images []string, what string, do func(string) error) error {
	if len(images) == 0 {
		return nil
	}
	start := time.Now()
	for _, image := range images {
		began := time.Now()
		if err := do(image); err != nil {
			return fmt.Errorf("%s: %w", image, err)
		}
		fmt.Printf("%s=%s ms=%.1f\n", what, image, milliseconds(began))
	}
	fmt.Printf("%s_images=%d total_ms=%.1f\n", what, len(images), milliseconds(start))
	return nil
}

// pullSystem pulls into the namespace that machined's own containers live in.
func pullSystem(ctx context.Context, socket string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	c, err := client.New(socket, client.WithDefaultNamespace("system"))
	if err != nil {
		return err
	}
	defer c.Close()
	return each(names, "pulled_system", func(name string) error {
		from, err := registry.NewOCIRegistry(ctx, name, registry.WithHostDir("/etc/cri/conf.d/hosts"))
		if err != nil {
			return err
		}
		to := image.NewStore(name, image.WithPlatforms(platforms.DefaultSpec()), image.WithUnpack(platforms.DefaultSpec(), "erofs"))
		return c.Transfer(ctx, from, to)
	})
}

// runPod runs the command in a pod on the host's network, which needs no CNI, and waits for its end.
func runPod(ctx context.Context, client cri.RuntimeServiceClient, logs, name, ref string, command []string) error {
	start := time.Now()
	pod := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		LogDirectory: logs,
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
		}},
	}
	sandbox, err := client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod})
	if err != nil {
		return fmt.Errorf("starting a pod: %w", err)
	}
	fmt.Printf("run=%q sandbox_ms=%.1f ", strings.Join(command, " "), milliseconds(start))
	start = time.Now()
	container, err := client.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: sandbox.PodSandboxId,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name},
			Image:    &cri.ImageSpec{Image: ref},
			Command:  command,
			LogPath:  name + ".log",
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
			}},
		},
		SandboxConfig: pod,
	})
	if err != nil {
		return fmt.Errorf("making a container of %s: %w", ref, err)
	}
	if _, err := client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: container.ContainerId}); err != nil {
		return fmt.Errorf("starting a container of %s: %w", ref, err)
	}
	fmt.Printf("container_ms=%.1f\n", milliseconds(start))
	code, err := exitCode(ctx, client, container.ContainerId)
	if err != nil {
		return err
	}
	if err := show(filepath.Join(logs, name+".log")); err != nil {
		return err
	}
	if _, err := client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: sandbox.PodSandboxId}); err != nil {
		return fmt.Errorf("stopping the pod: %w", err)
	}
	if _, err := client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: sandbox.PodSandboxId}); err != nil {
		return fmt.Errorf("removing the pod: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("%q in %s ended with code %d", command, ref, code)
	}
	return nil
}

func exitCode(ctx context.Context, client cri.RuntimeServiceClient, id string) (int32, error) {
	for {
		status, err := client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return 0, fmt.Errorf("waiting for the container: %w", err)
		}
		if status.Status.State == cri.ContainerState_CONTAINER_EXITED {
			return status.Status.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting for the container to end, state %v: %w", status.Status.State, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// show prints a CRI log: each line is a time, a stream's name, a tag and the text.
func show(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(content)) {
		if parts := strings.SplitN(strings.TrimSpace(line), " ", 4); len(parts) == 4 {
			fmt.Printf("printed=%s\n", parts[3])
		}
	}
	return nil
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }
