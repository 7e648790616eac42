package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
)

var testKey = [32]byte{1, 2, 3}

var errAbsent = errors.New("no such node")

// memory stores nodes by content, as a repository does, and counts what is asked of it.
type memory struct {
	nodes map[blob.Ref]blob.Node
	added []blob.Ref // each distinct node once, in the order of storing
	loads int
}

func newMemory() *memory { return &memory{nodes: map[blob.Ref]blob.Node{}} }

func (s *memory) WriteNode(_ context.Context, class blob.Class, n blob.Node) (blob.Ref, error) {
	h := sha256.New()
	for _, l := range n.Links {
		h.Write([]byte{byte(l.Class)})
		h.Write(l.ID[:])
	}
	h.Write(n.Body)
	ref := blob.Ref{Class: class, ID: blob.ID(h.Sum(nil))}
	if _, known := s.nodes[ref]; !known {
		s.nodes[ref] = blob.Node{Links: slices.Clone(n.Links), Body: slices.Clone(n.Body)}
		s.added = append(s.added, ref)
	}
	return ref, nil
}

func (s *memory) ReadNode(_ context.Context, ref blob.Ref) (blob.Node, error) {
	s.loads++
	n, ok := s.nodes[ref]
	if !ok {
		return blob.Node{}, errAbsent
	}
	return n, nil
}

// build stores the map of entries, with nodes of the given target.
func build(t testing.TB, s Saver, target uint64, entries []Entry) Root {
	t.Helper()
	b := &Builder{saver: s, cutter: newCutter(testKey, target)}
	for _, e := range entries {
		if err := b.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	root, err := b.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// collect reads a whole sequence.
func collect[T any](t testing.TB, seq func(func(T, error) bool)) (out []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// cluster returns n entries like those of a cluster's objects, in order: values of about 60 bytes of
// which 20 cannot be compressed, and references to a bundle of bodies and one of states, each
// shared by some dozens of neighbours.
func cluster(seed uint64, n int) []Entry {
	rng := rand.New(rand.NewPCG(seed, 0))
	kinds := []string{
		"apps/deployments", "apps/replicasets", "batch/jobs", "configmaps", "discovery.k8s.io/endpointslices",
		"pods", "rbac.authorization.k8s.io/rolebindings", "rbac.authorization.k8s.io/roles", "secrets", "services",
	}
	names := []string{"api", "auth", "cache", "cron", "db", "mail", "proxy", "queue", "web", "worker"}
	keys := map[string]bool{}
	for len(keys) < n {
		keys[fmt.Sprintf("%s/ns-%d/%s-%04x", kinds[rng.IntN(len(kinds))], rng.IntN(50),
			names[rng.IntN(len(names))], rng.IntN(1<<16))] = true
	}
	entries := make([]Entry, 0, n)
	for i, k := range slices.Sorted(maps.Keys(keys)) {
		e := Entry{Key: []byte(k)}
		setContent(rng, &e, 0, i)
		entries = append(entries, e)
	}
	return entries
}

// setContent gives an entry contents that were the i-th to be bundled in some run.
func setContent(rng *rand.Rand, e *Entry, run, i int) {
	random := make([]byte, 18) // a UID and part of a resourceVersion
	for j := range random {
		random[j] = byte(rng.Uint32())
	}
	e.Value = fmt.Appendf(random, "%04d body %d+%d state %d+%d", rng.IntN(10000), i%60*2200, 2200, i%90*1400, 1400)
	e.Value = append(e.Value, make([]byte, max(0, 60-len(e.Value)))...)
	e.Refs = []blob.Ref{bundle("body", run, i/60), bundle("state", run, i/90)}
	e.Bytes = 1500 + rng.Uint64N(3000)
}

func bundle(stream string, run, i int) blob.Ref {
	return blob.Ref{Class: blob.Data, ID: sha256.Sum256(fmt.Append(nil, stream, run, i))}
}

// plain returns n small entries with keys that count up.
func plain(n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = Entry{Key: fmt.Appendf(nil, "key-%08d", i), Value: fmt.Appendf(nil, "value %d", i), Bytes: uint64(i)}
	}
	return entries
}
