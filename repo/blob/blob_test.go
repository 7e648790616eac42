package blob

import (
	"errors"
	"strings"
	"testing"
)

func TestTextOfIDIsOneToOne(t *testing.T) {
	id := ID{0: 0xab, 31: 0x01}
	text := id.String()
	got, err := ParseID(text)
	if err != nil || got != id {
		t.Fatalf("ParseID(%q) = %v, %v; want the ID back", text, got, err)
	}
	for reason, bad := range map[string]string{
		"upper case is a second spelling": strings.ToUpper(text),
		"too short":                       text[:63],
		"too long":                        text + "0",
		"not hexadecimal":                 "g" + text[1:],
		"empty":                           "",
	} {
		if _, err := ParseID(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("%s: ParseID(%q) = %v, want ErrBadName", reason, bad, err)
		}
	}
}

func TestOnlyTreesAndManifestsHaveLinks(t *testing.T) {
	want := map[Class]bool{Data: false, Tree: true, Secrets: false, Manifest: true}
	for _, c := range Classes {
		if !c.Valid() || c.HasLinks() != want[c] {
			t.Errorf("%v: valid %v, links %v; want valid and %v", c, c.Valid(), c.HasLinks(), want[c])
		}
	}
	if Class(0).Valid() || Class(5).Valid() {
		t.Error("a class without a name is valid")
	}
}
