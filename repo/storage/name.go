package storage

import (
	"fmt"
	"strings"
)

// maxName is the longest name in bytes. S3 takes 1,024, of which a prefix inside a shared bucket
// wants its part.
const maxName = 512

// maxSegment is the longest part of a name between two slashes: what file systems take.
const maxSegment = 255

// CheckName returns nil for a name that every store can hold, else an error that wraps [ErrBadName]
// and says what is wrong. A name is a relative path of one or more segments with slashes in between,
// at most 512 bytes long:
//
//	name    = segment *( "/" segment )
//	segment = ( "a"…"z" | "0"…"9" | "-" ) *254( "a"…"z" | "0"…"9" | "-" | "." )
//
// There are no upper-case letters, because some file systems cannot tell them apart, and no segment
// begins with a dot, so neither "." nor ".." is one and drivers have hidden names to themselves.
func CheckName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%w of %d bytes: longer than %d", ErrBadName, len(name), maxName)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if why := segmentFault(segment); why != "" {
			return fmt.Errorf("%w %q: %s", ErrBadName, name, why)
		}
	}
	return nil
}

// CheckPrefix returns nil if prefix is empty or the beginning of some name, else an error that wraps
// [ErrBadName].
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if err := CheckName(prefix + "x"); err != nil {
		return fmt.Errorf("prefix %q: %w", prefix, err)
	}
	return nil
}

func segmentFault(segment string) string {
	switch {
	case segment == "":
		return "empty segment"
	case segment[0] == '.':
		return "segment begins with a dot"
	case len(segment) > maxSegment:
		return fmt.Sprintf("segment longer than %d bytes", maxSegment)
	}
	for _, c := range []byte(segment) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return fmt.Sprintf("character %q", c)
		}
	}
	return ""
}
