package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/zeebo/blake3"

	"github.com/varve-dev/varve/repo/blob"
)

// A segment in the cache is a file of its plain bytes and a checksum of 32 bytes, which also covers
// the name, so that no file can stand in for another.

// errDamaged means that a file of the cache is not what was written.
var errDamaged = errors.New("damaged")

const checksumSize = 32

func segmentChecksum(hash blob.Hash, plain []byte) []byte {
	h := blake3.NewDeriveKey("varve 2026 cache segment")
	h.Write(hash[:])
	h.Write(plain)
	return h.Sum(nil)
}

// createSegmentFile puts the file in place whole or not at all, and returns what was read back of it.
// It is mapped before it gets its name, because others may remove what has one.
func createSegmentFile(path string, hash blob.Hash, plain []byte) (*Segment, error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	var s *Segment
	if err = fillSegmentFile(f, hash, plain); err == nil {
		s, err = readSegmentFile(f.Name(), hash)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return s, nil
}

func fillSegmentFile(f *os.File, hash blob.Hash, plain []byte) error {
	_, err := f.Write(plain)
	if err == nil {
		_, err = f.Write(segmentChecksum(hash, plain))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// readSegmentFile maps the file and checks it. No byte of it is believed before the checksum of all
// is found right: a row that leads to the wrong pack would let a backup rely on a pack that does not
// hold the blob.
func readSegmentFile(path string, hash blob.Hash) (*Segment, error) {
	data, unmap, err := mapFile(path)
	if err != nil {
		return nil, err
	}
	var s *Segment
	err = guarded(func() (err error) {
		s, err = parseSegmentFile(data, hash)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, unmap(data))
	}
	runtime.AddCleanup(s, func(data []byte) {
		// Fails only for what is not mapped, and then there is nothing to give back.
		_ = unmap(data)
	}, data)
	return s, nil
}

func parseSegmentFile(data []byte, hash blob.Hash) (*Segment, error) {
	n := len(data) - checksumSize
	if n < 0 || !bytes.Equal(data[n:], segmentChecksum(hash, data[:n])) {
		return nil, fmt.Errorf("wrong checksum: %w", errDamaged)
	}
	s, err := parseLayout(data[:n]) // the rows were checked before they were written
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errDamaged)
	}
	return s, nil
}

// guarded runs f and makes a panic, or a fault on mapped memory, an error that is errDamaged. It
// stands around what reads mapped files that nothing is known about yet.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: %w", p, errDamaged)
		}
	}()
	return f()
}
