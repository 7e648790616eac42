package kube

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Key names one object of a cluster, and its place in a snapshot's map.
//
//	group 0x00 resource 0x00 namespace 0x00 name
//
// The group is empty for the core kinds, the namespace for objects of the whole cluster; the resource
// is the plural that stands in URLs. None of the four ever holds a zero byte, so the bytes sort like
// the four words and every key has one reading.
type Key struct {
	Group, Resource, Namespace, Name string
}

// maxKey bounds a key: a resource and its group have at most 253 bytes each, a namespace 63, a name 253.
const maxKey = 4 << 10

// ErrKey means that bytes or words are not the key of an object.
var ErrKey = errors.New("not the key of an object")

// Encode returns the key's bytes.
func (k Key) Encode() ([]byte, error) {
	if k.Resource == "" || k.Name == "" {
		return nil, fmt.Errorf("%w: %s: resource and name may not be empty", ErrKey, k)
	}
	b := append(Prefix(k.Group, k.Resource, k.Namespace), k.Name...)
	if len(b) > maxKey || bytes.Count(b, []byte{0}) != 3 {
		return nil, fmt.Errorf("%w: %q", ErrKey, b)
	}
	return b, nil
}

// ParseKey reads what [Key.Encode] wrote.
func ParseKey(b []byte) (Key, error) {
	if len(b) > maxKey {
		return Key{}, fmt.Errorf("%w: %d bytes", ErrKey, len(b))
	}
	words := strings.Split(string(b), "\x00")
	if len(words) != 4 || words[1] == "" || words[3] == "" {
		return Key{}, fmt.Errorf("%w: %q", ErrKey, b)
	}
	return Key{Group: words[0], Resource: words[1], Namespace: words[2], Name: words[3]}, nil
}

// Prefix returns the bytes that the keys of a group begin with, or of one resource in it, or of one
// namespace of that resource, depending on how many words follow the group.
func Prefix(group string, words ...string) []byte {
	b := append([]byte(group), 0)
	for _, word := range words {
		b = append(append(b, word...), 0)
	}
	return b
}

// GroupResource returns the resource as filters and messages name it: deployments.apps, pods.
func (k Key) GroupResource() string {
	if k.Group == "" {
		return k.Resource
	}
	return k.Resource + "." + k.Group
}

// String returns the key for messages: deployments.apps/shop/web, or clusterroles.rbac.authorization.k8s.io/admin.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.GroupResource() + "/" + k.Name
	}
	return k.GroupResource() + "/" + k.Namespace + "/" + k.Name
}

// Compare orders keys as their bytes are ordered.
func (k Key) Compare(o Key) int {
	if c := k.compareKind(o); c != 0 {
		return c
	}
	if c := strings.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}

func (k Key) compareKind(o Key) int {
	if c := strings.Compare(k.Group, o.Group); c != 0 {
		return c
	}
	return strings.Compare(k.Resource, o.Resource)
}
