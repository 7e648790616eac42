package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Policy says what a restore does with what is in the target already.
type Policy uint8

const (
	// RefuseNonEmpty restores only into an empty or new folder. An empty "lost+found" does not count.
	RefuseNonEmpty Policy = iota
	// Overwrite replaces files, each in one step. A file of the same type, size, mtime and mode, and
	// of the same owner if that can be set, counts as right and is left alone, so a restore that was
	// interrupted goes on where it was.
	// What the snapshot does not have stays. No directory is ever replaced by something else.
	Overwrite
	// KeepExisting leaves everything that is there as it is and adds what is missing.
	KeepExisting
)

// RestoreOptions say how to restore. The zero value restores everything into an empty folder.
type RestoreOptions struct {
	Policy   Policy
	Include  []string // paths in the snapshot, each with all beneath; empty: everything
	Events   Events
	Parallel int // files written at the same time; 0 means two per CPU
}

// Admit reports whether the policy lets a restore into a target, with [ErrNotEmpty] if it does not. A
// target that does not exist is good for every policy.
func Admit(target string, p Policy) error {
	if p != RefuseNonEmpty {
		return nil
	}
	entries, err := os.ReadDir(target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return fmt.Errorf("%w: %q is in it", ErrNotEmpty, e.Name())
		}
	}
	return nil
}

// RestoreReport is what a restore did.
type RestoreReport struct {
	Files       int64 // regular files written
	Directories int64
	Symlinks    int64
	Specials    int64 // FIFOs
	Links       int64 // further names of files
	Bytes       int64 // of content written
	Right       int64 // files found to be right already
	Kept        int64 // files in the target left alone by KeepExisting

	Failed   Findings // not restored
	Skipped  Findings // not restored on purpose: devices
	Warnings []Warning
}

// Complete reports whether everything asked for is in the target.
func (r RestoreReport) Complete() bool { return r.Failed.Count == 0 }

// Warning is something that could not be restored of many files, which are there otherwise: owners,
// for one who is not root.
type Warning struct {
	What  string // what failed and why
	Count int64
	First string // path of the first file
}
