package repo

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// An index segment as it is stored, under the hash of these bytes:
//
//	label (16) │ sealed under the catalog key by the label: length (4) │ segment │ zeros
//
// The zeros bring the object to a Padmé size. The segment itself is laid out by package index.

const labelSize = 16

func sealSegment(keys *seal.Keys, plain []byte) []byte { return sealSegmentAgain(keys, plain, 0) }

// sealSegmentAgain gives a segment another name than it had so many times before, by more padding.
func sealSegmentAgain(keys *seal.Keys, plain []byte, more int) []byte {
	bare := labelSize + seal.Overhead + 4 + len(plain)
	for ; more > 0; more-- {
		bare = seal.Padded(bare) + 1
	}
	padded := make([]byte, 0, seal.Padded(bare)-labelSize-seal.Overhead)
	padded = binary.LittleEndian.AppendUint32(padded, uint32(len(plain)))
	padded = append(padded, plain...)
	padded = append(padded, make([]byte, cap(padded)-len(padded))...)
	label := keys.SegmentLabel(padded)
	return append(label[:], keys.SealCatalog(seal.Segment, hex.EncodeToString(label[:]), padded)...)
}

func openSegment(keys *seal.Keys, sealed []byte) ([]byte, error) {
	if len(sealed) < labelSize {
		return nil, fmt.Errorf("%d bytes are too few: %w", len(sealed), seal.ErrOpen)
	}
	padded, err := keys.OpenCatalog(seal.Segment, hex.EncodeToString(sealed[:labelSize]), sealed[labelSize:])
	if err != nil {
		return nil, err
	}
	if len(padded) < 4 || int64(binary.LittleEndian.Uint32(padded)) > int64(len(padded)-4) {
		return nil, fmt.Errorf("segment is longer than its object: %w", seal.ErrOpen)
	}
	return padded[4 : 4+binary.LittleEndian.Uint32(padded)], nil
}

// storeSegment stores the segment that new packs call for, or returns nil.
func (r *Repository) storeSegment(ctx context.Context, added []journal.Added) (g *gathered, stored int64, err error) {
	g, plain, err := r.gather(added)
	if err != nil || g == nil {
		return nil, 0, err
	}
	if g.info, err = r.putSegment(ctx, plain); err != nil {
		return nil, 0, err
	}
	return g, g.info.Size, nil
}

// putSegment stores a segment. The same tables give the same name, which may have been given up, or under
// which something else may lie: damaged bytes, or what somebody has planted. That is not replaced; some more
// padding gives another name.
func (r *Repository) putSegment(ctx context.Context, plain []byte) (info journal.SegmentInfo, err error) {
	for more := 0; ; more++ {
		sealed := sealSegmentAgain(r.keys, plain, more)
		info = journal.SegmentInfo{Name: seal.HashOf(sealed), Size: int64(len(sealed))}
		givenUp := false
		r.journal.View(func(s *journal.State) { givenUp = s.IsGivenUp(info.Name) })
		if givenUp {
			continue
		}
		err := r.bucket.Create(ctx, journal.SegmentName(info.Name), sealed)
		if errors.Is(err, storage.ErrExists) {
			_, err = r.fetchSegment(ctx, info)
			if errors.Is(err, ErrDamaged) {
				continue
			}
		}
		if err != nil {
			return info, fmt.Errorf("store index segment: %w", err)
		}
		return info, nil
	}
}

// gathered is a new segment, and the packs whose tables are in it.
type gathered struct {
	info  journal.SegmentInfo
	packs map[blob.Hash]bool
}

// gather makes a segment of the tables of new packs and of all loose ones, when there are enough of
// them, and its bytes. It returns nil when they may stay where they are.
func (r *Repository) gather(added []journal.Added) (*gathered, []byte, error) {
	var tables []index.Table
	rows := 0
	add := func(name blob.Hash, encoded []byte) error {
		decoded, err := blob.DecodeRows(encoded)
		if err != nil {
			return fmt.Errorf("table of pack %s: %w", name.Short(), err)
		}
		tables = append(tables, index.Table{Pack: name, Entries: decoded})
		rows += len(decoded)
		return nil
	}
	for _, a := range added {
		if err := add(a.Name, a.Rows); err != nil {
			return nil, nil, err
		}
	}
	var err error
	r.journal.View(func(s *journal.State) {
		for _, p := range s.Packs {
			if len(p.Rows) > 0 && err == nil {
				err = add(p.Name, p.Rows)
			}
		}
	})
	if err != nil || rows < r.limits.Loose {
		return nil, nil, err
	}
	plain, err := index.EncodeSegment(tables)
	if err != nil {
		return nil, nil, fmt.Errorf("make index segment: %w", err)
	}
	g := &gathered{packs: map[blob.Hash]bool{}}
	for _, t := range tables {
		g.packs[t.Pack] = true
	}
	return g, plain, nil
}
