package copies

import (
	"bytes"
	"context"
	"fmt"

	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
)

// sums keeps the digests of the objects. They are keyed, so those of the source say nothing here; those
// of the parent's copy are corrected by what differs.
type sums struct {
	reader  *content.Reader // of the source
	key     [32]byte        // the destination's, for "digest"
	digests *snapshot.Digests
}

// change is what one object changes in the digests of a scope.
type change struct {
	scope     string
	old, next *snapshot.Sum // nil: nothing to take out, or to add
}

// of returns what an object changes. What only has another resourceVersion changes nothing.
func (s *sums) of(ctx context.Context, key []byte, next, old []content.Ref) (c change, err error) {
	if c.scope, err = scope(key); err != nil {
		return c, err
	}
	if len(next) == len(old) && len(next) == 2 && next[0].Equal(old[0]) && next[1].Equal(old[1]) {
		return c, nil
	}
	if c.old, err = s.one(ctx, key, old); err != nil {
		return c, err
	}
	c.next, err = s.one(ctx, key, next)
	return c, err
}

// one digests the object with these contents, if there is one.
func (s *sums) one(ctx context.Context, key []byte, contents []content.Ref) (*snapshot.Sum, error) {
	if contents == nil {
		return nil, nil
	}
	if len(contents) != 2 {
		return nil, fmt.Errorf("%d contents instead of body and state: %w", len(contents), snapshot.ErrMalformed)
	}
	body, err := s.reader.ReadAll(ctx, contents[0])
	if err != nil {
		return nil, err
	}
	state, err := s.reader.ReadAll(ctx, contents[1])
	if err != nil {
		return nil, err
	}
	one := snapshot.NewHasher(s.key).Object(key, body, state)
	return &one, nil
}

// take corrects the digests.
func (s *sums) take(c change) error {
	if c.old != nil {
		if err := s.digests.Remove(c.scope, *c.old); err != nil {
			return err
		}
	}
	if c.next != nil {
		s.digests.Add(c.scope, *c.next)
	}
	return nil
}

// scope is the beginning of an object's key that says the kind and the namespace.
func scope(key []byte) (string, error) {
	end := 0
	for range 3 {
		i := bytes.IndexByte(key[end:], 0)
		if i < 0 {
			return "", fmt.Errorf("it has no key of an object: %w", snapshot.ErrMalformed)
		}
		end += i + 1
	}
	return string(key[:end]), nil
}
