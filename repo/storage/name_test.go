package storage

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	long := strings.Repeat("a", maxSegment)
	for _, name := range []string{
		"a", "varve.json", "journal/0000000000000000", "packs/ab/ab12", "a/b/c/d", "-", "a.", "a..b", long, long + "/" + long,
	} {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v, want nil", name, err)
		}
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", ".hidden", "a/.tmp-1",
		"A", "a b", "a\x00", "a\n", "ä", "a_b", `a\b`, "a:b", "a%2f", long + "a", long + "/" + long + "/a",
	} {
		if err := CheckName(name); !errors.Is(err, ErrBadName) {
			t.Errorf("CheckName(%q) = %v, want ErrBadName", name, err)
		}
	}
}

func TestCheckPrefix(t *testing.T) {
	for _, prefix := range []string{"", "a", "packs/", "packs/ab", "a."} {
		if err := CheckPrefix(prefix); err != nil {
			t.Errorf("CheckPrefix(%q) = %v, want nil", prefix, err)
		}
	}
	for _, prefix := range []string{"/", ".", "../", "a//", "A", "a/."} {
		if err := CheckPrefix(prefix); !errors.Is(err, ErrBadName) {
			t.Errorf("CheckPrefix(%q) = %v, want ErrBadName", prefix, err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	f.Add("journal/0000000000000000")
	f.Add("../../etc/passwd")
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		if strings.HasPrefix(name, "/") || strings.ContainsAny(name, "\x00\\ ") || strings.Contains("/"+name, "/.") || len(name) > maxName {
			t.Errorf("accepted %q", name)
		}
	})
}
