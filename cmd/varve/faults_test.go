package main

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/dial"
)

// faultVariable tells a process of the program what befalls it: the text of a [fault].
const faultVariable = "VARVE_TEST_FAULT"

// A phase is where in a request a process fails.
type phase string

const (
	never   phase = "never"   // all goes well; requests are only written down
	before  phase = "before"  // killed before the request
	halfway phase = "halfway" // killed while the bytes of an object are written, before it has its name
	after   phase = "after"   // killed when the request has had its effect, before anybody knows
	stuck   phase = "stuck"   // killed before the effect, but only when all that does not wait for it is done
	full    phase = "full"    // from the n-th Create on, the disk is full
)

// counts reports whether a request of this kind has this phase.
func (m phase) counts(kind string) bool {
	return m == never || m == before || m == after || kind == "create" || kind == "delete" && m == stuck
}

// stuckTime is long for all that a process does meanwhile.
const stuckTime = 300 * time.Millisecond

// A fault ends a process, or fills its disk, at the n-th of its requests to all buckets together, from 1.
// The requests that count are written to a file, one in a line.
type fault struct {
	phase phase
	n     int
	log   string

	mu   sync.Mutex
	seen int
}

func (f *fault) String() string { return fmt.Sprintf("%s %d %s", f.phase, f.n, f.log) }

// faultOf reads what String made, or nothing.
func faultOf(text string) (*fault, error) {
	if text == "" {
		return nil, nil
	}
	f := new(fault)
	_, err := fmt.Sscanf(text, "%s %d %s", &f.phase, &f.n, &f.log)
	return f, err
}

// dial opens a bucket that fails as f says.
func (f *fault) dial(ctx context.Context, url string, o dial.Options) (storage.Bucket, error) {
	b, err := dial.Open(ctx, url, o)
	if err != nil {
		return nil, err
	}
	return &failing{b, f}, nil
}

// count returns the number of a request, or 0 for one that does not count.
func (f *fault) count(kind, name string) int {
	if !f.phase.counts(kind) {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	log, err := os.OpenFile(f.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(log, "%s %s\n", kind, name)
		_ = log.Close() // a lost line is missed by the test
	}
	if err != nil {
		panic(err)
	}
	return f.seen
}

// at kills the process if its fault is here.
func (f *fault) at(m phase, n int) {
	if f.phase == m && f.n == n {
		if m == stuck {
			time.Sleep(stuckTime)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}

// failing is a bucket under a fault.
type failing struct {
	storage.Bucket
	fault *fault
}

func (b *failing) Create(ctx context.Context, name string, data []byte) error {
	n := b.fault.count("create", name)
	b.fault.at(before, n)
	b.fault.at(stuck, n)
	if b.fault.phase == full && n >= b.fault.n {
		return fmt.Errorf("create %s: %w", name, &fs.PathError{Op: "write", Path: b.path(name), Err: syscall.ENOSPC})
	}
	if b.fault.phase == halfway && b.fault.n == n {
		b.leaveHalf(name, data)
		b.fault.at(halfway, n)
	}
	err := b.Bucket.Create(ctx, name, data)
	b.fault.at(after, n)
	return err
}

func (b *failing) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	n := b.fault.count("get", name)
	b.fault.at(before, n)
	data, err := b.Bucket.Get(ctx, name, offset, length)
	b.fault.at(after, n)
	return data, err
}

func (b *failing) Stat(ctx context.Context, name string) (storage.Info, error) {
	n := b.fault.count("stat", name)
	b.fault.at(before, n)
	info, err := b.Bucket.Stat(ctx, name)
	b.fault.at(after, n)
	return info, err
}

func (b *failing) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		n := b.fault.count("list", prefix)
		b.fault.at(before, n)
		for info, err := range b.Bucket.List(ctx, prefix, startAfter) {
			if !yield(info, err) {
				break
			}
		}
		b.fault.at(after, n)
	}
}

func (b *failing) Delete(ctx context.Context, name string) error {
	n := b.fault.count("delete", name)
	b.fault.at(before, n)
	b.fault.at(stuck, n)
	err := b.Bucket.Delete(ctx, name)
	b.fault.at(after, n)
	return err
}

// path is the file of an object in a bucket that is a folder.
func (b *failing) path(name string) string {
	return filepath.Join(strings.TrimPrefix(b.String(), "dir://"), filepath.FromSlash(name))
}

// leaveHalf leaves what a driver leaves that dies while it writes: a temporary file that is half an
// object, in a folder that may be new.
func (b *failing) leaveHalf(name string, data []byte) {
	folder := filepath.Dir(b.path(name))
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, ".tmp-half"), data[:len(data)/2], 0o600)
	}
	if err != nil {
		panic(err)
	}
}
