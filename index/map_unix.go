//go:build unix

package index

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile gives the bytes of a file without reading them into memory, and what to call when they are
// no longer needed. The file must not be changed in place, only replaced or removed.
func mapFile(path string) (data []byte, unmap func([]byte) error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > math.MaxInt {
		return nil, nil, fmt.Errorf("%s: %s of %d bytes: %w", path, info.Mode(), info.Size(), errDamaged)
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", path, err)
	}
	return data, unix.Munmap, nil
}
