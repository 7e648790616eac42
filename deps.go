//go:build deps

// Package varve pins the libraries of rooms that are still to be built, so that the versions of all of
// them are decided together: controller-runtime has to agree with client-go.
// No build has the tag; an import moves from here into the room that needs it.
package varve

import (
	_ "sigs.k8s.io/controller-runtime" // controller: reconcilers
)
