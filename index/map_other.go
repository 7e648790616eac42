//go:build !unix

package index

import "os"

// mapFile reads the file into memory, where files cannot be mapped.
func mapFile(path string) (data []byte, unmap func([]byte) error, err error) {
	data, err = os.ReadFile(path)
	return data, func([]byte) error { return nil }, err
}
