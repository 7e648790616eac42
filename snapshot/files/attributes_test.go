package files

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sampleAttributes() []Attributes {
	at := func(sec, nsec int64) time.Time { return time.Unix(sec, nsec).UTC() }
	return []Attributes{
		{Type: Regular, Mode: 0o7777, UID: math.MaxUint32, GID: 70000, Mtime: at(-1, 1), Ctime: at(1<<40, 999_999_999),
			Inode: math.MaxUint64, Links: 3, Size: math.MaxInt64, Link: "a/b c/\xff",
			Xattrs: []Xattr{{"user.a", nil}, {"user.b", []byte{0, 1}}}},
		{Type: Directory, Mode: 0o755, Mtime: at(0, 0), Ctime: at(0, 0)},
		{Type: Symlink, Target: "../x", Mtime: at(1, 0), Ctime: at(2, 0)},
		{Type: FIFO, Mtime: at(1, 0), Ctime: at(2, 0)},
		{Type: BlockDevice, Device: Device{8, math.MaxUint32}, Mtime: at(1, 0), Ctime: at(2, 0)},
	}
}

func TestAttributesRoundTrip(t *testing.T) {
	for _, a := range sampleAttributes() {
		got, err := DecodeAttributes(a.Encode())
		if err != nil {
			t.Errorf("%v: %v", a.Type, err)
		}
		for i, x := range got.Xattrs {
			if len(x.Value) == 0 {
				got.Xattrs[i].Value = nil
			}
		}
		if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", a.Type, diff)
		}
	}
}

func TestDecodeAttributesRefusesOtherEncodings(t *testing.T) {
	good := sampleAttributes()[1].Encode()
	with := func(change func(*Attributes)) []byte {
		a := sampleAttributes()[2]
		change(&a)
		return a.Encode()
	}
	for name, b := range map[string][]byte{
		"nothing":                     nil,
		"a byte too many":             append(bytes.Clone(good), 0),
		"no type":                     append([]byte{0}, good[1:]...),
		"a socket":                    append([]byte{7}, good[1:]...),
		"a longer number":             append([]byte{0x82, 0}, good[1:]...),
		"a mode of thirteen bits":     with(func(a *Attributes) { a.Mode = 0o10000 }),
		"a link to nothing":           with(func(a *Attributes) { a.Target = "" }),
		"a link with a zero byte":     with(func(a *Attributes) { a.Target = "a\x00b" }),
		"a link that is too long":     with(func(a *Attributes) { a.Target = strings.Repeat("a", 4096) }),
		"a hard link out of the tree": with(func(a *Attributes) { a.Type, a.Link = Regular, "../a" }),
		"a hard link to the root":     with(func(a *Attributes) { a.Type, a.Link = Regular, "\x00" }),
		"attributes out of order":     with(func(a *Attributes) { a.Xattrs = []Xattr{{Name: "b"}, {Name: "a"}} }),
		"an attribute twice":          with(func(a *Attributes) { a.Xattrs = []Xattr{{Name: "a"}, {Name: "a"}} }),
		"an attribute without name":   with(func(a *Attributes) { a.Xattrs = []Xattr{{}} }),
		"attributes announced":        append(bytes.Clone(good[:len(good)-1]), 0xff, 0xff, 0xff, 0xff, 0x0f),
		"a time beyond all times":     with(func(a *Attributes) { a.Mtime = time.Unix(1<<56, 0) }),
	} {
		if a, err := DecodeAttributes(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	for i := range good {
		if _, err := DecodeAttributes(good[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut off after %d bytes: %v", i, err)
		}
	}
}

func FuzzDecodeAttributes(f *testing.F) {
	for _, a := range sampleAttributes() {
		f.Add(a.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := DecodeAttributes(b)
		if err == nil && !bytes.Equal(a.Encode(), b) {
			t.Errorf("%x was decoded, and encodes as %x", b, a.Encode())
		}
	})
}

func TestKeys(t *testing.T) {
	for path, want := range map[string]string{".": "\x00", "a": "a", "a/b.c/d": "a\x00b.c\x00d", "..a/ b": "..a\x00 b"} {
		key, err := Key(path)
		if err != nil || string(key) != want {
			t.Errorf("key of %q is %q, %v", path, key, err)
		}
		if back, err := Path(key); back != path {
			t.Errorf("path of %q is %q, %v", key, back, err)
		}
	}
	for _, path := range []string{"", "/", "/a", "a/", "a//b", "..", "a/..", "./a", "a/./b", "a\x00b", strings.Repeat("n", 256),
		strings.Repeat("a/", maxDepth) + "a"} {
		if key, err := Key(path); err == nil {
			t.Errorf("path %.20q has the key %.20q", path, key)
		}
	}
	for _, key := range []string{"", "\x00\x00", "\x00a", "a\x00", "a\x00\x00b", "a/b", "/", ".", "..", "a\x00..\x00b"} {
		if path, err := Path([]byte(key)); !errors.Is(err, ErrMalformed) {
			t.Errorf("key %q has the path %q, %v", key, path, err)
		}
	}
}

// FuzzPath checks that no key leads out of the tree, and that keys and paths are one to one.
func FuzzPath(f *testing.F) {
	for _, key := range []string{"\x00", "a\x00b", "..", "a\x00..", "a/b", "a\x00"} {
		f.Add([]byte(key))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		path, err := Path(key)
		if err != nil || path == "." {
			return
		}
		if strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../") || strings.ContainsRune(path, 0) {
			t.Errorf("key %q leads to %q", key, path)
		}
		if back, err := Key(path); err != nil || !bytes.Equal(back, key) {
			t.Errorf("key %q is the path %q, whose key is %q, %v", key, path, back, err)
		}
	})
}
