package kube

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func TestKeysRoundTripAndSortLikeTheirWords(t *testing.T) {
	sorted := []Key{
		{Resource: "configmaps", Namespace: "a", Name: "x"},
		{Resource: "configmaps", Namespace: "a-b", Name: "a"}, // the API server's order has it before a/x
		{Resource: "namespaces", Name: "a"},
		{Group: "apps", Resource: "deployments", Namespace: "a", Name: "x"},
		{Group: "rbac.authorization.k8s.io", Resource: "clusterroles", Name: "system:node"},
	}
	var keys [][]byte
	for _, want := range sorted {
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseKey(b)
		if err != nil || got != want {
			t.Errorf("ParseKey(%q) = %v, %v, want %v", b, got, err, want)
		}
		keys = append(keys, b)
	}
	if !slices.IsSortedFunc(keys, bytes.Compare) {
		t.Errorf("keys are not in order: %q", keys)
	}
	if !slices.IsSortedFunc(sorted, Key.Compare) {
		t.Error("Compare orders keys in another way than their bytes")
	}
}

func TestKeyRefusesWhatIsNone(t *testing.T) {
	for _, k := range []Key{
		{},
		{Resource: "pods"},
		{Name: "x"},
		{Resource: "pods", Namespace: "a\x00b", Name: "x"},
		{Resource: "pods", Name: string(bytes.Repeat([]byte("x"), maxKey))},
	} {
		if b, err := k.Encode(); !errors.Is(err, ErrKey) {
			t.Errorf("%+v encodes to %q, %v, want %v", k, b, err, ErrKey)
		}
	}
	for _, b := range []string{"", "pods", "\x00pods\x00\x00", "\x00\x00\x00x", "\x00pods\x00a\x00x\x00", "\x00pods\x00x"} {
		if k, err := ParseKey([]byte(b)); !errors.Is(err, ErrKey) {
			t.Errorf("ParseKey(%q) = %v, %v, want %v", b, k, err, ErrKey)
		}
	}
}

func TestPrefixEndsAtAWord(t *testing.T) {
	key, err := Key{Resource: "pods", Namespace: "a-b", Name: "x"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.HasPrefix(key, Prefix("", "pods", "a")) {
		t.Error("an object of namespace a-b lies under the prefix of namespace a")
	}
	if !bytes.HasPrefix(key, Prefix("", "pods", "a-b")) || !bytes.HasPrefix(key, Prefix("", "pods")) {
		t.Error("an object lies outside its own prefixes")
	}
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("apps\x00deployments\x00shop\x00web"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			t.Skip()
		}
		if again, err := k.Encode(); err != nil || !bytes.Equal(b, again) {
			t.Errorf("%q parses to %+v, which encodes to %q, %v", b, k, again, err)
		}
	})
}
