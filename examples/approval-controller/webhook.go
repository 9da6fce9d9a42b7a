package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// How old a delivery may be, or how far in the future. Pilotage sets a new timestamp at each attempt.
const tolerance = 5 * time.Minute

// Keys verify deliveries by Standard Webhooks. In production use a library from https://www.standardwebhooks.com. This code is written
// out so that the example has no dependencies.
type Keys struct {
	keys [][]byte
}

// ReadKeys reads the keys of a file: one, or several with white space between them while a key is exchanged.
func ReadKeys(path string) (*Keys, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseKeys(string(text))
}

// ParseKeys reads keys in the form whsec_<base64>.
func ParseKeys(text string) (*Keys, error) {
	var keys Keys
	for _, word := range strings.Fields(text) {
		rest, found := strings.CutPrefix(word, "whsec_")
		key, err := base64.StdEncoding.DecodeString(rest)
		if !found || err != nil || len(key) < 24 {
			return nil, errors.New("a signing key is whsec_ and at least 24 bytes in base64")
		}
		keys.keys = append(keys.keys, key)
	}
	if len(keys.keys) == 0 {
		return nil, errors.New("there is no signing key")
	}
	return &keys, nil
}

// Verify reports whether a delivery is recent and signed with one of the keys.
func (k *Keys) Verify(header http.Header, body []byte, now time.Time) error {
	id, stamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if id == "" || err != nil {
		return errors.New("it has no webhook-id or webhook-timestamp")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("%s is of %s ago", id, age.Round(time.Second))
	}
	for _, signature := range strings.Fields(header.Get("webhook-signature")) {
		encoded, found := strings.CutPrefix(signature, "v1,")
		given, err := base64.StdEncoding.DecodeString(encoded)
		if !found || err != nil {
			continue
		}
		for _, key := range k.keys {
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%s.%s.", id, stamp)
			mac.Write(body)
			if hmac.Equal(given, mac.Sum(nil)) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s has no valid signature", id)
}
