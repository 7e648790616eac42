package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/varve-dev/varve/test/child"
)

// The keys of versitygw.
const (
	accessKey = "varve"
	secretKey = "varve-secret"
)

// everyday is a bucket that S3 and GCS have from the start, for tests that cannot make one: to both, a
// folder is a bucket.
const everyday = "everyday"

// servers are running until stop.
type servers struct {
	dir            string
	s3, gcs, azure string // host and port
	children       []*child.Child
}

// attempts is how often a start is tried. A port that was free when it was chosen may be taken when it
// is used.
const attempts = 3

// patience is how long a server may take until it listens.
const patience = 2 * time.Minute

// start starts all servers and returns when they listen. On an error nothing is left running.
func start(ctx context.Context, p programs) (*servers, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var failed error
	for range attempts {
		s, err := startOnce(ctx, p)
		if err == nil {
			return s, nil
		}
		failed = err
		if ended := new(child.EndedError); !errors.As(err, &ended) || ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("start the servers: %w", failed)
}

func startOnce(ctx context.Context, p programs) (_ *servers, err error) {
	dir, err := os.MkdirTemp("", "varve-stores-")
	if err != nil {
		return nil, err
	}
	s := &servers{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	ports, err := child.FreePorts(3)
	if err != nil {
		return nil, err
	}
	for i, address := range []*string{&s.s3, &s.gcs, &s.azure} {
		*address = fmt.Sprintf("127.0.0.1:%d", ports[i])
	}
	for _, folder := range []string{"s3/" + everyday, "s3/varve-outage", "s3-versions", "gcs/" + everyday, "azure"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return nil, err
		}
	}
	for _, program := range s.programs(p, ports) {
		c, err := child.Start(program)
		if err != nil {
			return nil, err
		}
		s.children = append(s.children, c)
	}
	return s, s.listening(ctx)
}

func (s *servers) programs(p programs, ports []int) []child.Program {
	log := func(name string) string { return filepath.Join(s.dir, name+".log") }
	return []child.Program{
		{
			// The folder for versions is what makes Object Lock and versioning work, bucket by bucket.
			Path: p.versitygw, Log: log("versitygw"), Env: append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey),
			Args: []string{"--port", s.s3, "--quiet", "posix", "--versioning-dir", filepath.Join(s.dir, "s3-versions"), filepath.Join(s.dir, "s3")},
		}, {
			Path: p.fakeGCS, Log: log("fake-gcs-server"),
			Args: []string{
				"-scheme", "http", "-host", "127.0.0.1", "-port", fmt.Sprint(ports[1]), "-backend", "memory", "-data", filepath.Join(s.dir, "gcs"),
				"-public-host", s.gcs, "-external-url", "http://" + s.gcs, "-log-level", "error",
			},
		}, {
			Path: p.azurite, Log: log("azurite"),
			Args: []string{
				"--blobHost", "127.0.0.1", "--blobPort", fmt.Sprint(ports[2]), "--location", filepath.Join(s.dir, "azure"),
				"--disableTelemetry", "--silent", "--skipApiVersionCheck",
			},
		},
	}
}

// listening returns when all servers do.
func (s *servers) listening(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, address := range []string{s.s3, s.gcs, s.azure} {
		for {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				c.Close()
				break
			}
			if ended := s.running(); ended != nil {
				return ended
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("waiting for %s: %w", address, ctx.Err())
			case <-tick.C:
			}
		}
	}
	return s.running() // another program may have taken a port meanwhile
}

// running returns nil as long as all servers run.
func (s *servers) running() error {
	var ended error
	for _, c := range s.children {
		ended = errors.Join(ended, c.Running())
	}
	return ended
}

// environment tells a command where the servers are.
func (s *servers) environment() []string {
	return []string{
		"VARVE_TEST_S3=http://" + s.s3,
		"VARVE_TEST_GCS=http://" + s.gcs,
		"VARVE_TEST_AZURE=http://" + s.azure + "/devstoreaccount1",
	}
}

// stop ends the servers and removes their data.
func (s *servers) stop() error {
	for _, c := range s.children {
		c.Kill()
	}
	s.children = nil
	return os.RemoveAll(s.dir)
}
