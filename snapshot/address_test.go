package snapshot

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAddressLeadsToItsKey(t *testing.T) {
	tests := []struct{ text, volume, key string }{
		{"", "", ""},
		{"objects", "", ""},
		{"objects/apps", "", "apps"},
		{"objects/core/pods", "", "\x00pods"},
		{"objects/apps/deployments/shop/web", "", "apps\x00deployments\x00shop\x00web"},
		{"objects/core/nodes/_cluster/n1", "", "\x00nodes\x00\x00n1"},
		{"volumes", "", ""},
		{"volumes/data", "data", ""},
		{"volumes/data/etc/core/_cluster", "data", "etc\x00core\x00_cluster"},
	}
	for _, tc := range tests {
		a, err := ParseAddress("/" + tc.text + "/")
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if a.String() != tc.text || a.Volume() != tc.volume || string(a.Key()) != tc.key {
			t.Errorf("%q is read as %q, volume %q, key %q", tc.text, a, a.Volume(), a.Key())
		}
	}
	for _, bad := range []string{"apps", "objects//pods", "objects/a/b/c/d/e", "volumes/v/a//b", "volumes/v/a\x00b", "object"} {
		if a, err := ParseAddress(bad); err == nil {
			t.Errorf("%q is read as %q", bad, a)
		}
	}
}

func TestKeysComeBackAsAddresses(t *testing.T) {
	for _, text := range []string{"objects/core/nodes/_cluster/n1", "objects/apps/deployments/shop/web"} {
		a := ok[Address](t)(ParseAddress(text))
		if got := ObjectAddress(a.Key()); got.String() != text {
			t.Errorf("%s comes back as %s", text, got)
		}
	}
	a := ok[Address](t)(ParseAddress("volumes/data/etc/passwd"))
	if got := FileAddress("data", a.Key()); got.String() != a.String() {
		t.Errorf("%s comes back as %s", a, got)
	}
}

// shop is a small snapshot; keys are written with slashes for zero bytes.
func shop() run {
	return run{
		objects: map[string]string{
			"/pods/shop/web-1": "p1", "/pods/shop/web-2": "p2", "/nodes//n1": "n1",
			"apps/deployments/shop/web": "d1", "apps/deployments/shop-2/web": "d2", "apps/statefulsets/shop/db": "s1",
		},
		files: map[string]map[string]string{
			"data": {".": "root", "etc": "dir", "etc/a": "1", "etc/b": "dir", "etc/b/c": "2", "etc-x": "3", "etc\x01": "4", "f": "5"},
			"logs": {".": "root"},
		},
	}
}

func TestChildrenListsOneLevel(t *testing.T) {
	s := backup(t, newRepository(t), shop())
	tests := map[string]string{
		"":                               "objects/ volumes/",
		"objects":                        "core/ apps/",
		"objects/core":                   "nodes/ pods/",
		"objects/core/nodes":             "_cluster/",
		"objects/core/nodes/_cluster":    "n1",
		"objects/core/pods/shop":         "web-1 web-2",
		"objects/apps/deployments":       "shop/ shop-2/",
		"objects/apps/deployments/shop":  "web",
		"objects/apps/deployments/none":  "",
		"objects/apps/deployments/shop/": "web",
		"volumes":                        "data/ logs/",
		"volumes/data":                   ". etc etc\x01 etc-x f",
		"volumes/data/etc":               "a b",
		"volumes/data/etc/b":             "c",
		"volumes/data/f":                 "",
	}
	for text, want := range tests {
		a := ok[Address](t)(ParseAddress(text))
		var got []string
		for item, err := range s.Children(t.Context(), a) {
			if err != nil {
				t.Fatal(err)
			}
			name := item.Name
			if item.Entry == nil {
				name += "/"
			} else if e := ok[Address](t)(ParseAddress(item.Address.String())); string(item.Entry.Key) != string(e.Key()) {
				t.Errorf("%q has the entry %q", item.Address, item.Entry.Key)
			}
			if !strings.HasSuffix(item.Address.String(), item.Name) {
				t.Errorf("%q is at %q", item.Name, item.Address)
			}
			got = append(got, name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q has %q, want %q", text, got, want)
		}
	}
	for item, err := range s.Children(t.Context(), Address{[]string{"volumes", "none"}}) {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("a volume that is not there has %v, %v", item, err)
		}
	}
}

func TestLookup(t *testing.T) {
	s := backup(t, newRepository(t), shop())
	for text, want := range map[string]string{
		"objects/core/nodes/_cluster/n1": "n1", "objects/apps/statefulsets/shop/db": "s1", "volumes/data/etc/b/c": "2", "volumes/data/etc": "dir",
	} {
		e, err := s.Lookup(t.Context(), ok[Address](t)(ParseAddress(text)))
		if err != nil || string(e.Value) != want {
			t.Errorf("%s is %q, %v", text, e.Value, err)
		}
	}
	for _, text := range []string{"objects/apps", "objects", "volumes", "", "volumes/none/x", "volumes/data/none"} {
		if e, err := s.Lookup(t.Context(), ok[Address](t)(ParseAddress(text))); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q is %q, %v", text, e.Value, err)
		}
	}
}

func TestDiffTellsWhatDiffersWhere(t *testing.T) {
	r := newRepository(t)
	before := backup(t, r, shop())
	in := shop()
	in.objects["apps/deployments/shop/web"] = "changed"
	delete(in.objects, "/pods/shop/web-1")
	in.files["data"]["etc/b/d"] = "new"
	in.files["data"]["etc-x"] = "changed"
	delete(in.files, "logs")
	in.files["more"] = map[string]string{".": "root"}
	after := backup(t, r, in)

	all := []string{
		"- objects/core/pods/shop/web-1", "~ objects/apps/deployments/shop/web",
		"+ volumes/data/etc/b/d", "~ volumes/data/etc-x", "- volumes/logs/.", "+ volumes/more/.",
	}
	tests := []struct {
		within string
		want   []string
	}{
		{"", all},
		{"objects", all[:2]},
		{"objects/apps", all[1:2]},
		{"objects/apps/deployments/shop/web", all[1:2]},
		{"objects/apps/deployments/sho", nil},
		{"volumes", all[2:]},
		{"volumes/data", all[2:4]},
		{"volumes/data/etc", all[2:3]},
		{"volumes/logs", all[4:5]},
		{"volumes/more", all[5:]},
	}
	for _, tc := range tests {
		var got []string
		for c, err := range Diff(t.Context(), before, after, ok[Address](t)(ParseAddress(tc.within))) {
			if err != nil {
				t.Fatal(err)
			}
			sign := "~"
			if c.Old == nil {
				sign = "+"
			} else if c.New == nil {
				sign = "-"
			}
			got = append(got, fmt.Sprintf("%s %s", sign, c.Address))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%q: %s", tc.within, diff)
		}
	}
	for c, err := range Diff(t.Context(), before, before, Address{}) {
		t.Errorf("a snapshot differs from itself in %v, %v", c.Address, err)
	}
	count := 0
	for _, err := range Diff(t.Context(), before, after, Address{[]string{"volumes", "none"}}) {
		if count++; !errors.Is(err, ErrNotFound) {
			t.Errorf("a volume that neither has: %v", err)
		}
	}
	if count != 1 {
		t.Errorf("a volume that neither has: %d answers", count)
	}
	for range Diff(t.Context(), before, after, Address{}) {
		break // must not go on
	}
}

// Whatever a user types is refused or is an address that is written as it was read, and an address of
// objects leads to a key that comes back as that address.
func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{"", "/objects/core/nodes/_cluster/n1/", "objects/apps/deployments/shop/web", "volumes/data/etc/../passwd", "volumes//", "x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err != nil {
			return
		}
		if again, err := ParseAddress(a.String()); err != nil || again.String() != a.String() || string(again.Key()) != string(a.Key()) {
			t.Errorf("%q is read as %q, which is read as %q, %v", text, a, again, err)
		}
		if a.InObjects() && a.depth() > 0 {
			if back := ObjectAddress(a.Key()); back.String() != a.String() {
				t.Errorf("%q has the key %q, which comes back as %q", a, a.Key(), back)
			}
		}
		if a.Volume() != "" && a.depth() > 0 {
			if back := FileAddress(a.Volume(), a.Key()); back.String() != a.String() {
				t.Errorf("%q has the key %q, which comes back as %q", a, a.Key(), back)
			}
		}
	})
}
