package kube

import (
	"bytes"
	"errors"
	"testing"
)

func TestAttributesRoundTrip(t *testing.T) {
	tests := map[string]struct {
		attributes Attributes
		size       int
	}{
		"usual":           {Attributes{"0f8fad5b-d9cb-469f-a165-70867728950e", "4711", "v1"}, 1 + 16 + 2 + 3},
		"nothing":         {Attributes{}, 4},
		"upper case uid":  {Attributes{"0F8FAD5B-D9CB-469F-A165-70867728950E", "1", "v1"}, 1 + 37 + 1 + 3},
		"leading zero":    {Attributes{"", "0123", ""}, 1 + 1 + 5 + 1},
		"largest number":  {Attributes{"", "18446744073709551615", ""}, 1 + 1 + 10 + 1},
		"beyond a number": {Attributes{"", "18446744073709551616", ""}, 1 + 1 + 21 + 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := test.attributes.Encode()
			got, err := ParseAttributes(b)
			if err != nil || got != test.attributes {
				t.Errorf("round trip gives %+v, %v, want %+v", got, err, test.attributes)
			}
			if len(b) != test.size {
				t.Errorf("%d bytes %x, want %d", len(b), b, test.size)
			}
		})
	}
}

func TestAttributesRefuseOtherBytes(t *testing.T) {
	good := Attributes{"0f8fad5b-d9cb-469f-a165-70867728950e", "4711", "v1"}.Encode()
	for n := range good {
		if _, err := ParseAttributes(good[:n]); !errors.Is(err, ErrAttributes) {
			t.Errorf("the first %d bytes: %v, want %v", n, err, ErrAttributes)
		}
	}
	for name, b := range map[string][]byte{
		"something follows":    append(bytes.Clone(good), 0),
		"unknown flag":         append([]byte{4}, good[1:]...),
		"number as text":       {0, 0, 1, '7', 0},
		"number in long form":  {numberFlag, 0, 0x87, 0x00, 0},
		"length without bytes": {0, 0xff, 0xff, 0xff, 0xff, 0x0f},
	} {
		if a, err := ParseAttributes(b); !errors.Is(err, ErrAttributes) {
			t.Errorf("%s: %+v, %v, want %v", name, a, err, ErrAttributes)
		}
	}
}

func FuzzAttributes(f *testing.F) {
	f.Add(Attributes{"0f8fad5b-d9cb-469f-a165-70867728950e", "4711", "v1"}.Encode())
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAttributes(b)
		if err != nil {
			t.Skip()
		}
		if again := a.Encode(); !bytes.Equal(b, again) {
			t.Errorf("%x parses to %+v, which encodes to %x", b, a, again)
		}
	})
}
