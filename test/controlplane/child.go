package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A child is one program of the control plane, in a process group of its own: a signal that a
// terminal sends to the caller does not reach it, so it is Stop that ends it.
type child struct {
	program program
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process is gone
	err     error         // how it ended; read after ended is closed
}

func startChild(p program) (*child, error) {
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &child{program: p, cmd: exec.Command(p.path, p.args...), ended: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = processAttributes()
	started := make(chan error)
	go func() {
		// "The parent", whose death kills the child, is for Linux the thread that started it. So
		// this thread does nothing else and lives as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
			close(c.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(p.path), err)
	}
	return c, nil
}

func (c *child) kill() {
	select {
	case <-c.ended: // its number may belong to somebody else by now
	default:
		syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// An endedError says that a program ended that should run.
type endedError struct {
	name string
	err  error
	log  string // its last lines
}

func (e *endedError) Error() string {
	return fmt.Sprintf("%s ended (%v); its last words:\n%s", e.name, e.err, e.log)
}

func (e *endedError) Unwrap() error { return e.err }

// await returns when the API server answers path with 200.
func (cp *ControlPlane) await(ctx context.Context, client *http.Client, path string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if serves(ctx, client, cp.access.Server+path) {
			return nil
		}
		for _, c := range cp.children {
			select {
			case <-c.ended:
				return &endedError{filepath.Base(c.program.path), c.err, tail(c.program.log)}
			default:
			}
		}
		select {
		case <-ctx.Done():
			last := cp.children[len(cp.children)-1].program
			return fmt.Errorf("waiting for %s: %w; the last words of %s:\n%s",
				path, ctx.Err(), filepath.Base(last.path), tail(last.log))
		case <-tick.C:
		}
	}
}

func serves(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err == nil && answer.StatusCode == http.StatusOK
}

// tail returns the last lines of a log.
func tail(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
