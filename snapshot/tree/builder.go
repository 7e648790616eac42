package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
)

// Builder makes a map of a stream of entries in ascending order. It keeps one unfinished node for
// each level, whatever the number of entries. It is not safe for concurrent use.
type Builder struct {
	saver  Saver
	cutter *cutter
	levels []*unfinished
	last   []byte // the key added last
	failed error  // a map with a hole must not be finished
}

// unfinished is the last node of a level, which may still grow.
type unfinished struct {
	enc    *encoder
	sums   child  // what the parent will say of it; its ref is not known yet
	size   int    // entries in it
	weight uint64 // and their weight
	sole   child  // the last child added, the root if it stays alone
	stored bool   // the level has earlier nodes
}

// NewBuilder returns a builder that stores nodes in s and cuts them with cutKey, which must be the
// same for all maps that are to share nodes.
func NewBuilder(s Saver, cutKey [32]byte) *Builder {
	return &Builder{saver: s, cutter: newCutter(cutKey, targetWeight)}
}

// Add appends an entry. Its key must come after those added before, or the error is [ErrOrder]; an
// entry that is too large is [ErrLimit]. The entry may be reused after the return. After an error
// the builder only repeats it.
func (b *Builder) Add(ctx context.Context, e Entry) error {
	if b.failed == nil {
		b.failed = b.add(ctx, e)
	}
	return b.failed
}

// Finish stores what is unfinished and returns the root of the map. The builder cannot be used again.
func (b *Builder) Finish(ctx context.Context) (Root, error) {
	if b.failed != nil {
		return Root{}, b.failed
	}
	b.failed = errors.New("the map is finished")
	for l := 0; l < len(b.levels); l++ { // grows while it is walked
		u := b.levels[l]
		if !u.stored && u.size == 1 && l > 0 {
			return u.sole.root(l), nil // a level of one child adds nothing to that child
		}
		if u.size == 0 {
			continue
		}
		c, err := b.store(ctx, l)
		if err != nil {
			return Root{}, err
		}
		if l == len(b.levels)-1 {
			return c.root(l + 1), nil
		}
		if err := b.addChild(ctx, l+1, c); err != nil {
			return Root{}, err
		}
	}
	return Root{}, nil
}

func (c child) root(height int) Root {
	return Root{Ref: c.ref, Count: c.count, Bytes: c.bytes, Height: height}
}

func (b *Builder) add(ctx context.Context, e Entry) error {
	if len(e.Key) == 0 || len(e.Key) > MaxKey || len(e.Value) > MaxValue || len(e.Refs) > MaxRefs {
		return fmt.Errorf("add an entry with a key of %d bytes, a value of %d and %d references: %w",
			len(e.Key), len(e.Value), len(e.Refs), ErrLimit)
	}
	if bytes.Compare(e.Key, b.last) <= 0 {
		return fmt.Errorf("add %q after %q: %w", e.Key, b.last, ErrOrder)
	}
	b.last = append(b.last[:0], e.Key...)
	b.level(0).enc.entry(e)
	return b.grow(ctx, 0, child{first: e.Key, count: 1, bytes: e.Bytes}, entryWeight(e))
}

// addChild appends a stored node to the level above its own.
func (b *Builder) addChild(ctx context.Context, level int, c child) error {
	if level >= MaxHeight {
		return fmt.Errorf("add %q: a map has at most %d levels: %w", c.first, MaxHeight, ErrLimit)
	}
	u := b.level(level)
	u.enc.child(c)
	u.sole = c
	return b.grow(ctx, level, c, childWeight(c))
}

// grow accounts for an entry just encoded and ends the node if it is time.
func (b *Builder) grow(ctx context.Context, level int, c child, weight uint64) (err error) {
	u := b.levels[level]
	if u.size == 0 {
		u.sums.first = append(u.sums.first[:0], c.first...)
	}
	u.size++
	u.weight += weight
	if u.sums.count, err = add(u.sums.count, c.count); err != nil {
		return fmt.Errorf("add %q: %w", c.first, err)
	}
	if u.sums.bytes, err = add(u.sums.bytes, c.bytes); err != nil {
		return fmt.Errorf("add %q: %w", c.first, err)
	}
	// A level must have fewer nodes than the one beneath, or there would never be a root.
	if (level > 0 && u.size < 2) || !b.cutter.ends(level, c.first, weight, u.weight) {
		return nil
	}
	done, err := b.store(ctx, level)
	if err != nil {
		return err
	}
	return b.addChild(ctx, level+1, done)
}

// store saves the unfinished node of a level and begins another.
func (b *Builder) store(ctx context.Context, level int) (child, error) {
	u := b.levels[level]
	ref, err := b.saver.WriteNode(ctx, blob.Tree, u.enc.node())
	if err != nil {
		return child{}, fmt.Errorf("store tree node of level %d at %q: %w", level, u.sums.first, err)
	}
	c := u.sums
	c.ref = ref
	*u = unfinished{enc: newEncoder(level), stored: true}
	return c, nil
}

// level returns the unfinished node of a level, which is at most one above the highest so far.
func (b *Builder) level(level int) *unfinished {
	if level == len(b.levels) {
		b.levels = append(b.levels, &unfinished{enc: newEncoder(level)})
	}
	return b.levels[level]
}
