//go:build headers

// Package headers keeps the module that carries miniaudio.h among the dependencies.
package headers

import _ "github.com/gen2brain/malgo"
