// Package child runs programs that a test needs and ends with certainty: each in a process group of its
// own, each killed when its parent dies, on Linux at least.
package child

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// A Program is what Start starts.
type Program struct {
	Path string
	Args []string
	Env  []string // nil: that of the parent
	Log  string   // a file for what it prints
}

// Name is the last part of the path.
func (p Program) Name() string { return filepath.Base(p.Path) }

// A Child is a running program, in a process group of its own: a signal that a terminal sends to the
// caller does not reach it, so it is the caller that ends it.
type Child struct {
	Program Program
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process is gone
	err     error         // how it ended; read after ended is closed
}

// Start starts a program.
func Start(p Program) (*Child, error) {
	log, err := os.Create(p.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &Child{Program: p, cmd: exec.Command(p.Path, p.Args...), ended: make(chan struct{})}
	c.cmd.Env = p.Env
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
		return nil, fmt.Errorf("start %s: %w", p.Name(), err)
	}
	return c, nil
}

// Kill ends the program and all that it started, and waits until it is gone.
func (c *Child) Kill() {
	select {
	case <-c.ended: // its number may belong to somebody else by now
	default:
		syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.ended
	}
}

// Running returns nil as long as the program runs, and then an [EndedError].
func (c *Child) Running() error {
	select {
	case <-c.ended:
		return &EndedError{name: c.Program.Name(), err: c.err, log: c.Tail()}
	default:
		return nil
	}
}

// Tail returns the last lines that the program printed.
func (c *Child) Tail() string {
	content, err := os.ReadFile(c.Program.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// An EndedError says that a program ended that should run.
type EndedError struct {
	name string
	err  error
	log  string // its last lines
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("%s ended (%v); its last words:\n%s", e.name, e.err, e.log)
}

func (e *EndedError) Unwrap() error { return e.err }
