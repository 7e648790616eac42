//go:build !linux

package files

import (
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Backup needs openat2 and so works on Linux only.
func Backup(context.Context, Source, *content.Assembler, *tree.Map, Options) (Report, error) {
	return Report{}, fmt.Errorf("back up files: %w on this system", errors.ErrUnsupported)
}

// Restore needs openat2 and so works on Linux only.
func Restore(context.Context, *tree.Map, *content.Reader, string, RestoreOptions) (RestoreReport, error) {
	return RestoreReport{}, fmt.Errorf("restore files: %w on this system", errors.ErrUnsupported)
}
