package command

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestEncodedValuesCannotMoveTheCursor(t *testing.T) {
	want := map[string]any{"\x1b[2J": "csi \u009b31m", "rtl \u202e": "tag \U000e0041", "plain <ü>": []any{"a\nb", "\x7f"}}
	for _, f := range []format{asJSON, asYAML} {
		text, err := encoded(want, f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(string(text), func(r rune) bool { return r != '\n' && unprintable(r) }) {
			t.Errorf("unprintable: %q", text)
		}
		if !strings.Contains(string(text), "plain <ü>") {
			t.Errorf("escaped more than it must: %s", text)
		}
		var got map[string]any
		if f == asJSON {
			err = json.Unmarshal(text, &got)
		} else {
			err = yaml.Unmarshal(text, &got)
		}
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v %s", err, d)
		}
	}
}
