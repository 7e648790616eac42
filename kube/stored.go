package kube

import (
	"fmt"
	"maps"
	"strings"
)

// Stored is an object as a snapshot keeps it: two canonical JSON texts and the attributes.
//
//   - Body is what a person wrote or cares about: apiVersion, kind, metadata without the fields below,
//     spec, data and all the rest.
//   - State is what moves by itself: status, metadata.generation and metadata.managedFields. It is
//     empty when the object has none of them.
//
// metadata.resourceVersion stands in the attributes, so that a write which changes nothing else stores
// no content at all.
type Stored struct {
	Attributes Attributes
	Body       []byte
	State      []byte
}

// stateFields are the fields of metadata that move by themselves.
var stateFields = []string{"generation", "managedFields"}

// Store splits an object. Joined again by [Stored.Object] it is the same JSON value, whatever odd
// shapes its fields have.
func Store(o Object) (Stored, error) {
	body, state := Object{}, Object{}
	maps.Copy(body, o)
	if status, ok := body["status"]; ok {
		state["status"] = status
		delete(body, "status")
	}
	var s Stored
	if metadata, ok := o["metadata"].(map[string]any); ok {
		kept, moved := make(map[string]any, len(metadata)), map[string]any{}
		maps.Copy(kept, metadata)
		for _, field := range stateFields {
			if value, ok := kept[field]; ok {
				moved[field] = value
				delete(kept, field)
			}
		}
		if s.Attributes.ResourceVersion, _ = kept["resourceVersion"].(string); s.Attributes.ResourceVersion != "" {
			delete(kept, "resourceVersion")
		}
		s.Attributes.UID, _ = kept["uid"].(string)
		body["metadata"] = kept
		if len(moved) > 0 {
			state["metadata"] = moved
		}
	}
	s.Attributes.Version = o.APIVersion()[strings.LastIndex(o.APIVersion(), "/")+1:]
	var err error
	if s.Body, err = Canonical(body); err != nil {
		return Stored{}, fmt.Errorf("write down the body of an object: %w", err)
	}
	s.State = []byte{}
	if len(state) > 0 {
		if s.State, err = Canonical(state); err != nil {
			return Stored{}, fmt.Errorf("write down the state of an object: %w", err)
		}
	}
	return s, nil
}

// Object joins the parts again.
func (s Stored) Object() (Object, error) {
	o, err := Decode(s.Body)
	if err != nil {
		return nil, fmt.Errorf("read the body of an object: %w", err)
	}
	metadata, _ := o["metadata"].(map[string]any)
	if len(s.State) > 0 {
		state, err := Decode(s.State)
		if err != nil {
			return nil, fmt.Errorf("read the state of an object: %w", err)
		}
		moved := state.Map("metadata")
		if moved != nil && metadata == nil {
			return nil, fmt.Errorf("read the state of an object: it has metadata and the body has none")
		}
		maps.Copy(metadata, moved)
		if status, ok := state["status"]; ok {
			o["status"] = status
		}
	}
	if s.Attributes.ResourceVersion != "" {
		if metadata == nil {
			return nil, fmt.Errorf("read the body of an object: it has a resourceVersion and no metadata")
		}
		metadata["resourceVersion"] = s.Attributes.ResourceVersion
	}
	return o, nil
}
