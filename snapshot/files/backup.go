package files

import (
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
)

// Source is a folder to be backed up.
type Source struct {
	Root string // its path
}

// ChangeDetection says when a file counts as unchanged since the parent.
type ChangeDetection uint8

const (
	// Strict compares type, size, mtime, ctime and inode. Nobody but the kernel sets a ctime, and no
	// file is read before its ctime has passed, so on the volume itself this misses no change.
	Strict ChangeDetection = iota
	// ByMtime compares type, size and mtime, for sources that are copies, such as volumes made from
	// snapshots by drivers that copy files. Changes of extended attributes alone are missed.
	ByMtime
	// ByContent trusts no attribute and reads every file.
	ByContent
)

var detectionNames = [...]string{Strict: "strict", ByMtime: "mtime", ByContent: "content"}

// String returns the word for the way, as it stands on a command line.
func (c ChangeDetection) String() string {
	if int(c) < len(detectionNames) {
		return detectionNames[c]
	}
	return fmt.Sprintf("change detection(%d)", uint8(c))
}

// ParseChangeDetection reads "strict", "mtime" or "content".
func ParseChangeDetection(s string) (ChangeDetection, error) {
	for c, name := range detectionNames {
		if s == name {
			return ChangeDetection(c), nil
		}
	}
	return 0, fmt.Errorf("change detection %q: must be strict, mtime or content", s)
}

// Options say how to back up. The zero value is good.
type Options struct {
	ChangeDetection ChangeDetection
	Events          Events
	Parallel        int // files read at the same time; 0 means two per CPU
	// Lost tells blobs of the parent that are lost, or have something lost beneath them: a file that relies
	// on one is read again, whatever its attributes say. Nil where nothing is lost.
	Lost func(blob.Ref) bool
}

// Report is what a backup found.
type Report struct {
	Files       int64 // regular files, one for each name
	Directories int64
	Symlinks    int64
	Specials    int64 // FIFOs and devices
	Bytes       int64 // sizes of all regular files; a file with several names counts once
	Read        int64 // files whose content was read
	ReadBytes   int64

	Changed    Findings // stored, but changed while they were read: maybe neither old nor new
	Vanished   Findings // not stored: gone, or replaced by something else, between listing and opening
	Unreadable Findings // not stored, or not wholly: without its extended attributes, or what is in it
	Skipped    Findings // not stored: sockets, and what belongs to another file system
}

// Complete reports whether everything that belongs to the source is in the map.
func (r Report) Complete() bool { return r.Unreadable.Count == 0 }

// SmallFile is the size in bytes up to which files are laid into bundles.
const SmallFile = 32 << 10

// stream names the bundles of small files.
const stream = "file"
