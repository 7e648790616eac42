package kube

import (
	"context"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Entry is an object's entry in a snapshot's map, taken apart: what is known without reading contents,
// and where those are.
type Entry struct {
	Key         Key
	Attributes  Attributes
	Body, State content.Ref
}

// IsSecret reports whether the object is a Secret, which is stored under keys of its own.
func (k Key) IsSecret() bool { return k.Group == "" && k.Resource == "secrets" }

// NewItem makes the item of a snapshot's map that keeps an object. A part that is given in kept stays
// where it is in the repository.
func NewItem(k Key, s Stored, keptBody, keptState *content.Ref) (content.Item, error) {
	key, err := k.Encode()
	if err != nil {
		return content.Item{}, err
	}
	item := content.Item{Key: key, Attrs: s.Attributes.Encode(), Bytes: uint64(len(s.Body) + len(s.State))}
	body := content.Piece{Stream: "body", Class: blob.Data, Data: s.Body, Kept: keptBody}
	state := content.Piece{Stream: "state", Class: blob.Data, Data: s.State, Kept: keptState}
	if k.IsSecret() { // the state as well: its managed fields name the keys of the data
		body.Stream, body.Class = "secret", blob.Secrets
		state.Stream, state.Class = "secret state", blob.Secrets
	}
	for _, piece := range []*content.Piece{&body, &state} {
		if piece.Kept != nil {
			piece.Data = nil
		}
	}
	item.Contents = []content.Piece{body, state}
	return item, nil
}

// ParseEntry takes an entry of a snapshot's map apart.
func ParseEntry(e tree.Entry) (Entry, error) {
	key, err := ParseKey(e.Key)
	if err != nil {
		return Entry{}, err
	}
	attributes, contents, err := content.DecodeEntry(e)
	if err != nil {
		return Entry{}, err
	}
	if len(contents) != 2 {
		return Entry{}, fmt.Errorf("%s has %d contents instead of body and state", key, len(contents))
	}
	a, err := ParseAttributes(attributes)
	if err != nil {
		return Entry{}, fmt.Errorf("%s: %w", key, err)
	}
	return Entry{Key: key, Attributes: a, Body: contents[0], State: contents[1]}, nil
}

// Read reads the object's parts.
func (e Entry) Read(ctx context.Context, r *content.Reader) (Stored, error) {
	body, err := r.ReadAll(ctx, e.Body)
	if err != nil {
		return Stored{}, fmt.Errorf("read the body of %s: %w", e.Key, err)
	}
	state, err := r.ReadAll(ctx, e.State)
	if err != nil {
		return Stored{}, fmt.Errorf("read the state of %s: %w", e.Key, err)
	}
	return Stored{Attributes: e.Attributes, Body: body, State: state}, nil
}

// Object reads the object as the API server returned it.
func (e Entry) Object(ctx context.Context, r *content.Reader) (Object, error) {
	stored, err := e.Read(ctx, r)
	if err != nil {
		return nil, err
	}
	o, err := stored.Object()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Key, err)
	}
	return o, nil
}
